"""The recorder: cuts the time of one thread at the borders of operations and files every piece under its owner."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.graph import engine
from pydl.graph.op import Cost, Op
from pydl.ops import _maps
from pydl.profiler.events import BACKWARD, BETWEEN, FORWARD, OPTIMIZER, Event, KernelRun, MemoryPoint, RangeSpan, StepSpan

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


class Recorder:
    """Observes the operations of the thread that starts it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.steps: list[StepSpan] = []
        self.ranges: list[RangeSpan] = []
        self.memory: list[MemoryPoint] = []
        self.thread = threading.get_ident()
        self._stack: list[_Frame] = []
        # By the id of a node that awaits its backward: the operation, what its forward cost, and its event.
        self._awaiting: dict[int, tuple[Any, Cost, Event]] = {}
        self._between: dict[str, _Frame] = {}
        self._filed: list[_Frame] = []  # whose totals are in the sampler's form still
        self._open_ranges: list[tuple[str, int]] = []
        self._step = 0
        self._step_start = 0

    # ------------------------------------------------------------------ on and off
    def start(self, step: int) -> None:
        self._previous = engine.set_observer(self._forward), engine.set_backward_observer(self._backward)
        engine.set_accumulate(self._accumulate)
        engine.set_copy(self._copy)
        _core.profile_set_on(True)
        self._clock = _core.ProfileSampler()
        self._clock.stop()
        self._begin_step(step)

    def stop(self) -> None:
        self._clock.stop()
        self._clock.file(self._gap(BETWEEN).totals)
        self._end_step()
        _core.profile_set_on(False)
        engine.set_observer(self._previous[0])
        engine.set_backward_observer(self._previous[1])
        engine.set_accumulate(_maps.accumulate)
        engine.set_copy(_maps.copy_like)
        self._awaiting.clear()
        for frame in self._filed:
            frame.write()
        self._filed.clear()
        self.dropped = self._clock.dropped
        self.memory = [MemoryPoint(*p) for p in self._clock.points()]

    def next_step(self, step: int) -> None:
        self._clock.stop()
        self._clock.file(self._gap(BETWEEN).totals)
        self._end_step()
        self._begin_step(step)

    def _begin_step(self, step: int) -> None:
        self._step, self._between = step, {}
        self._clock.overhead = 0
        self._step_start = self._clock.stopped
        self._clock.go()

    def _end_step(self) -> None:
        self.steps.append(StepSpan(self._step, self._step_start, self._clock.stopped, self._clock.overhead))
        self.events.extend(f.event for f in self._between.values() if f.totals.wall > 0)

    # ------------------------------------------------------------------ time
    def _frame(self, event: Event, folds: bool, counts: bool) -> _Frame:
        frame = _Frame(event, _core.ProfileTotals(), folds, counts)
        self._filed.append(frame)
        return frame

    def _gap(self, phase: str) -> _Frame:
        """What lies between operations is filed by what follows it; inside an operation it belongs to that."""
        if self._stack:
            return self._stack[-1]
        frame = self._between.get(phase)
        if frame is None:
            event = Event(_GAPS[phase], BETWEEN, step=self._step, start=self._clock.resumed)
            frame = self._between[phase] = self._frame(event, False, False)
        return frame

    # ------------------------------------------------------------------ operations
    # The clock stands still from the first line of an observer until the operation runs, and from its end to the observer's.
    def _run(self, frame: _Frame, call: Any, arrays: list[Any]) -> Any:
        """Run a call that belongs to the frame."""
        self._stack.append(frame)
        clock = self._clock
        clock.go()
        try:
            return call(*arrays)
        finally:
            clock.stop()
            clock.file(frame.totals)
            self._stack.pop()

    def _forward(self, op: Any, ctx: Any, arrays: list[Any]) -> Any:
        if threading.get_ident() != self.thread:  # a data loader at work meanwhile
            return op.forward(ctx, *arrays)
        clock = self._clock
        clock.stop()
        name = getattr(op, "name", "") or op.__name__.lower()
        phase = OPTIMIZER if name == "optimizer_step" else FORWARD
        outer = self._stack[-1] if self._stack else None
        clock.file(self._gap(phase).totals)
        try:
            if outer is not None and outer.folds:
                out = self._run(outer, op.forward, [ctx, *arrays])
                if outer.counts:
                    _add(outer.event, op.cost(_shape(out), *arrays))
                return out
            path = engine.current_module_path()
            event = Event(name, outer.event.phase if outer else phase, path, self._step, clock.stopped)
            self.events.append(event)
            out = self._run(self._frame(event, False, True), op.forward, [ctx, *arrays])
            self._describe(event, op, ctx, arrays, out)
            return out
        finally:
            clock.go()

    def _describe(self, event: Event, op: Any, ctx: Any, arrays: list[Any], out: Any) -> None:
        given = [a for a in arrays if type(a) is np.ndarray]
        event.inputs, event.output = tuple([a.shape for a in given]), _shape(out)
        event.itemsize = next((a.itemsize for a in given if a.dtype.kind == "f"), 4)
        cost = Cost(0, 0) if event.name in _CONTAINERS else op.cost(event.output, *arrays)
        _add(event, cost)
        if ctx is not None and any(ctx.needs):
            self._awaiting[id(ctx)] = op, cost, event

    def _backward(self, op: Any, node: Any, gradients: list[Any]) -> Any:
        if threading.get_ident() != self.thread:
            return op.backward(node, *gradients)
        clock = self._clock
        clock.stop()
        name = getattr(op, "name", "") or op.__name__.lower()
        clock.file(self._gap(BACKWARD).totals)
        try:
            event = Event(name, BACKWARD, node.module_path or "", self._step, clock.stopped)
            self.events.append(event)
            native = not op.backward_on_tensors
            known = self._awaiting.get(id(node))
            if known is not None and known[0] is op:  # else its forward was not recorded
                _, cost, forward = known
                event.inputs, event.output, event.itemsize = forward.inputs, forward.output, forward.itemsize
                if native:
                    _add(event, op.backward_cost(cost, node.needs))
            return self._run(self._frame(event, name not in _CONTAINERS, not native), op.backward, [node, *gradients])
        finally:
            clock.go()

    def _accumulate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self._gradient_work(_Accumulate, _maps.accumulate, a, b)

    def _copy(self, array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return self._gradient_work(_CopyGradient, _maps.copy_like, array, like)

    def _gradient_work(self, op: type[Op], call: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if threading.get_ident() != self.thread:
            return call(a, b)
        clock = self._clock
        clock.stop()
        clock.file(self._gap(BACKWARD).totals)
        try:
            event = Event(op.name, BACKWARD, "", self._step, clock.stopped)
            event.inputs, event.output, event.itemsize = (a.shape,), a.shape, a.itemsize
            self.events.append(event)
            _add(event, op.cost(a.shape, *([a, b] if op is _Accumulate else [a])))
            return self._run(self._frame(event, True, False), call, [a, b])
        finally:
            clock.go()

    # ------------------------------------------------------------------ ranges
    def enter_range(self, name: str) -> None:
        if threading.get_ident() == self.thread:
            self._open_ranges.append((name, time.perf_counter_ns()))

    def leave_range(self) -> None:
        if threading.get_ident() == self.thread and self._open_ranges:
            name, start = self._open_ranges.pop()
            self.ranges.append(RangeSpan(name, self._step, start, time.perf_counter_ns()))


class _Frame(NamedTuple):
    """An operation, what it has taken, whether operations inside are part of it (`folds`), and their cost its own (`counts`)."""

    event: Event
    totals: Any
    folds: bool
    counts: bool

    def write(self) -> None:
        """From the sampler's form into the event."""
        e, t = self.event, self.totals
        e.end, e.wall, e.kernel, e.waiting, e.busy, e.threads = t.end, t.wall, t.kernel, t.waiting, t.busy, t.threads
        e.allocations, e.system_allocations, e.faults, e.memory, e.peak = (
            t.allocations, t.system_allocations, t.faults, t.memory, t.peak)
        e.kernels = [KernelRun(*k) for k in t.kernels()]


def _shape(out: Any) -> tuple[int, ...]:
    first = out[0] if isinstance(out, tuple) else out
    return () if first is None else tuple(first.shape)


def _add(event: Event, cost: Cost) -> None:
    event.flops += int(cost.flops)
    event.bytes += int(cost.bytes)
