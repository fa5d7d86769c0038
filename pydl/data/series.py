"""Time series: the ``.ts`` format of the time-series classification archive, sets in that format, and half-hourly demand."""

from __future__ import annotations

import ast
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pydl.data.dataset import Dataset
from pydl.data.packaged import PackageFiles
from pydl.errors import ArgumentError, PydlError

__all__ = ["SeriesFile", "TimeSeries", "TsFormatError", "load_electricity_demand", "read_ts"]


class TsFormatError(PydlError, ValueError):
    """A file is not in the ``.ts`` format, or does not hold what its head says; the message has the line's number."""


@dataclass
class SeriesFile:
    """What `read_ts` found.

    Attributes
    ----------
    series : list of ndarray
        Each (channels, T), float64; T may differ; NaN where a value is missing.
    labels : list
        Class names (text), or numbers for regression, or None each if the file has none.
    classes : tuple of str
        Empty without classes.
    header : dict
        The lines ``@name value`` of the file's head, names in small letters.
    """

    series: list[np.ndarray]
    labels: list[Any]
    classes: tuple[str, ...]
    header: dict[str, str]


def read_ts(path: str | os.PathLike[str]) -> SeriesFile:
    """Read a ``.ts`` file: comments (``#``, ``%``), a head of ``@name value``, and after ``@data`` one case a line.

    A line has its channels between colons, the values between commas, and last the class or target. A value may carry a time
    stamp, (2007-01-01 00:00:00,241.97), which is left out.

    Raises
    ------
    TsFormatError
        With the line that is wrong: numbers, classes and lengths are compared with the head.
    """
    path = Path(path)
    header: dict[str, str] = {}
    reader: _CaseReader | None = None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line[0] in "#%":
                continue
            try:
                if reader is not None:
                    reader.read(line)
                elif not line.startswith("@"):
                    raise TsFormatError("a case before @data; expected the head, lines that begin with @")
                elif line.lower() == "@data":
                    reader = _CaseReader(header)
                else:
                    name, _, value = line[1:].partition(" ")
                    header[name.lower()] = value.strip()
            except ValueError as error:
                raise TsFormatError(f"{path}, line {number}: {error}") from None
    if reader is None or not reader.series:
        raise TsFormatError(f"{path}: no cases after a line @data; this is no .ts file")
    return SeriesFile(reader.series, reader.labels, reader.classes, header)


class _CaseReader:
    """Reads the lines after @data, and compares them with the head."""

    def __init__(self, header: dict[str, str]) -> None:
        kind, *names = header.get("classlabel", "false").split()
        self.classes = tuple(names)
        self.labelled, self.target = kind.lower() == "true", header.get("targetlabel", "false").lower() == "true"
        self.stamped = header.get("timestamps", "false").lower() == "true"
        self.channels = 1 if header.get("univariate", "").lower() == "true" else int(header.get("dimensions", 0))
        equal = header.get("equallength", "false").lower() == "true"
        self.length = int(header.get("serieslength", 0)) if equal else 0
        self.series: list[np.ndarray] = []
        self.labels: list[Any] = []

    def read(self, line: str) -> None:
        label: Any = None
        if self.labelled or self.target:
            line, colon, label = line.rpartition(":")
            if not colon:
                raise TsFormatError("no colon before a class or target")
            if self.target:
                label = float(label)
            elif self.classes and label not in self.classes:
                raise TsFormatError(f"class {label!r}, which is not among the head's {', '.join(self.classes)}")
        channels = re.findall(r"((?:\([^()]*\),?)+)(?::|$)", line) if self.stamped else line.split(":")
        rows = [self._values(c) for c in channels]
        self.channels = self.channels or len(rows)
        if len(rows) != self.channels:
            raise TsFormatError(f"{len(rows)} channels, expected {self.channels}")
        if len({len(r) for r in rows}) != 1:
            raise TsFormatError(f"channels of lengths {[len(r) for r in rows]}")
        if self.length and len(rows[0]) != self.length:
            raise TsFormatError(f"{len(rows[0])} values, expected {self.length} (@seriesLength)")
        self.series.append(np.array(rows))
        self.labels.append(label)

    def _values(self, text: str) -> list[float]:
        if self.stamped:
            text = ",".join(pair.rpartition(",")[2] for pair in re.findall(r"\(([^()]*)\)", text))
        return [math.nan if v.strip() in ("?", "NaN") else float(v) for v in text.split(",")]


_AEON = PackageFiles(
    "aeon", "pip", "aeon", "1.6.0",
    {f"aeon/datasets/data/{name.rpartition('_')[0]}/{name}.ts": checksum for name, checksum in {
        "JapaneseVowels_TRAIN": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
        "JapaneseVowels_TEST": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
        "ItalyPowerDemand_TRAIN": "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
        "ItalyPowerDemand_TEST": "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
        "GunPoint_TRAIN": "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
        "GunPoint_TEST": "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
        "ArrowHead_TRAIN": "a83c470aaf611a5f5284377cce27a5fc9f6292bc3d110257b0fd4905ced5ee72",
        "ArrowHead_TEST": "5417dab42626d41df5e435bb22458c2df40dfad4bcd3b59559bbe72e20e84904",
        "BasicMotions_TRAIN": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
        "BasicMotions_TEST": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    }.items()},
    "TimeSeries(..., download=True)",
)  # fmt: skip


class TimeSeries(Dataset):
    """A set of the time-series classification archive; samples (series (T, channels) float32, class number).

    Parameters
    ----------
    name : str
        "JapaneseVowels" (12 channels, 7 to 29 steps, 9 speakers), "ItalyPowerDemand", "GunPoint", "ArrowHead" or
        "BasicMotions"; the package aeon (BSD) carries them. Or the path of any ``.ts`` file with classes.
    train : bool
        The published training or test part.
    root, download
        A folder with the files; or fetch the package.

    Attributes
    ----------
    series : list of ndarray
    labels : ndarray
        int64.
    classes : tuple of str
    """

    def __init__(
        self, name: str, train: bool = True, root: str | os.PathLike[str] | None = None, download: bool = False
    ) -> None:  # fmt: skip
        if name.endswith(".ts"):
            path = Path(name)
        else:
            known = sorted({Path(f).name.rpartition("_")[0] for f in _AEON.files})
            if name not in known:
                raise ArgumentError(f"TimeSeries: name={name!r}; expected one of {', '.join(known)}, or the path of a .ts file")
            file = f"{name}_{'TRAIN' if train else 'TEST'}.ts"
            path = _AEON.locate(root, download, [file])[file]
        found = read_ts(path)
        if not found.classes:
            raise ArgumentError(f"TimeSeries: {path} has no classes; read it with read_ts")
        number = {c: i for i, c in enumerate(found.classes)}
        self.series = [np.ascontiguousarray(s.T, np.float32) for s in found.series]
        self.labels = np.array([number[label] for label in found.labels], np.int64)
        self.classes = found.classes

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.series[index], int(self.labels[index])


_TAYLOR = PackageFiles(
    "taylor", "pip", "pmdarima", "2.1.1",
    {"pmdarima/datasets/taylor.py": "3df2f44f654bfe4338ea39350912140c9710fa776270f50a2529b2f5c87a4e19"},
    "load_electricity_demand(download=True)",
)  # fmt: skip


def load_electricity_demand(root: str | os.PathLike[str] | None = None, download: bool = False) -> np.ndarray:
    """Half-hourly demand for electricity in England and Wales, megawatts: 4,032 values, 5 June to 27 August 2000.

    Twelve weeks from a Monday, with the seasons of day (48) and week (336) on top of each other. Source: Taylor, "Short-term
    electricity demand forecasting using double seasonal exponential smoothing" (2003). The package pmdarima (MIT) carries the
    numbers in the text of a module, which is read, not run.
    """
    path = _TAYLOR.locate(root, download)["taylor.py"]
    lists = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.List)]
    values = np.array(ast.literal_eval(max(lists, key=lambda node: len(node.elts))) if lists else [], np.float64)
    if values.shape != (4032,):
        raise PydlError(f"{path}: {values.size} numbers, expected 4032; this is not the module that carries the series")
    return values
