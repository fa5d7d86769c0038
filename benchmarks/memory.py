"""Peak memory of a step above that of the made model, and the page faults of a step that has nothing new, beside PyTorch's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import geometric_mean
from benchmarks.peers import OURS, Side, peer_forms


def run(cases: list[str], threads: int, inference: bool) -> Iterator[dict[str, Any]]:
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            forms = {"pydl": OURS["eager"], **{n: peer_forms(False, inference)[n] for n in ("eager", "huge-pages")}}
            found = {}
            for name, form in forms.items():
                with Side(name, case, form, Path(folder), threads, inference) as side:
                    found[name] = side.ask("memory")
        least = min(found["eager"]["peak"], found["huge-pages"]["peak"])
        yield {"case": case, "share": max(found["pydl"]["peak"], 1) / max(least, 1), "found": found}


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    names = ("case", "pydl, MB", "PyTorch, MB", "with huge pages, MB", "share of the least", "page faults of a step")
    made = Table(*names, title=title)
    for row in rows:
        found = row["found"]
        peaks = (f"{side['peak'] / 1e6:.1f}" for side in found.values())
        made.add_row(row["case"], *peaks, f"{row['share']:.2f}x", " / ".join(str(side["faults"]) for side in found.values()))
    made.add_section()
    made.add_row("geometric mean", "", "", "", f"{geometric_mean([r['share'] for r in rows]):.2f}x", "")
    return made
