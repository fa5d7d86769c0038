"""What the benchmarks leave behind: JSON with the machine, and a bar chart of the ratios."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import pydl
from benchmarks.measure import geometric_mean
from pydl import environment, profiler


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    found = environment.collect()
    try:
        from importlib.metadata import version

        peer = version("torch")
    except ImportError:
        peer = None
    return {"date": time.strftime("%Y-%m-%d"), "pydl": pydl.__version__, "torch": peer, "system": platform.platform(),
            "processor": found["system"]["processor"], "limits": profiler.machine_limits().as_dict()}  # fmt: skip


def save_json(path: Path, what: str, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(path.name + ".part")  # who stops the run meanwhile finds the file as it was
    whole.write_text(json.dumps({"benchmark": what, "machine": machine(), "rows": rows}, indent=1) + "\n")
    whole.replace(path)


def load_steps(path: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases that an earlier run of `steps` left in `path`; ends the program where they were not measured as `asked` now."""
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    here = machine()
    if found.get("benchmark") != "steps":
        raise SystemExit(f"{path} holds {found.get('benchmark')}, not steps: give another --json")
    for name in ("processor", "pydl", "torch"):
        if found["machine"][name] != here[name]:
            raise SystemExit(f"{path} was measured with {name} {found['machine'][name]}, here is {here[name]}: "
                             "give another --json, or leave --resume out")  # fmt: skip
    for row in found["rows"]:
        for name, wanted in asked.items():
            if row[name] != wanted:
                raise SystemExit(f"{path}: {row['case']} was measured with {name} = {row[name]}, asked is {wanted}: "
                                 "give another --json")  # fmt: skip
    return list(found["rows"])


def bars(path: Path, rows: list[dict[str, Any]], title: str) -> Path:
    """Speed beside PyTorch, one bar for each case or kernel; the line is PyTorch at its best."""
    from pydl.viz.plots import COLOURS, _finish, _style

    names = [r.get("case") or f"{r['kernel']}, {r['direction']}" for r in rows]
    ratios = [r["ratio"] for r in rows]
    if "case" in rows[0]:
        names, ratios = [*names, "geometric mean"], [*ratios, geometric_mean(ratios)]
    with _style("bars") as figures:
        figure = figures.Figure(figsize=(8.4, 1.1 + 0.3 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        colours = [COLOURS[0] if r >= 1 else COLOURS[1] for r in ratios]
        if "case" in rows[0]:
            colours[-1] = "#3c4856"
        axes.set_xscale("log", base=2)  # twice as fast and half as fast are equally far from 1
        drawn = axes.barh(range(len(names)), [r - 1 for r in ratios], left=1, color=colours, height=0.72)
        axes.bar_label(drawn, [f"{r:.2f}x" for r in ratios], padding=4)
        axes.axvline(1, color="#3c4856", linewidth=1.2)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(min([*ratios, 0.8]) * 0.8, max([*ratios, 1.2]) * 1.4)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}x")
        axes.set_xlabel("times as fast as PyTorch at its best (line: as fast)")
        axes.set_title(title, loc="left")
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        return _finish(figure, path)
