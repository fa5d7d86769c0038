"""Reading a native log: every piece of time between two of its marks goes to its owner, every operation gets its cost.

All of it happens after the recording, so that the recorded step pays for the marks alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pydl.graph.op import Cost, Op, Shape
from pydl.profiler.events import BACKWARD, BETWEEN, FORWARD, OPTIMIZER, Event, KernelRun, MemoryPoint, StepSpan

# Kinds of marks (csrc/core/profile_log.h) and phases of events (pydl/graph/profile.pxi).
_BEGIN, _END, _STEP, _KERNEL = range(4)
_FORWARD, _BACKWARD, _SHORT, _SUM, _COPY = range(5)

# Their work is other operations, which are rows of their own.
_CONTAINERS = ("function", "checkpoint")

# What the time between operations is called, by the phase of the operation that follows.
_GAPS = {
    FORWARD: "(before forward operations)", BACKWARD: "(before backward operations)",
    OPTIMIZER: "(before the optimizer's kernel)", BETWEEN: "(rest of the step)",
}  # fmt: skip


class _Accumulate(Op):
    """Two gradients of one tensor are added."""

    name = "accumulate"


class _CopyGradient(Op):
    """A gradient that others hold as well is copied into `.grad`."""

    name, flops_per_element = "copy_gradient", 0


@dataclass(slots=True)
class _Frame:
    """Where time goes: to an event; whether operations inside are part of it (`folds`), and their cost its own (`counts`)."""

    event: Event
    folds: bool
    counts: bool
    otherwise: Cost | None = None  # what it costs if kernels alone do it, without operations that cost anything


class _Piece(NamedTuple):
    """Time between two marks."""

    event: Event
    length: int
    waited: int  # of it, for other threads
    kernel: int  # which of the event's kernels ran, or -1
    fresh_memory: bool  # the pool has asked the system for memory in it, or in a piece beside it


class _Asked(NamedTuple):
    """What the system has told: how long the thread was off the processor, and page faults, since it was asked before."""

    off: int
    faults: int


class Reading:
    """The events, steps and the memory curve of a log."""

    def __init__(self, log: Any) -> None:
        self.events: list[Event] = []
        self.steps: list[StepSpan] = []
        self.memory: list[MemoryPoint] = []
        self.dropped = int(log.dropped)
        self._recorded = log.events(_stand_in)
        self._forwards: dict[int, tuple[Cost, Event, list[Any]]] = {}  # what a backward wants to know
        self._stack: list[tuple[int, _Frame | None]] = []  # open operations by number; None: the time belongs to what is around
        self._gaps: dict[str, Event] = {}
        # Since the last mark of an operation: (start, end, figures of the kernel or None), and answers of the system.
        self._between: list[tuple[int, int, list[Any] | None] | _Asked] = []
        self._window: list[_Piece] = []  # since the last answer
        self._step: int | None = None
        self._read(log.marks())

    # ------------------------------------------------------------------ time
    def _read(self, marks: list[tuple[Any, ...]]) -> None:
        go = step_start = overhead = 0
        asked: tuple[int, int, int] | None = None  # time, processor time, page faults
        before = (0, 0)
        for kind, stop, resumed, processor, faults, *figures in marks:
            if self._step is not None:
                if kind == _KERNEL:
                    self._between += [(go, figures[1], None), (figures[1], stop, figures)]
                else:
                    self._between.append((go, stop, None))
            if processor >= 0:
                if asked is not None:
                    self._between.append(_Asked(stop - asked[0] - (processor - asked[1]), faults - asked[2]))
                asked = stop, processor, faults
            overhead += resumed - stop
            go = resumed
            if kind == _KERNEL:
                continue
            self.memory.append(MemoryPoint(stop, figures[1], figures[2]))
            if self._step is not None:
                self._file(self._owner(kind, figures[0]), stop, figures, before)
            before = figures[3], figures[4]
            if kind == _BEGIN:
                self._open(figures[0], resumed)
            elif kind == _END:
                self._close(figures[0])
            else:
                overhead -= resumed - stop
                self._end_step(step_start, stop, overhead)
                self._step, step_start, overhead = figures[0], stop, resumed - stop

    def _end_step(self, start: int, end: int, overhead: int) -> None:
        if self._step is not None:
            self.steps.append(StepSpan(self._step, start, end, overhead))
            self.events += [e for e in self._gaps.values() if e.wall > 0]
        self._gaps = {}

    def _owner(self, kind: int, number: int) -> Event:
        """Whose time ends with this mark: what lies between operations is filed by what follows."""
        frame = self._innermost()
        if frame is not None:
            return frame.event
        phase = self._phase(self._recorded[number]) if kind != _STEP and number >= 0 else BETWEEN
        if phase not in self._gaps:
            start = next(entry[0] for entry in self._between if not isinstance(entry, _Asked))
            self._gaps[phase] = Event(_GAPS[phase], BETWEEN, step=self._step or 0, start=start)
        return self._gaps[phase]

    def _file(self, owner: Event, stop: int, figures: list[Any], before: tuple[int, int]) -> None:
        _, current, peak, allocations, system_allocations = figures
        fresh = system_allocations > before[1]
        for entry in self._between:
            if isinstance(entry, _Asked):
                self._settle(*entry)
                continue
            start, end, kernel = entry
            owner.wall += end - start
            waited, index = 0, -1
            if kernel is not None:
                name, _, waited, busy, threads = kernel
                index = len(owner.kernels)
                owner.kernel += end - start - waited
                owner.waiting += waited
                owner.busy += busy
                owner.threads = max(owner.threads, threads)
                owner.kernels.append(KernelRun(name, start, end - start, waited, threads))
            self._window.append(_Piece(owner, end - start, waited, index, fresh))
        self._between.clear()
        owner.allocations += allocations - before[0]
        owner.system_allocations += system_allocations - before[1]
        owner.memory, owner.peak, owner.end = current, max(owner.peak, peak), stop

    def _settle(self, off: int, faults: int) -> None:
        """Share an answer of the system out.

        It is asked so often that a long piece has an answer of its own; among short ones the longest was most likely the one
        that waited. The time that threads waited for each other is known already.
        """
        window, self._window = self._window, []
        if not window:
            return
        window.sort(key=lambda p: p.waited - p.length)
        off -= sum(p.waited for p in window)
        for piece in window:
            if off <= 0:
                break
            event, more = piece.event, min(off, piece.length - piece.waited)
            off -= more
            event.waiting += more
            if piece.kernel >= 0:
                event.kernel -= more
                run = event.kernels[piece.kernel]
                event.kernels[piece.kernel] = run._replace(waited=run.waited + more)
        if faults > 0:
            next((p for p in window if p.fresh_memory), window[0]).event.faults += faults

    # ------------------------------------------------------------------ operations
    def _innermost(self) -> _Frame | None:
        return next((frame for _, frame in reversed(self._stack) if frame is not None), None)

    @staticmethod
    def _phase(recorded: tuple[Any, ...]) -> str:
        kind = recorded[0] if recorded[0] >= 0 else ~recorded[0]  # cancelled
        if kind != _FORWARD:
            return BACKWARD
        return OPTIMIZER if _name(recorded[1]) == "optimizer_step" else FORWARD

    def _open(self, number: int, start: int) -> None:
        if number >= 0:
            self._stack.append((number, self._frame(number, start)))

    def _close(self, number: int) -> None:
        if not any(n == number for n, _ in self._stack):
            return
        while True:
            n, frame = self._stack.pop()
            if frame is not None and frame.otherwise is not None and frame.event.kernels:
                _add(frame.event, frame.otherwise)
            if n == number:
                return

    def _frame(self, number: int, start: int) -> _Frame | None:
        kind, op, path, needs, forward, arguments, output, bfloat16 = self._recorded[number]
        outer = self._innermost()
        if kind < 0:
            return None
        if kind == _FORWARD and outer is not None and outer.folds:
            if outer.counts and output is not None:
                cost = _cost(op, output, arguments)
                _add(outer.event, cost)
                if any(cost):
                    outer.otherwise = None
            return None
        if kind in (_SUM, _COPY):
            op = _Accumulate if kind == _SUM else _CopyGradient
        phase = self._phase(self._recorded[number]) if outer is None or kind != _FORWARD else outer.event.phase
        event = Event(_name(op), phase, path or "", self._step or 0, start)
        self.events.append(event)
        if kind in (_FORWARD, _SUM, _COPY):
            _describe(event, arguments, output)
            if bfloat16 and event.itemsize == 4:
                event.itemsize = 2  # what it multiplies, though not what it reads and writes
            if output is not None:
                cost = _cost(op, output, arguments)
                _add(event, cost)
                self._forwards[number] = cost, event, arguments
            return _Frame(event, kind != _FORWARD, kind == _FORWARD)
        native = kind == _SHORT or not op.backward_on_tensors
        otherwise = None
        if forward in self._forwards:  # else its forward was not recorded
            cost, first, given = self._forwards[forward]
            event.inputs, event.output, event.itemsize = first.inputs, first.output, first.itemsize
            if kind == _BACKWARD and event.name not in _CONTAINERS:
                backward = op.backward_cost(cost, needs, *given)
                if native:
                    _add(event, backward)
                else:
                    otherwise = backward
        for incoming, kept in zip(arguments[::2], arguments[1::2], strict=True):
            _add(event, Cost(incoming.size, 2 * incoming.nbytes + (0 if kept is None else kept.nbytes)))
        return _Frame(event, event.name not in _CONTAINERS, not native, otherwise)


def _name(op: Any) -> str:
    return "" if op is None else getattr(op, "name", "") or op.__name__.lower()


def _cost(op: Any, output: Shape, arguments: list[Any]) -> Cost:
    """What one forward costs; a view moves nothing."""
    return Cost(0, 0) if op.is_view or _name(op) in _CONTAINERS else op.cost(output, *arguments)


def _describe(event: Event, arguments: list[Any], output: Shape | None) -> None:
    given = [a for a in arguments if type(a) is np.ndarray]
    event.inputs, event.output = tuple([a.shape for a in given]), output or ()
    event.itemsize = next((a.itemsize for a in given if a.dtype.kind == "f"), 4)


def _add(event: Event, cost: Cost) -> None:
    event.flops += int(cost.flops)
    event.bytes += int(cost.bytes)


@lru_cache(1024)
def _stand_in(dtype: np.dtype, shape: Shape) -> np.ndarray:
    """An array of this shape that takes no memory: for the rules that tell what an operation costs."""
    return np.broadcast_to(np.zeros((), dtype), shape)
