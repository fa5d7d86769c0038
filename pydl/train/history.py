"""`History`: one row of figures an epoch, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydl.errors import ArgumentError
from pydl.train.storage import Path_, atomic_write_text

__all__ = ["History"]


class History:
    """The figures of a training run: ``history["valid_loss"]`` is a list, ``history.rows`` has one dictionary an epoch."""

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows: list[dict[str, Any]] = [] if rows is None else rows

    def append(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))

    @property
    def columns(self) -> list[str]:
        """All names, in the order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.columns:
            raise ArgumentError(f"history has no column {name!r}; it has {self.columns}")
        return [row.get(name) for row in self.rows]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"History({len(self)} epochs: {', '.join(self.columns)})"

    def to_csv(self) -> str:
        """The rows as CSV with a header; every digit of each number is kept."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def save(self, path: Path_) -> None:
        """Write the CSV file atomically."""
        atomic_write_text(path, self.to_csv())

    @classmethod
    def load(cls, path: Path_) -> History:
        """Read what `save` wrote: whole numbers come back as int, empty fields as absent."""
        with open(path, newline="") as file:
            return cls([{k: _number(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)])

    def plot(self, path: Path_) -> Path:
        """Draw the curves into a picture file; needs matplotlib (``pip install pydl[plot]``)."""
        from pydl.viz import curves

        curves(self, path)
        return Path(path)


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
