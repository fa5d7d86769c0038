"""Attention: checks the results, then times forward and backward beside PyTorch and shows how memory grows.

Times are medians of runs in turns, in milliseconds: pydl, PyTorch, ratio. GFLOP/s count the products of the full (or
causal) matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from benchmarks.measure import agree, medians
from pydl import nn
from pydl.ops import scaled_dot_product_attention

HEADS, WIDTH = 8, 512
CASES = ((8, 64), (4, 512), (1, 2048))  # batch, positions


def product(torch: Any, batch: int, positions: int, causal: bool, rounds: int) -> str:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((batch, HEADS, positions, WIDTH // HEADS)).astype(np.float32) for _ in range(4)]
    mine = [pydl.tensor(a, requires_grad=True) for a in arrays[:3]]
    peer = [torch.tensor(a, requires_grad=True) for a in arrays[:3]]
    g, h = pydl.tensor(arrays[3]), torch.tensor(arrays[3])
    attend = torch.nn.functional.scaled_dot_product_attention

    def our_forward() -> Any:
        with pydl.no_grad():
            return scaled_dot_product_attention(*mine, is_causal=causal)

    def their_forward() -> Any:
        with torch.no_grad():
            return attend(*peer, is_causal=causal)

    def our_step() -> Any:
        return pydl.autograd.grad(scaled_dot_product_attention(*mine, is_causal=causal), mine, g)

    def their_step() -> Any:
        return torch.autograd.grad(attend(*peer, is_causal=causal), peer, h)

    agree(our_forward().numpy(), their_forward().numpy(), "attention")
    for a, b in zip(our_step(), their_step(), strict=True):
        agree(a.numpy(), b.numpy(), "gradient of attention")
    ms = medians([our_forward, their_forward, our_step, their_step], rounds)
    flops = 4 * batch * positions**2 * WIDTH / (2 if causal else 1)
    name = f"product{', causal' if causal else ''}"
    return (f"{name:18} {batch:2} x {positions:4} | forward {ms[0]:8.2f} {ms[1]:8.2f} {ms[1] / ms[0]:5.2f}x "
            f"{flops / ms[0] / 1e6:5.0f} GFLOP/s | forward+backward {ms[2]:8.2f} {ms[3]:8.2f} {ms[3] / ms[2]:5.2f}x "
            f"{3.5 * flops / ms[2] / 1e6:5.0f} GFLOP/s")


def layer(torch: Any, name: str, batch: int, positions: int, rounds: int) -> str:
    if name == "MultiheadAttention":
        ours, theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), torch.nn.MultiheadAttention(
            WIDTH, HEADS, batch_first=True)
    else:
        options = {"dropout": 0.0, "batch_first": True}
        ours = nn.TransformerEncoderLayer(WIDTH, HEADS, 2048, **options)
        theirs = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 2048, **options)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((batch, positions, WIDTH)).astype(np.float32) for _ in range(2))
    a, b = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ga, gb = pydl.tensor(g), torch.tensor(g)

    def step(module: Any, x: Any, g: Any) -> Any:
        out = module(x, x, x, need_weights=False)[0] if name == "MultiheadAttention" else module(x)
        module.zero_grad()
        x.grad = None
        out.backward(g)
        return out

    agree(step(ours, a, ga).detach().numpy(), step(theirs, b, gb).detach().numpy(), name)
    agree(a.grad, b.grad, f"gradient of {name}", tolerance=1e-3)
    ms = medians([lambda: step(ours, a, ga), lambda: step(theirs, b, gb)], rounds)
    return f"{name:24} {batch:2} x {positions:4} | forward+backward {ms[0]:8.2f} {ms[1]:8.2f} {ms[1] / ms[0]:5.2f}x"


def peak(positions: int) -> float:
    """Peak bytes of a causal forward and backward beyond the inputs, in MB."""
    q, k, v = (pydl.randn(1, HEADS, positions, WIDTH // HEADS, requires_grad=True) for _ in range(3))
    before = pydl.memory.current()
    pydl.memory.reset_peak()
    scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
    return (pydl.memory.peak() - before) / 1e6


def run(rounds: int) -> None:
    import torch

    print(f"{HEADS} heads, width {WIDTH}")
    for batch, positions in CASES:
        for causal in (False, True):
            print(product(torch, batch, positions, causal, rounds), flush=True)
    for name in ("MultiheadAttention", "TransformerEncoderLayer"):
        for batch, positions in CASES:
            print(layer(torch, name, batch, positions, rounds), flush=True)
    print("peak memory of a causal step, MB:", ", ".join(f"T {n}: {peak(n):.1f}" for n in (512, 1024, 2048, 4096)))
