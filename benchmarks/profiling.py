"""What recording with `pydl.profiler` costs: training steps in turns, plain and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import pydl
from benchmarks.cases import CASES
from pydl import profiler

_SECONDS = 0.15  # of each turn, at least one step


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


def _timed(step: Callable[[], None], count: int) -> list[float]:
    """Seconds of each of so many steps, after one that finds the caches as the turn before has left them."""
    step()
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return seconds


def run(cases: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """The medians of all plain and of all recorded steps, with the call that ends each; the log is read after them."""
    for name in cases:
        step = training(name)
        for _ in range(3):
            step()
        started = time.perf_counter()
        step()
        count = max(1, int(_SECONDS / (time.perf_counter() - started)))
        plain: list[float] = []
        recorded: list[float] = []
        inside: list[float] = []
        accounted: list[float] = []
        for _ in range(rounds):
            plain += _timed(step, count)
            with profiler.profile() as p:
                step()
                p.step()
                for _ in range(count):
                    started = time.perf_counter()
                    step()
                    p.step()
                    recorded.append(time.perf_counter() - started)
            steps = p.result.steps[1:-1]
            inside += [(s.end - s.start - s.overhead) / 1e9 for s in steps]
            accounted.append(p.result.accounted)
        operations = sum(e.phase != "between" for e in p.result.events) / (count + 1)
        base, full = float(np.median(plain)), float(np.median(recorded))
        yield {"case": name, "ratio": full / base, "plain": base, "recorded": full, "rows": float(np.median(inside)),
               "accounted": float(np.median(accounted)), "operations": operations}  # fmt: skip


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    shown = Table(title=f"{title}: a training step, plain and while the profiler records it")
    for name in ("case", "operations", "plain ms", "recorded ms", "ratio", "an operation, us", "its rows / plain", "accounted %"):
        shown.add_column(name, justify="left" if name == "case" else "right")
    for r in rows:
        each = 1e6 * (r["recorded"] - r["plain"]) / max(r["operations"], 1)
        shown.add_row(
            r["case"], f"{r['operations']:.0f}", f"{1e3 * r['plain']:.3f}", f"{1e3 * r['recorded']:.3f}", f"{r['ratio']:.3f}",
            f"{each:+.2f}", f"{r['rows'] / r['plain']:.3f}", f"{100 * r['accounted']:.1f}",
        )  # fmt: skip
    return shown
