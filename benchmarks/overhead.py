"""What one small operation costs beside the arithmetic: 20 element-wise operations on 4 numbers, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from benchmarks.measure import alternate


def chain(x: Any) -> Any:
    """Ten multiplications and ten additions."""
    y = x
    for _ in range(10):
        y = y * x + x
    return y


def run(rounds: int) -> list[dict[str, Any]]:
    import torch

    data = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    ours, theirs = pydl.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    seed, peer_seed = pydl.ones(4), torch.ones(4)

    def step(x: Any, gradient: Any) -> None:
        x.grad = None
        chain(x).backward(gradient)

    step(ours, seed)
    step(theirs, peer_seed)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)
    times = alternate({"pydl": lambda: step(ours, seed), "PyTorch": lambda: step(theirs, peer_seed)}, rounds)
    for name, t in times.items():
        print(f"{name}: {1e6 * t.median:.1f} us for 20 operations, forward and backward")
    print(f"ratio: {times['PyTorch'].median / times['pydl'].median:.2f}x")
    return [{"case": "overhead", "seconds": {n: t._asdict() for n, t in times.items()}}]
