"""A whole training step (zero_grad, forward, cross-entropy, backward, SGD with momentum) or a forward pass beside PyTorch's.

Both start from the same weights. Loss and gradients of the first step (the output, without training) are compared with those of
PyTorch in float64 before anything is timed: no form of either side may be wrong by more than a few times what PyTorch's eager
float32 is wrong by. Both sides run in several forms (eager, captured, compiled...), each in a process of its own; the fastest of
each then take turns.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES
from benchmarks.measure import Timing, geometric_mean
from benchmarks.peers import EXACT, OURS, Form, Side, SideFailed, peer_forms

# Relative error (2-norm) of a gradient or an output against float64: this much is rounding anywhere ...
_ROUNDING = 1e-4
# ... and in a deep network a ReLU input within rounding of 0 falls on the wrong side, which batch normalisation of a network that
# has not been trained amplifies: PyTorch's two layouts then differ by several per cent from each other. Winograd's convolution,
# with 1e-6 to 4e-6 in a layer against 3e-7, may flip more of them.
_TIMES_PEER = 8.0


class Sides:
    """What the forms of one case have in common: where they run, and how wrong their first results may be."""

    def __init__(self, case: str, folder: Path, threads: int, inference: bool, autocast: bool) -> None:
        self.case, self.folder, self.threads, self.inference, self.autocast = case, folder, threads, inference, autocast
        self.images = CASES[case].batch(np.random.default_rng(0))[0].ndim == 4
        self.peers = peer_forms(self.images, inference)
        with self.open("pydl", "eager", OURS["eager"]):  # writes the weights
            with self.open("PyTorch", "float64", EXACT) as exact:
                exact.ask("write", file=str(exact.first))
            with self.open("PyTorch", "eager", self.peers["eager"]) as eager:
                self.limit = max(_ROUNDING, _TIMES_PEER * eager.check()["worst"])

    def open(self, side: str, name: str, form: Form) -> Side:
        return Side(f"{self.case}, {side} {name}", self.case, form, self.folder, self.threads, self.inference,
                    self.autocast)

    def check(self, side: Side) -> dict[str, Any]:
        found = side.check()
        if not found["worst"] <= self.limit:
            raise SideFailed(f"{side.name}: {found['where']} is wrong by {found['worst']:.2g} (relative, against float64); "
                             f"{self.limit:.2g} is allowed")  # fmt: skip
        return found

    def attempt(self, side: str, forms: dict[str, Form]) -> tuple[dict[str, Any], dict[str, str]]:
        """Name -> {"seconds", "warm_up", "worst"...} of the forms that work, and name -> reason of those that do not."""
        tried: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for name, form in forms.items():
            try:
                with self.open(side, name, form) as process:
                    tried[name] = self.check(process)
                    tried[name]["seconds"] = sorted(_warm(process, 3))[1]
            except SideFailed as reason:
                if name == "eager":
                    raise
                tried.pop(name, None)
                failed[name] = str(reason)
            _tell(self.case, side, name, tried, failed)
        return tried, failed


def _tell(case: str, side: str, name: str, tried: dict[str, Any], failed: dict[str, str]) -> None:
    """A sign of life of each form."""
    text = f"not used: {failed[name]}" if name in failed else (
        f"{1e3 * tried[name]['seconds']:.3g} ms after a warm-up of {tried[name]['warm_up']:.2g} s")  # fmt: skip
    print(f"    {case}, {side} {name}: {text}", file=sys.stderr, flush=True)


def chosen(forms: dict[str, Form], names: Collection[str]) -> dict[str, Form]:
    """The forms of one side that were asked for; if none of its forms was named, all."""
    return {n: f for n, f in forms.items() if n in names} or forms


def measure(case: str, threads: int, rounds: int, inference: bool, autocast: bool, names: Collection[str]) -> dict[str, Any]:
    """One case: both sides in all of their forms, and then each in its fastest, in turns."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            sides = Sides(case, Path(folder), threads, inference, autocast)
            forms = {"pydl": chosen(OURS, names), "peer": chosen(sides.peers, names)}
            found = {s: sides.attempt("PyTorch" if s == "peer" else s, f) for s, f in forms.items()}
            best = {s: min(tried, key=lambda n, t=tried: t[n]["seconds"]) for s, (tried, _) in found.items() if tried}
            if len(best) < 2:
                raise SideFailed(f"{case}: no form of one side works: {found}")
            with (
                sides.open("pydl", best["pydl"], forms["pydl"][best["pydl"]]) as ours,
                sides.open("PyTorch", best["peer"], forms["peer"][best["peer"]]) as theirs,
            ):
                kept = [sides.check(side).get("compiler", 0) for side in (ours, theirs)]
                times = _in_turns([ours, theirs], rounds)
                memory = [side.ask("memory") for side in (ours, theirs)]
        except SideFailed as reason:
            raise SystemExit(f"{reason}; nothing was timed") from None
    return {
        "case": case, "ratio": times[1].median / times[0].median, "best": best, "pydl": times[0]._asdict(),
        "peer": times[1]._asdict(), "tried": {s: tried for s, (tried, _) in found.items()},
        "failed": {s: failed for s, (_, failed) in found.items()}, "memory": _by_side(memory, "peak"),
        "faults": _by_side(memory, "faults"), "compiler": dict(zip(best, kept, strict=True)), "threads": threads,
        "inference": inference, "autocast": autocast, "rounds": rounds, "forms": sorted(names),
    }  # fmt: skip


def _by_side(answers: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return {"pydl": answers[0][key], "peer": answers[1][key]}


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


def run(cases: list[str], threads: int, rounds: int, inference: bool, autocast: bool,
        forms: Collection[str]) -> Iterator[dict[str, Any]]:
    """The cases one after the other: a long run shows what it has."""
    for case in cases:
        yield measure(case, threads, rounds, inference, autocast, forms)


def table(rows: list[dict[str, Any]], title: str) -> Any:
    """Rows as a table, the means below, and under it why forms failed."""
    from rich.table import Table

    reasons = {reason for row in rows for failed in row["failed"].values() for reason in failed.values()}
    made = Table("case", "pydl, ms", "its best of", "PyTorch, ms", "its best of", "speed", "memory, MB", "share", title=title,
                 caption="\n".join(f"not used: {r}" for r in sorted(reasons)) or None)  # fmt: skip
    for row in rows:
        mine, peer = row["memory"]["pydl"], row["memory"]["peer"]
        made.add_row(row["case"], _span(row["pydl"]), _tried(row, "pydl"), _span(row["peer"]), _tried(row, "peer"),
                     f"{row['ratio']:.2f}x", f"{mine / 1e6:.0f} / {peer / 1e6:.0f}", f"{mine / max(peer, 1):.2f}x")  # fmt: skip
    means = geometric_mean([r["ratio"] for r in rows]), geometric_mean([share(r) for r in rows])
    made.add_section()
    made.add_row("geometric mean", "", "", "", "", f"{means[0]:.2f}x", "", f"{means[1]:.2f}x")
    return made


def markdown(rows: list[dict[str, Any]], title: str) -> str:
    """The rows as a table for the README, with the chosen form of each side."""
    lines = [f"| {title} | pydl, ms | its form | PyTorch, ms | its form | speed | memory |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        sides = (f"{milliseconds(r[s]['median'])} | {r['best'][s]}" for s in ("pydl", "peer"))
        lines.append(f"| {r['case']} | {' | '.join(sides)} | {r['ratio']:.2f}x | {share(r):.2f}x |")
    speed, memory = geometric_mean([r["ratio"] for r in rows]), geometric_mean([share(r) for r in rows])
    lines.append(f"| geometric mean of the {len(rows)} | | | | | {speed:.2f}x | {memory:.2f}x |")
    return "\n".join(lines) + "\n"


def milliseconds(seconds: float) -> str:
    """Three digits, and no exponent."""
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def share(row: dict[str, Any]) -> float:
    """pydl's peak memory as a share of PyTorch's."""
    return max(row["memory"]["pydl"], 1) / max(row["memory"]["peer"], 1)


def _tried(row: dict[str, Any], side: str) -> str:
    """The chosen form first, then the others, with their milliseconds; the warm-up where it takes seconds."""
    best, tried = row["best"][side], row["tried"][side]
    cells = []
    for name in sorted(tried, key=lambda n: (n != best, tried[n]["seconds"])):
        t = tried[name]
        late = f" (after {t['warm_up']:.0f} s)" if t["warm_up"] > max(5, 20 * t["seconds"]) else ""
        cells.append(f"{name} {milliseconds(t['seconds'])}{late}")
    return ", ".join([*cells, *(f"{n} failed" for n in row["failed"][side])])


def _span(t: dict[str, float]) -> str:
    return f"{milliseconds(t['median'])} [{milliseconds(t['low'])}, {milliseconds(t['high'])}]"
