"""Two profiles side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.errors import ArgumentError
from pydl.profiler.tables import Table, mebibytes, milliseconds

if TYPE_CHECKING:
    from pydl.profiler.result import Profile, Row

__all__ = ["compare"]


def compare(before: Profile, after: Profile, by: str = "op", limit: int | None = 30) -> Table:
    """A table of the time per step in two profiles, by the largest difference first.

    Parameters
    ----------
    before, after : Profile
        Taken in one process or loaded from files (`Profile.load`).
    by : str
        "op", "layer", "module", "kernel" or "range".
    """
    if by not in ("op", "layer", "module", "kernel", "range"):
        raise ArgumentError(f"profiler: compare by={by!r}; expected 'op', 'layer', 'module', 'kernel' or 'range'")
    old, new = ({(r.name, r.kind): r for r in getattr(p, f"by_{by}")()} for p in (before, after))
    counts = max(len(before.steps), 1), max(len(after.steps), 1)

    def times(key: tuple[str, str]) -> tuple[float, float]:
        a, b = old.get(key), new.get(key)
        return (a.wall / counts[0] if a else 0.0), (b.wall / counts[1] if b else 0.0)

    keys = sorted({**old, **new}, key=lambda k: -abs(times(k)[1] - times(k)[0]))
    rows = [_cells(key, *times(key), old.get(key), new.get(key)) for key in keys[:limit]]
    whole = before.seconds / counts[0], after.seconds / counts[1]
    footer = [
        f"step: {milliseconds(whole[0])} ms before, {milliseconds(whole[1])} ms after, {_ratio(*whole)}; "
        f"memory peak {mebibytes(before.peak)} MiB before, {mebibytes(after.peak)} MiB after",
    ]
    header = (by, "", "before ms", "after ms", "difference", "speed", "% roof before", "% roof after")
    return Table("milliseconds per step, before and after", header, rows, 2, footer)


def _cells(key: tuple[str, str], a: float, b: float, old: Row | None, new: Row | None) -> tuple[str, ...]:
    roofs = ["-" if r is None or not r.least else f"{100 * r.roofline:.1f}" for r in (old, new)]
    return (*key, milliseconds(a) if old else "-", milliseconds(b) if new else "-", f"{1e3 * (b - a):+.3f}", _ratio(a, b), *roofs)


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}x" if a and b else "-"
