"""Recurrent layers: checks outputs and gradients, then times forward and forward with backward beside PyTorch.

Times are medians of runs in turns, in milliseconds: pydl, PyTorch, ratio. GFLOP/s count the matrix products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from benchmarks.measure import agree, medians
from pydl import nn
from pydl.ops.rnn import GATES

# kind, layers, bidirectional, steps, batch, inputs, hidden; the first two are those of the language models in the targets.
CASES = (
    ("LSTM", 2, False, 64, 32, 256, 512),
    ("GRU", 2, False, 64, 32, 256, 512),
    ("RNN", 2, False, 64, 32, 256, 512),
    ("LSTM", 1, False, 64, 32, 64, 128),
    ("GRU", 1, True, 20, 128, 128, 256),
    ("LSTM", 1, False, 64, 1, 128, 512),
)


def compare(torch: Any, kind: str, layers: int, both: bool, T: int, B: int, E: int, H: int, rounds: int) -> str:
    ours = getattr(nn, kind)(E, H, layers, bidirectional=both)
    theirs = getattr(torch.nn, kind)(E, H, layers, bidirectional=both)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng, D = np.random.default_rng(0), 2 if both else 1
    x, g = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (E, D * H))
    a, b = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ga, gb = pydl.tensor(g), torch.tensor(g)

    def our_forward() -> Any:
        with pydl.no_grad():
            return ours(a)[0]

    def their_forward() -> Any:
        with torch.no_grad():
            return theirs(b)[0]

    def step(layer: Any, x: Any, g: Any) -> None:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].backward(g)

    agree(our_forward(), their_forward(), kind)
    step(ours, a, ga)
    step(theirs, b, gb)
    for p, q in zip([a, *ours.parameters()], [b, *theirs.parameters()], strict=True):
        agree(p.grad, q.grad, f"gradient of {kind}")
    ms = medians([our_forward, their_forward, lambda: step(ours, a, ga), lambda: step(theirs, b, gb)], rounds)
    flops = sum(2 * T * B * D * GATES[ours.cell] * H * ((E if k == 0 else D * H) + H) for k in range(layers))
    name = f"{kind} {layers}{' both ways' * both} T{T} B{B} {E}->{H}"
    return (f"{name:34} | forward {ms[0]:7.2f} {ms[1]:7.2f} {ms[1] / ms[0]:5.2f}x {flops / ms[0] / 1e6:4.0f} GFLOP/s | "
            f"forward+backward {ms[2]:7.2f} {ms[3]:7.2f} {ms[3] / ms[2]:5.2f}x {3 * flops / ms[2] / 1e6:4.0f} GFLOP/s")


def run(rounds: int) -> None:
    import torch

    for case in CASES:
        print(compare(torch, *case, rounds), flush=True)
