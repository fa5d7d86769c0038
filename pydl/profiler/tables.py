"""Tables: plain text in files, colours by rich on a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pydl.profiler.result import Profile, Row


@dataclass
class Table:
    """Cells of text; the first `left` columns are aligned to the left."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: int = 1
    footer: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        text = []
        for line in lines:
            cells = (c.ljust(w) if i < self.left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            text.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, text))
        return "\n".join([self.title, rule, text[0], rule, *text[1:], rule, *self.footer])

    def __rich__(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False,
                          padding=(0, 1, 0, 0))  # fmt: skip
        for i, name in enumerate(self.header):
            table.add_column(name, style="cyan" if i == 0 else "", justify="left" if i < self.left else "right",
                             overflow="fold", no_wrap=i >= self.left)  # fmt: skip
        for cells in self.rows:
            table.add_row(*map(escape, cells))
        return Group(table, "", *map(escape, self.footer), "")

    def show(self, file: TextIO | None = None) -> None:
        """Print it: in colour on a terminal, as plain text elsewhere."""
        file = sys.stdout if file is None else file
        if file.isatty():
            from rich.console import Console

            Console(file=file).print(self)
        else:
            print(self, file=file)
            print(file=file)


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}" if seconds < 0.1 else f"{1e3 * seconds:.1f}"


def mebibytes(n: float) -> str:
    return f"{n / 2**20:.1f}"


def number(value: float) -> str:
    """Three digits; a dash for nothing."""
    return "-" if not value else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


_COLUMNS = (
    "calls", "ms", "%", "kernel", "python", "waiting", "GFLOP/s", "GB/s", "FLOP/B", "% roof", "thr", "MiB peak", "alloc",
    "faults",
)  # fmt: skip
_TITLES = {
    "op": "operations", "layer": "layers, forward and backward", "module": "modules with all their parts",
    "kernel": "native kernels", "range": "ranges",
}  # fmt: skip


def row_table(by: str, rows: list[Row], profile: Profile, limit: int | None) -> Table:
    """Rows per step, and the totals below."""
    steps = max(len(profile.steps), 1)
    whole = profile.seconds
    shown = rows if limit is None else rows[:limit]
    cells = [_cells(row, steps, whole) for row in shown]
    per_step = f"milliseconds per step, {len(profile.steps)} step{'s' if len(profile.steps) != 1 else ''}"
    header: tuple[str, ...] = (by, "type" if by in ("layer", "module") else "phase", *_COLUMNS)
    left = 2
    if by in ("kernel", "range"):  # operations carry the costs
        keep = (0, 2, 3, 4, 5, 7, 12) if by == "kernel" else (0, 2, 3, 4)
        header, cells, left = tuple(header[i] for i in keep), [tuple(c[i] for i in keep) for c in cells], 1
    rest = len(rows) - len(shown)
    footer = [f"... and {rest} more, {milliseconds(sum(r.wall for r in rows[limit:]) / steps)} ms"] if rest else []
    return Table(f"{_TITLES[by]} ({per_step})", header, cells, left, footer + totals(profile))


def _cells(row: Row, steps: int, whole: float) -> tuple[str, ...]:
    calls = row.calls / steps
    return (
        row.name, row.kind, f"{calls:.0f}" if calls == int(calls) else f"{calls:.1f}", milliseconds(row.wall / steps),
        percent(row.wall / whole if whole else 0), milliseconds(row.kernel / steps), milliseconds(row.python / steps),
        milliseconds(row.waiting / steps), number(row.gflops), number(row.bandwidth), number(row.intensity),
        percent(row.roofline) if row.least else "-", str(row.threads), mebibytes(row.peak),
        number(row.allocations / steps), number(row.faults / steps),
    )  # fmt: skip


def totals(profile: Profile) -> list[str]:
    """What a step is, in a few lines."""
    steps = max(len(profile.steps), 1)
    row = profile.total()
    whole = profile.seconds or 1.0
    limits = profile.limits
    return [
        f"step {milliseconds(profile.seconds / steps)} ms: kernels {percent(row.kernel / whole)} %, "
        f"Python {percent(row.python / whole)} %, waiting {percent(row.waiting / whole)} %; "
        f"the rows account for {percent(profile.accounted)} %, the profiler's own work took "
        f"{milliseconds(profile.overhead / steps)} ms more",
        f"{row.flops / steps / 1e9:.3g} GFLOP, {row.gflops:.4g} GFLOP/s, {percent(row.roofline)} % of the roofline; "
        f"memory peak {mebibytes(profile.peak)} MiB; {row.allocations / steps:.0f} allocations "
        f"({row.system_allocations / steps:.0f} from the system), {row.faults / steps:.0f} page faults",
        f"limits of this machine: {limits.peak:.0f} GFLOP/s ({limits.isa}, {limits.threads} threads), "
        f"{limits.bandwidth:.1f} GB/s",
    ]
