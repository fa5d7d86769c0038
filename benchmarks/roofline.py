"""How far a training step is from what the machine allows, and which operations the rest of the time belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pydl
from benchmarks.profiling import training
from benchmarks.steps import milliseconds
from pydl import profiler

_SHOWN = 3  # operations with the most time above their least


def run(cases: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """For each case the recorded step of median length, beside limits that are measured in the same minute."""
    for name in cases:
        step = training(name)
        for _ in range(3):
            step()
        limits = profiler.machine_limits(refresh=True)
        recorded = []
        for _ in range(rounds):
            with profiler.profile() as p:
                step()
            p.result.measured = limits
            recorded.append(p.result)
        result = sorted(recorded, key=lambda r: r.seconds)[len(recorded) // 2]
        total = result.total()
        above = sorted(result.by_op(), key=lambda row: row.least - row.wall)[:_SHOWN]
        yield {"case": name, "seconds": result.seconds, "least": total.least, "flops": total.flops, "bytes": total.bytes,
               "python": total.python, "waiting": total.waiting, "gflops": limits.peak, "bandwidth": limits.bandwidth,
               "threads": pydl.get_num_threads(), "above": [(row.name, row.wall, row.least) for row in above]}  # fmt: skip


_COLUMNS = ("case", "step, ms", "least, ms", "share", "GFLOP/s, GB/s", "Python, ms", "most above their least (ms, least)")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    above = ", ".join(f"{name} ({milliseconds(wall)}, {milliseconds(least)})" for name, wall, least in row["above"])
    return (row["case"], milliseconds(row["seconds"]), milliseconds(row["least"]), f"{row['least'] / row['seconds']:.0%}",
            f"{row['gflops']:.0f}, {row['bandwidth']:.0f}", milliseconds(row["python"]), above)  # fmt: skip


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    shown = Table(*_COLUMNS, title=f"{title}: training steps beside the least time that the machine's limits allow")
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def markdown(rows: list[dict[str, Any]]) -> str:
    """The same table for a document."""
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
