"""Pictures of a profile: the roofline, and memory over time (extra ``plot``)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pydl._extras import require
from pydl.errors import ArgumentError
from pydl.viz.plots import COLOURS, _finish, _style

if TYPE_CHECKING:
    from pydl.profiler.result import Profile

__all__ = ["memory", "roofline"]

Path_ = str | os.PathLike[str]


def roofline(profile: Profile, path: Path_ | None = None, title: str = "") -> Any:
    """Every operation as a point: operations per byte against GFLOP/s, under the measured limits.

    The area of a point is its share of the step; one colour for each kind of operation, hollow for backward. A point on the
    sloping line is limited by memory, on the flat one by arithmetic; above them, data came from a cache or an algorithm needs
    fewer operations than are counted.
    """
    points = [e for e in profile.events if e.flops > 0 and e.bytes > 0 and e.wall > 0]
    if not points:
        raise ArgumentError("profiler.roofline: no operation with FLOPs and bytes was recorded")
    require("matplotlib", "plot", "profiler.roofline")
    groups: dict[tuple[str, bool], list[Any]] = {}
    for e in points:
        groups.setdefault((e.name, e.phase == "backward"), []).append(e)
    slowest = sorted({n for n, _ in groups}, key=lambda n: -sum(e.wall for e in points if e.name == n))
    colours = {n: COLOURS[i] if i < len(COLOURS) else "#b9bec5" for i, n in enumerate(slowest)}
    whole = sum(e.wall for e in profile.events)
    with _style("roofline") as figures:
        figure = figures.Figure(figsize=(9, 5.6), layout="constrained")
        axes = figure.add_subplot()
        x = [e.flops / e.bytes for e in points]
        _limits(axes, profile, (min([*x, 0.1]), max([*x, 100.0])))
        for (name, backward), events in sorted(groups.items(), key=lambda g: slowest.index(g[0][0])):
            share = np.array([e.wall / whole for e in events])
            axes.scatter(
                [e.flops / e.bytes for e in events], [e.flops / e.wall for e in events], 18 + 4000 * share, alpha=0.75,
                facecolor="none" if backward else colours[name], edgecolor=colours[name], linewidth=1.1,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity, FLOP per byte", ylabel="GFLOP/s")
        axes.grid(True, which="major")
        axes.set_title(title or "operations under this machine's roofline", loc="left")
        shares = {n: sum(e.wall for e in points if e.name == n) / whole for n in slowest[: len(COLOURS)]}
        _legend(axes, shares, colours)
        return _finish(figure, path)


def _limits(axes: Any, profile: Profile, span: tuple[float, float]) -> None:
    limits = profile.limits
    low, high = span[0] / 2, span[1] * 3
    x = np.geomspace(low, high, 400)
    threads = f"{limits.threads} thread{'s' if limits.threads > 1 else ''}"
    axes.plot(x, np.minimum(limits.peak, x * limits.bandwidth), color="#3c4856", linewidth=1.8)
    label = f"{limits.peak:.0f} GFLOP/s, {limits.isa}, {threads}"
    axes.text(high, limits.peak * 1.08, label, ha="right", va="bottom", color="#3c4856")
    ridge = limits.peak / limits.bandwidth
    at = (low * max(ridge, 2 * low)) ** 0.5
    axes.annotate(f"{limits.bandwidth:.0f} GB/s", (at, at * limits.bandwidth), xytext=(-8, 4), textcoords="offset points",
                  ha="right", color="#3c4856")  # fmt: skip
    if limits.threads > 1:
        one = limits.fma[limits.isa][0], max(limits.read[0], limits.triad[0])
        axes.plot(x, np.minimum(one[0], x * one[1]), color="#8a929c", linewidth=1, linestyle=(0, (4, 3)))
        axes.text(high, one[0] / 1.1, f"{one[0]:.0f}, 1 thread", ha="right", va="top", color="#8a929c")
    axes.set_xlim(low, high)


def _legend(axes: Any, shares: dict[str, float], colours: dict[str, str]) -> None:
    lines = require("matplotlib.lines", "plot", "profiler.roofline")
    handles = [
        lines.Line2D([], [], linestyle="", marker="o", color=colours[n], markersize=7, label=f"{n}  {100 * share:.0f} %")
        for n, share in shares.items()
    ]
    handles.append(lines.Line2D([], [], linestyle="", marker="o", color="#3c4856", markerfacecolor="none", markersize=7,
                                label="hollow: backward"))  # fmt: skip
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), title="share of the step", alignment="left")


def memory(profile: Profile, path: Path_ | None = None, title: str = "") -> Any:
    """Bytes in use over the recorded steps, the high-water mark, and which phase was running."""
    if not profile.memory:
        raise ArgumentError("profiler.memory: nothing was recorded")
    require("matplotlib", "plot", "profiler.memory")
    origin = profile.steps[0].start if profile.steps else profile.memory[0].time
    times = np.array([(p.time - origin) / 1e6 for p in profile.memory])
    current, peak = (np.array([getattr(p, k) / 2**20 for p in profile.memory]) for k in ("current", "peak"))
    with _style("memory") as figures:
        figure = figures.Figure(figsize=(9, 3.8), layout="constrained")
        axes = figure.add_subplot()
        for i, (phase, colour) in enumerate((("forward", COLOURS[0]), ("backward", COLOURS[1]), ("optimizer", COLOURS[2]))):
            _shade(axes, profile, phase, colour, origin, i)
        axes.plot(times, np.maximum(peak, current), color="#b9bec5", linewidth=0.9, label="peak within an operation")
        axes.plot(times, current, color="#3c4856", linewidth=1.4, label="in use")
        top = int(np.argmax(peak))
        axes.annotate(f"{peak[top]:.0f} MiB", (times[top], peak[top]), xytext=(0, 6), textcoords="offset points", ha="center",
                      color="#b5403f", fontweight="bold")  # fmt: skip
        axes.set(xlabel="milliseconds", ylabel="MiB in use", ylim=(0, max(float(peak.max()) * 1.15, 1e-3)))
        axes.set_xlim(min(0.0, times[0]), max(times[-1], 1e-3))
        axes.grid(True, axis="y")
        axes.set_title(title or "memory of the pool", loc="left")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _finish(figure, path)


def _shade(axes: Any, profile: Profile, phase: str, colour: str, origin: int, order: int) -> None:
    """A band for each step from the phase's first to its last operation."""
    label = phase
    for step in profile.steps:
        events = [e for e in profile.events if e.step == step.number and e.phase == phase]
        if events:
            start, end = min(e.start for e in events), max(e.end for e in events)
            axes.axvspan((start - origin) / 1e6, (end - origin) / 1e6, color=colour, alpha=0.10, linewidth=0, label=label)
            label = "_"
