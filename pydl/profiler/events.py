"""What is recorded: one `Event` for each operation, and what lies between operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pydl.graph.op import Shape

FORWARD, BACKWARD, OPTIMIZER, BETWEEN = "forward", "backward", "optimizer", "between"


class KernelRun(NamedTuple):
    """One native kernel; times in nanoseconds."""

    name: str
    start: int
    duration: int
    waited: int
    threads: int


@dataclass(slots=True)
class Event:
    """One run of an operation. Times are in nanoseconds and do not contain operations that ran inside and are rows of their own.

    ``wall = kernel + waiting + python``: in native kernels; with nothing to do (other threads were still at work, or the thread
    was off the processor: data loader, input, output, other programs); and the rest.
    """

    name: str
    phase: str
    path: str = ""  # of the module
    step: int = 0
    start: int = 0
    end: int = 0
    wall: int = 0
    kernel: int = 0
    waiting: int = 0
    busy: int = 0  # all threads' working time in parallel regions
    threads: int = 1
    flops: int = 0
    bytes: int = 0
    itemsize: int = 4
    inputs: tuple[Shape, ...] = ()
    output: Shape = ()
    allocations: int = 0
    system_allocations: int = 0
    faults: int = 0
    memory: int = 0  # bytes in use at the end
    peak: int = 0  # most bytes in use meanwhile
    kernels: list[KernelRun] = field(default_factory=list)

    @property
    def python(self) -> int:
        return self.wall - self.kernel - self.waiting


class StepSpan(NamedTuple):
    """One step; `overhead` is what the profiler itself took within it."""

    number: int
    start: int
    end: int
    overhead: int


class RangeSpan(NamedTuple):
    """One pass through a `record_function` block."""

    name: str
    step: int
    start: int
    end: int


class MemoryPoint(NamedTuple):
    time: int
    current: int
    peak: int  # largest since the point before
