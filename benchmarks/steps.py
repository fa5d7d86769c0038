"""A whole training step (zero_grad, forward, cross-entropy, backward, SGD with momentum) or a forward pass beside PyTorch's.

Both start from the same weights. Loss and gradients of the first step (the output, without training) are compared with those of
PyTorch in float64 before anything is timed: pydl may be wrong by a few times what PyTorch's float32 is wrong by. PyTorch runs in
several configurations, each in a process of its own; its fastest one then takes turns with pydl.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES
from benchmarks.measure import Timing, geometric_mean
from benchmarks.peers import Side, configurations

# Relative error (2-norm) of a gradient or an output against float64: this much is rounding anywhere ...
_ROUNDING = 1e-4
# ... and in a deep network a ReLU input within rounding of 0 falls on the wrong side, which batch normalisation of a network that
# has not been trained amplifies: PyTorch's two layouts then differ by several per cent from each other. Winograd's convolution,
# with 1e-6 to 4e-6 in a layer against 3e-7, may flip more of them.
_TIMES_PEER = 6.0


def measure(case: str, threads: int, rounds: int, inference: bool, compiled: bool) -> dict[str, Any]:
    """One case: errors, times and memory of pydl and of PyTorch at its best, and the times of its other configurations."""
    image = CASES[case].batch(np.random.default_rng(0))[0].ndim == 4
    with tempfile.TemporaryDirectory() as name, Side("pydl", case, "pydl", folder := Path(name), threads, inference) as ours:
        with Side("PyTorch, float64", case, "torch", folder, threads, inference, ["float64"]) as exact:
            exact.ask("write", file=str(exact.first))
        error, where = ours.error()
        tried: dict[str, float] = {}
        errors: dict[str, float] = {}
        setups = configurations(image, inference, compiled)
        for peer, (options, environment) in setups.items():
            with Side(f"PyTorch, {peer}", case, "torch", folder, threads, inference, options, environment) as side:
                errors[peer] = side.error()[0]
                if not error <= max(_ROUNDING, _TIMES_PEER * errors["eager"]):
                    raise SystemExit(f"{case}: {where} is wrong by {error:.2g} (relative, against float64) in pydl and nothing "
                                     f"by more than {errors['eager']:.2g} in PyTorch; nothing was timed")  # fmt: skip
                tried[peer] = sorted(_warm(side, 3))[1]
        best = min(tried, key=lambda n: tried[n])
        with Side(f"PyTorch, {best}", case, "torch", folder, threads, inference, *setups[best]) as theirs:
            times = _in_turns([ours, theirs], rounds)
            memory = [side.ask("memory") for side in (ours, theirs)]
    ratio = times[1].median / times[0].median
    return {
        "case": case, "ratio": ratio, "best": best, "pydl": times[0]._asdict(), "peer": times[1]._asdict(), "tried": tried,
        "memory": {"pydl": memory[0]["peak"], "peer": memory[1]["peak"]}, "faults": {"pydl": memory[0]["faults"],
        "peer": memory[1]["faults"]}, "errors": {"pydl": error, **errors}, "threads": threads, "inference": inference,
    }  # fmt: skip


def _warm(side: Side, times: int, least: float = 0.05) -> list[float]:
    """Seconds of several runs, each long enough to measure, after one that does not count."""
    side.seconds(2)
    repeats = max(1, int(least / max(side.seconds(), 1e-6)))
    return [side.seconds(repeats) for _ in range(times)]


def _in_turns(sides: list[Side], rounds: int, least: float = 0.1) -> list[Timing]:
    """Alternate, so that a busy moment of the machine hits all of them alike."""
    repeats = []
    for side in sides:
        side.seconds(2)
        repeats.append(max(1, int(least / max(side.seconds(), 1e-6))))
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for i, side in enumerate(sides):
            seconds[i].append(side.seconds(repeats[i]))
    return [Timing(*np.percentile(s, [50, 25, 75]).tolist()) for s in seconds]


def run(cases: list[str], threads: int, rounds: int, inference: bool, compiled: bool) -> Iterator[dict[str, Any]]:
    """The cases one after the other: a long run shows what it has."""
    for case in cases:
        yield measure(case, threads, rounds, inference, compiled)


def table(rows: list[dict[str, Any]], title: str) -> Any:
    """Rows as a table, the means below."""
    from rich.table import Table

    made = Table("case", "pydl, ms", "PyTorch, ms", "its best of", "speed", "memory, MB", "share", title=title)
    for row in rows:
        others = ", ".join(f"{n} {1e3 * t:.3g}" for n, t in sorted(row["tried"].items(), key=lambda i: i[1]))
        mine, peer = row["memory"]["pydl"], row["memory"]["peer"]
        made.add_row(row["case"], _span(row["pydl"]), _span(row["peer"]), others, f"{row['ratio']:.2f}x",
                     f"{mine / 1e6:.0f} / {peer / 1e6:.0f}", f"{mine / max(peer, 1):.2f}x")  # fmt: skip
    means = geometric_mean([r["ratio"] for r in rows]), geometric_mean([share(r) for r in rows])
    made.add_section()
    made.add_row("geometric mean", "", "", "", f"{means[0]:.2f}x", "", f"{means[1]:.2f}x")
    return made


def share(row: dict[str, Any]) -> float:
    """pydl's peak memory as a share of PyTorch's."""
    return max(row["memory"]["pydl"], 1) / max(row["memory"]["peer"], 1)


def _span(t: dict[str, float]) -> str:
    return f"{1e3 * t['median']:.3g} [{1e3 * t['low']:.3g}, {1e3 * t['high']:.3g}]"
