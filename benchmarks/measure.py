"""Timing on a machine that is shared and noisy: alternate, take medians, compare ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Seconds of one run: the median, and the quartiles as a measure of the noise."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{1e3 * self.median:.3g} ms [{1e3 * self.low:.3g}, {1e3 * self.high:.3g}]"


def alternate(
    runs: Mapping[str, Callable[[], object]], rounds: int = 9, warm_up: int = 2, least_seconds: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time several functions in turns, so that a busy moment of the machine hits all of them alike.

    A function that is faster than `least_seconds` is repeated within a turn until it takes about that long. With
    ``clock=time.process_time`` on one thread the time that other programs had the processor does not count.
    """
    repeats = {}
    for name, run in runs.items():
        for _ in range(warm_up):
            run()
        started = clock()
        run()
        repeats[name] = max(1, int(least_seconds / max(clock() - started, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - started) / repeats[name])
    return {name: Timing(*np.percentile(values, [50, 25, 75]).tolist()) for name, values in seconds.items()}


def medians(functions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median of each function in milliseconds, taken in turns."""
    return [1e3 * t.median for t in alternate({str(i): f for i, f in enumerate(functions)}, rounds).values()]


def agree(ours: Any, theirs: Any, what: str, tolerance: float = 1e-4) -> None:
    """Leave with a message unless two arrays or tensors are equal within a relative 2-norm.

    In the 2-norm, because a ReLU input within rounding of 0 may fall on either side, which single elements show.
    """
    a, b = (np.asarray(t.detach().numpy() if hasattr(t, "detach") else t) for t in (ours, theirs))
    error, scale = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if not error <= tolerance * scale:
        raise SystemExit(f"{what}: relative difference {error / max(scale, 1e-30):.2g} to PyTorch; nothing was timed")


def geometric_mean(ratios: list[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")
