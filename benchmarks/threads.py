"""How a step gains from more threads: pydl and PyTorch (channels-last for images, fused optimizer) on 1, 2, 4... threads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES
from benchmarks.peers import OURS, Side, peer_forms
from benchmarks.steps import _in_turns


def run(cases: list[str], most: int, rounds: int, inference: bool) -> Iterator[dict[str, Any]]:
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < most] + [most]
    for case in cases:
        image = CASES[case].batch(np.random.default_rng(0))[0].ndim == 4
        peer = peer_forms(image, inference)["channels-last+huge-pages" if image else "huge-pages"]
        seconds: dict[str, list[float]] = {"pydl": [], "PyTorch": []}
        for n in counts:
            with (
                tempfile.TemporaryDirectory() as name,
                Side("pydl", case, OURS["eager"], folder := Path(name), n, inference) as ours,
                Side("PyTorch", case, peer, folder, n, inference) as theirs,
            ):
                for side, timing in zip(seconds, _in_turns([ours, theirs], rounds), strict=True):
                    seconds[side].append(timing.median)
        yield {"case": case, "threads": counts, "seconds": seconds}


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    counts = rows[0]["threads"] if rows else []
    made = Table("case", "", *(f"{n} thread{'s' if n > 1 else ''}, ms" for n in counts), "gain", title=title)
    for row in rows:
        for side, seconds in row["seconds"].items():
            cells = [row["case"] if side == "pydl" else "", side, *(f"{1e3 * s:.3g}" for s in seconds)]
            made.add_row(*cells, f"{seconds[0] / seconds[-1]:.2f}x")
    return made
