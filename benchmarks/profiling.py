"""What recording with `pydl.profiler` costs: training steps in turns, plain and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import pydl
from benchmarks.cases import CASES
from pydl import profiler

_SECONDS = 0.15  # of each round of either kind, at least one step
_TURN = 0.01  # of these at a time


def training(name: str) -> Callable[[], None]:
    """A training step of a case."""
    build, batch, _ = CASES[name]
    pydl.manual_seed(0)
    model = build(pydl)
    x, y = (pydl.tensor(a) for a in batch(np.random.default_rng(0)))
    optimizer = pydl.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        pydl.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def _plain(step: Callable[[], None], count: int) -> list[float]:
    """Seconds of each of so many steps, after two that find the caches as the turn before has left them."""
    step()
    step()
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return seconds


def _recorded(step: Callable[[], None], count: int) -> tuple[list[float], profiler.Profile]:
    """The same while the profiler is on, with the call that ends each step; the log is read after them."""
    with profiler.profile() as p:
        step()
        p.step()
        step()
        p.step()
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            step()
            p.step()
            seconds.append(time.perf_counter() - started)
    return seconds, p.result


def run(cases: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """For each case the median of a step of either kind, and the median over all turns of the ratio of their medians."""
    for name in cases:
        step = training(name)
        for _ in range(3):
            step()
        started = time.perf_counter()
        step()
        seconds = time.perf_counter() - started
        count = max(1, int(_TURN / seconds))
        plain: list[list[float]] = []
        recorded: list[list[float]] = []
        inside: list[float] = []
        accounted: list[float] = []
        for _ in range(rounds * max(1, int(_SECONDS / (count * seconds)))):
            plain.append(_plain(step, count))
            times, result = _recorded(step, count)
            recorded.append(times)
            inside += [(s.end - s.start - s.overhead) / 1e9 for s in result.steps[2:-1]]
            accounted.append(result.accounted)
        operations = sum(e.phase != "between" for e in result.events) / (count + 2)
        base = float(np.median(plain))
        ratio = float(np.median([np.median(r) / np.median(p) for r, p in zip(recorded, plain, strict=True)]))
        yield {"case": name, "ratio": ratio, "plain": base, "recorded": float(np.median(recorded)),
               "rows": float(np.median(inside)), "accounted": float(np.median(accounted)), "operations": operations}  # fmt: skip


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    shown = Table(title=f"{title}: a training step, plain and while the profiler records it")
    for name in ("case", "operations", "plain ms", "recorded ms", "ratio", "its rows / plain", "accounted %"):
        shown.add_column(name, justify="left" if name == "case" else "right")
    for r in rows:
        shown.add_row(
            r["case"], f"{r['operations']:.0f}", f"{1e3 * r['plain']:.3f}", f"{1e3 * r['recorded']:.3f}", f"{r['ratio']:.3f}",
            f"{r['rows'] / r['plain']:.3f}", f"{100 * r['accounted']:.1f}",
        )  # fmt: skip
    return shown
