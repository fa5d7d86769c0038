"""How training tells where it is: a bar on a terminal, one plain line an epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["Bar", "Lines", "Silent", "choose"]


def describe(row: Mapping[str, Any]) -> str:
    """The figures of a row on one line."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if name not in ("epoch", "step")
    )


class Silent:
    """Says nothing."""

    def start(self, epoch: int, epochs: int, done: int, total: int | None) -> None:
        """An epoch begins: `done` of `total` batches are behind it already."""

    def advance(self, batches: int, loss: float) -> None:
        """Some batches are done."""

    def note(self, text: str) -> None:
        """Something to tell once."""

    def end(self, row: Mapping[str, Any], seconds: float) -> None:
        """An epoch is over."""

    def close(self) -> None:
        """Training is over or has failed."""


class Lines(Silent):
    """One line an epoch, for files and pipes."""

    epochs = 0

    def start(self, epoch: int, epochs: int, done: int, total: int | None) -> None:
        self.epochs = epochs

    def note(self, text: str) -> None:
        print(text, flush=True)

    def end(self, row: Mapping[str, Any], seconds: float) -> None:
        self.note(f"epoch {row['epoch']}/{self.epochs}  {describe(row)}  {seconds:.1f} s")


class Bar(Lines):
    """A bar for the running epoch, and one line for each that is over."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(), transient=True,
        )
        self.task: Any = None

    def start(self, epoch: int, epochs: int, done: int, total: int | None) -> None:
        super().start(epoch, epochs, done, total)
        self.bar.start()
        self.task = self.bar.add_task(f"epoch {epoch}/{epochs}", total=total, completed=done, loss="")

    def advance(self, batches: int, loss: float) -> None:
        self.bar.update(self.task, advance=batches, loss=f"{loss:.4g}")

    def note(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def end(self, row: Mapping[str, Any], seconds: float) -> None:
        super().end(row, seconds)
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None

    def close(self) -> None:
        self.bar.stop()


def choose(wanted: bool) -> Silent:
    """A bar if the output is a terminal, else lines; silence if not wanted."""
    if not wanted:
        return Silent()
    return Bar() if sys.stdout.isatty() else Lines()
