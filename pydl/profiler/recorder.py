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
        self.dropped = 0
        self.thread = threading.get_ident()
        self._stack: list[_Frame] = []
        # By the id of a node that awaits its backward: the operation, what its forward cost, and its event.
        self._awaiting: dict[int, tuple[Any, Cost, Event]] = {}
        self._between: dict[str, Event] = {}
        self._open_ranges: list[tuple[str, int]] = []
        self._step = 0
        self._step_start = 0
        self._overhead = 0

    # ------------------------------------------------------------------ on and off
    def start(self, step: int) -> None:
        self._previous = engine.set_observer(self._forward), engine.set_backward_observer(self._backward)
        engine.set_accumulate(self._accumulate)
        engine.set_copy(self._copy)
        _core.profile_set_on(True)
        _core.profile_sample()  # throws away what came before
        self._last = _core.profile_sample()
        self._begin_step(step)

    def stop(self) -> None:
        self._cut(self._gap(BETWEEN))
        self._end_step()
        _core.profile_set_on(False)
        engine.set_observer(self._previous[0])
        engine.set_backward_observer(self._previous[1])
        engine.set_accumulate(_maps.accumulate)
        engine.set_copy(_maps.copy_like)
        self._awaiting.clear()

    def next_step(self, step: int) -> None:
        self._cut(self._gap(BETWEEN))
        self._end_step()
        self._begin_step(step)

    def _begin_step(self, step: int) -> None:
        self._step, self._overhead, self._between = step, 0, {}
        self._step_start = self._last[0]
        self._resume()

    def _end_step(self) -> None:
        self.steps.append(StepSpan(self._step, self._step_start, self._last[0], self._overhead))
        self.events.extend(e for e in self._between.values() if e.wall > 0)

    # ------------------------------------------------------------------ time
    def _cut(self, owner: Event) -> None:
        """End a piece of time and give it to its owner."""
        s = _core.profile_sample()
        now, processor, current, peak, allocations, system, faults, dropped, spans = s
        before = self._last
        wall = now - self._resumed
        kernel = waited = on_processor = 0
        for name, begin, end, cpu, wait, busy, threads in spans:
            wait = max(wait, end - begin - cpu)  # for other threads, or because another program had the processor
            kernel += end - begin - wait
            waited += wait
            on_processor += cpu
            owner.busy += busy
            if threads > owner.threads:
                owner.threads = threads
            owner.kernels.append(KernelRun(name, begin, end - begin, wait, threads))
        outside = wall - kernel - waited
        off = outside - (processor - self._resumed_processor - on_processor)
        owner.wall += wall
        owner.kernel += kernel
        owner.waiting += waited + min(max(off, 0), max(outside, 0))
        owner.allocations += allocations - before[4]
        owner.system_allocations += system - before[5]
        owner.faults += faults - before[6]
        owner.memory = current
        owner.end = now
        if peak > owner.peak:
            owner.peak = peak
        self.dropped += dropped
        self.memory.append(MemoryPoint(now, current, peak))
        self._last = s

    def _resume(self) -> None:
        """What happened since the cut was the profiler's own work."""
        self._resumed_processor = time.thread_time_ns()
        self._resumed = time.perf_counter_ns()
        self._overhead += self._resumed - self._last[0]

    def _gap(self, phase: str) -> Event:
        """What lies between operations is filed by what follows it; inside an operation it belongs to that."""
        if self._stack:
            return self._stack[-1].event
        event = self._between.get(phase)
        if event is None:
            event = self._between[phase] = Event(_GAPS[phase], BETWEEN, step=self._step, start=self._resumed)
        return event

    # ------------------------------------------------------------------ operations
    def _run(self, event: Event, folds: bool, counts: bool, call: Any, arrays: list[Any]) -> Any:
        """Run a call as `event`. Operations inside are part of it if it `folds`, and their cost is its own if it `counts`."""
        self._stack.append(_Frame(event, folds, counts))
        self._resume()
        try:
            return call(*arrays)
        finally:
            self._cut(event)
            self._stack.pop()

    def _forward(self, op: Any, ctx: Any, arrays: list[Any]) -> Any:
        if threading.get_ident() != self.thread:  # a data loader at work meanwhile
            return op.forward(ctx, *arrays)
        name = getattr(op, "name", "") or op.__name__.lower()
        phase = OPTIMIZER if name == "optimizer_step" else FORWARD
        outer = self._stack[-1] if self._stack else None
        self._cut(self._gap(phase))
        try:
            if outer is not None and outer.folds:
                out = self._run(outer.event, True, outer.counts, op.forward, [ctx, *arrays])
                if outer.counts:
                    _add(outer.event, op.cost(_shape(out), *arrays))
                return out
            path = engine.current_module_path()
            event = Event(name, outer.event.phase if outer else phase, path, self._step, self._last[0])
            self.events.append(event)
            out = self._run(event, False, True, op.forward, [ctx, *arrays])
            self._describe(event, op, ctx, arrays, out)
            return out
        finally:
            self._resume()

    def _describe(self, event: Event, op: Any, ctx: Any, arrays: list[Any], out: Any) -> None:
        given = [a for a in arrays if type(a) is np.ndarray]
        event.inputs, event.output = tuple(a.shape for a in given), _shape(out)
        event.itemsize = next((a.itemsize for a in given if a.dtype.kind == "f"), 4)
        cost = Cost(0, 0) if event.name in _CONTAINERS else op.cost(event.output, *arrays)
        _add(event, cost)
        if ctx is not None and any(ctx.needs):
            self._awaiting[id(ctx)] = op, cost, event

    def _backward(self, op: Any, node: Any, gradients: list[Any]) -> Any:
        if threading.get_ident() != self.thread:
            return op.backward(node, *gradients)
        name = getattr(op, "name", "") or op.__name__.lower()
        self._cut(self._gap(BACKWARD))
        try:
            event = Event(name, BACKWARD, node.module_path or "", self._step, self._last[0])
            self.events.append(event)
            native = not op.backward_on_tensors
            known = self._awaiting.get(id(node))
            if known is not None and known[0] is op:  # else its forward was not recorded
                _, cost, forward = known
                event.inputs, event.output, event.itemsize = forward.inputs, forward.output, forward.itemsize
                if native:
                    _add(event, op.backward_cost(cost, node.needs))
            return self._run(event, name not in _CONTAINERS, not native, op.backward, [node, *gradients])
        finally:
            self._resume()

    def _accumulate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self._gradient_work(_Accumulate, _maps.accumulate, a, b)

    def _copy(self, array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return self._gradient_work(_CopyGradient, _maps.copy_like, array, like)

    def _gradient_work(self, op: type[Op], call: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if threading.get_ident() != self.thread:
            return call(a, b)
        self._cut(self._gap(BACKWARD))
        try:
            event = Event(op.name, BACKWARD, "", self._step, self._last[0])
            event.inputs, event.output, event.itemsize = (a.shape,), a.shape, a.itemsize
            self.events.append(event)
            _add(event, op.cost(a.shape, *([a, b] if op is _Accumulate else [a])))
            return self._run(event, True, False, call, [a, b])
        finally:
            self._resume()

    # ------------------------------------------------------------------ ranges
    def enter_range(self, name: str) -> None:
        if threading.get_ident() == self.thread:
            self._open_ranges.append((name, time.perf_counter_ns()))

    def leave_range(self) -> None:
        if threading.get_ident() == self.thread and self._open_ranges:
            name, start = self._open_ranges.pop()
            self.ranges.append(RangeSpan(name, self._step, start, time.perf_counter_ns()))


class _Frame(NamedTuple):
    """An operation that is running."""

    event: Event
    folds: bool
    counts: bool


def _shape(out: Any) -> tuple[int, ...]:
    first = out[0] if isinstance(out, tuple) else out
    return () if first is None else tuple(first.shape)


def _add(event: Event, cost: Cost) -> None:
    event.flops += int(cost.flops)
    event.bytes += int(cost.bytes)
