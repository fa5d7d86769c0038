"""`Profile`: what was recorded, summed up in rows, saved and loaded."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import pydl
from pydl import _core
from pydl.errors import ArgumentError
from pydl.profiler.events import BETWEEN, Event, KernelRun, MemoryPoint, RangeSpan, StepSpan
from pydl.profiler.limits import MachineLimits, machine_limits
from pydl.profiler.tables import Table, row_table

__all__ = ["Profile", "Row"]

_FORMAT = "pydl profile 1"


@dataclass
class Row:
    """Events of one kind summed up. Times are in seconds; all sums are over the whole profile, not per step."""

    name: str
    kind: str = ""  # type of the module, or phase
    calls: int = 0
    wall: float = 0.0
    kernel: float = 0.0
    waiting: float = 0.0
    least: float = 0.0  # the time that the machine's limits would allow
    flops: int = 0
    bytes: int = 0
    threads: int = 1
    allocations: int = 0
    system_allocations: int = 0
    faults: int = 0
    peak: int = 0  # most bytes in use

    @property
    def python(self) -> float:
        return self.wall - self.kernel - self.waiting

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.wall / 1e9 if self.wall else 0.0

    @property
    def bandwidth(self) -> float:
        """GB/s of the bytes that must move at least once."""
        return self.bytes / self.wall / 1e9 if self.wall else 0.0

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def roofline(self) -> float:
        """The share of what the machine's limits allow, 1 = all of it.

        Above 1: data came from a cache, or an algorithm (Winograd) needs fewer operations than are counted.
        """
        return self.least / self.wall if self.wall else 0.0

    def add(self, event: Event, limits: MachineLimits) -> None:
        self.calls += 1
        self.wall += event.wall / 1e9
        self.kernel += event.kernel / 1e9
        self.waiting += event.waiting / 1e9
        self.least += limits.seconds(event.flops, event.bytes, event.itemsize)
        self.flops += event.flops
        self.bytes += event.bytes
        self.threads = max(self.threads, event.threads)
        self.allocations += event.allocations
        self.system_allocations += event.system_allocations
        self.faults += event.faults
        self.peak = max(self.peak, event.peak)


@dataclass
class Profile:
    """A recorded run: `by_op`, `by_layer`, `by_module`, `by_kernel`, `by_range` sum it up; `show` prints, `save` keeps it."""

    events: list[Event] = field(default_factory=list)
    steps: list[StepSpan] = field(default_factory=list)
    ranges: list[RangeSpan] = field(default_factory=list)
    memory: list[MemoryPoint] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)  # module path -> class name
    about: dict[str, Any] = field(default_factory=dict)
    measured: MachineLimits | None = None

    @classmethod
    def of(cls, recorder: Any, types: dict[str, str]) -> Profile:
        about = {"version": pydl.__version__, "isa": _core.isa(), "threads": int(_core.num_threads()),
                 "date": time.strftime("%Y-%m-%d %H:%M:%S")}  # fmt: skip
        read = recorder.read()
        if read.dropped:
            about["dropped"] = read.dropped  # marks for which there was no memory
        return cls(read.events, read.steps, recorder.ranges, read.memory, types, about)

    # ------------------------------------------------------------------ totals
    @property
    def limits(self) -> MachineLimits:
        """The machine's limits, measured when first asked for."""
        if self.measured is None:
            self.measured = machine_limits(self.about.get("threads"))
        return self.measured

    @property
    def seconds(self) -> float:
        """Wall time of all steps, without what the profiler itself took."""
        return sum(s.end - s.start - s.overhead for s in self.steps) / 1e9

    @property
    def overhead(self) -> float:
        """The profiler's own work between operations, in seconds."""
        return sum(s.overhead for s in self.steps) / 1e9

    @property
    def accounted(self) -> float:
        """The share of the steps' wall time, the profiler's own work included, that the rows add up to."""
        whole = self.seconds + self.overhead
        return sum(e.wall for e in self.events) / 1e9 / whole if whole else 1.0

    @property
    def peak(self) -> int:
        """Most bytes in use."""
        return max((p.peak for p in self.memory), default=0)

    def total(self) -> Row:
        row = Row("total")
        for event in self.events:
            row.add(event, self.limits)
        return row

    # ------------------------------------------------------------------ rows
    def _rows(self, keys: Callable[[Event], Iterable[tuple[str, str]]]) -> list[Row]:
        rows: dict[tuple[str, str], Row] = {}
        limits = self.limits
        for event in self.events:
            for key in keys(event):
                row = rows.get(key)
                if row is None:
                    row = rows[key] = Row(*key)
                row.add(event, limits)
        return list(rows.values())

    def by_op(self) -> list[Row]:
        """A row for each operation and phase, and for the time between operations; the slowest first."""

        def key(e: Event) -> list[tuple[str, str]]:
            return [(f"{e.name} backward" if e.phase == "backward" and e.name != "accumulate" else e.name, e.phase)]

        return sorted(self._rows(key), key=lambda r: -r.wall)

    def by_layer(self) -> list[Row]:
        """A row for each innermost module, forward and backward together; what no module holds under its operation's name."""

        def key(e: Event) -> list[tuple[str, str]]:
            return [(e.path, self.types.get(e.path, "")) if e.path else (f"[{e.name}]", "")]

        return sorted(self._rows(key), key=lambda r: -r.wall)

    def by_module(self, depth: int | None = None) -> list[Row]:
        """A row for each module with everything inside it, in the order of the calls; `depth` 1 shows the outermost parts."""

        def keys(e: Event) -> list[tuple[str, str]]:
            if not e.path:
                return [("(model)", self.types.get("", ""))] if e.phase != BETWEEN else []
            parts = e.path.split(".")[:depth]
            paths = (".".join(parts[: i + 1]) for i in range(len(parts)))
            return [("(model)", self.types.get("", "")), *((p, self.types.get(p, "")) for p in paths)]

        order = {path: i for i, path in enumerate(self.types)}
        return sorted(self._rows(keys), key=lambda r: order.get("" if r.name == "(model)" else r.name, len(order)))

    def by_kernel(self) -> list[Row]:
        """A row for each native kernel: wall time, waiting, threads. FLOPs belong to operations."""
        rows: dict[str, Row] = {}
        for event in self.events:
            for k in event.kernels:
                row = rows.setdefault(k.name, Row(k.name))
                row.calls += 1
                row.wall += k.duration / 1e9
                row.kernel += (k.duration - k.waited) / 1e9
                row.waiting += k.waited / 1e9
                row.threads = max(row.threads, k.threads)
        return sorted(rows.values(), key=lambda r: -r.wall)

    def by_range(self) -> list[Row]:
        """A row for each `record_function` name: how often and how long; ranges inside others count in both."""
        rows: dict[str, Row] = {}
        for r in self.ranges:
            row = rows.setdefault(r.name, Row(r.name))
            row.calls += 1
            row.wall += (r.end - r.start) / 1e9
        return sorted(rows.values(), key=lambda r: -r.wall)

    # ------------------------------------------------------------------ output
    def table(self, by: str = "op", limit: int | None = 30, depth: int | None = None) -> Table:
        """A table of rows per step: `by` is "op", "layer", "module", "kernel" or "range"."""
        if by not in ("op", "layer", "module", "kernel", "range"):
            raise ArgumentError(f"profiler: table by={by!r}; expected 'op', 'layer', 'module', 'kernel' or 'range'")
        rows = self.by_module(depth) if by == "module" else getattr(self, f"by_{by}")()
        return row_table(by, rows, self, limit)

    def show(self, by: str = "op", limit: int | None = 30, depth: int | None = None) -> None:
        """Print a table."""
        self.table(by, limit, depth).show()

    def __str__(self) -> str:
        return str(self.table())

    def trace(self, path: str | os.PathLike[str], max_mb: float = 20.0) -> Path:
        """Write a trace for chrome://tracing and https://ui.perfetto.dev, at most so large; see `profiler.trace`."""
        from pydl.profiler.trace import write_trace

        return write_trace(self, path, max_mb)

    def roofline(self, path: str | os.PathLike[str] | None = None, title: str = "") -> Any:
        """Draw every operation under the machine's measured limits; returns the path, or the figure if none is given."""
        from pydl.profiler.plots import roofline

        return roofline(self, path, title)

    def memory_plot(self, path: str | os.PathLike[str] | None = None, title: str = "") -> Any:
        """Draw the memory in use over time; returns the path, or the figure if none is given."""
        from pydl.profiler.plots import memory

        return memory(self, path, title)

    def compare(self, other: Profile, by: str = "op", limit: int | None = 30) -> Table:
        """A table of the time per step here and in `other`, by the largest difference first."""
        from pydl.profiler.compare import compare

        return compare(self, other, by, limit)

    # ------------------------------------------------------------------ files
    def save(self, path: str | os.PathLike[str]) -> Path:
        """Keep everything, with the machine's limits, as JSON (compressed if the name ends in .gz)."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        limits = self.limits
        content = {
            "format": _FORMAT, "about": self.about, "types": self.types, "limits": limits.as_dict(),
            "events": [astuple(e) for e in self.events], "steps": self.steps, "ranges": self.ranges, "memory": self.memory,
        }  # fmt: skip
        data = json.dumps(content, separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """A profile that `save` has written."""
        try:
            data = Path(path).read_bytes()
            content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        except OSError as error:
            raise ArgumentError(f"profiler: {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, EOFError) as error:
            raise ArgumentError(f"profiler: {path} is no profile (save() writes JSON): {error}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ArgumentError(f"profiler: {path} is no profile of this version; expected the format {_FORMAT!r}")
        return cls(
            [_event(e) for e in content["events"]], [StepSpan(*s) for s in content["steps"]],
            [RangeSpan(*r) for r in content["ranges"]], [MemoryPoint(*m) for m in content["memory"]],
            content["types"], content["about"], MachineLimits.from_dict(content["limits"]),
        )  # fmt: skip


def _event(values: list[Any]) -> Event:
    event = Event(*values)
    event.inputs = tuple(tuple(shape) for shape in event.inputs)
    event.output = tuple(event.output)
    event.kernels = [KernelRun(*k) for k in event.kernels]
    return event
