"""`profile`, `schedule` and `record_function`: when the recorder runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from enum import Enum
from types import TracebackType
from typing import Any

from pydl.errors import ArgumentError
from pydl.profiler.recorder import Recorder
from pydl.profiler.result import Profile

__all__ = ["ProfilerAction", "profile", "record_function", "schedule"]


class ProfilerAction(Enum):
    """What the profiler does in one step."""

    NONE = 0
    WARMUP = 1  # records and throws away
    RECORD = 2
    RECORD_AND_SAVE = 3  # the last recorded step of a cycle


def schedule(
    *, wait: int = 0, warmup: int = 0, active: int, repeat: int = 0, skip_first: int = 0
) -> Callable[[int], ProfilerAction]:
    """A plan for `profile`: skip, then cycles of `wait` steps without recording, `warmup` thrown away, `active` recorded.

    Parameters
    ----------
    repeat : int
        How many cycles; 0 for no end.
    skip_first : int
        Steps before the first cycle.

    Examples
    --------
    >>> plan = schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [plan(i).name for i in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    counts = {"wait": wait, "warmup": warmup, "repeat": repeat, "skip_first": skip_first}
    for name, value in counts.items():
        if value < 0:
            raise ArgumentError(f"profiler.schedule: {name}={value}; expected 0 or more")
    if active < 1:
        raise ArgumentError(f"profiler.schedule: active={active}; expected at least one recorded step")
    length = wait + warmup + active

    def plan(step: int) -> ProfilerAction:
        step -= skip_first
        if step < 0 or (repeat and step >= repeat * length):
            return ProfilerAction.NONE
        position = step % length
        if position < wait:
            return ProfilerAction.NONE
        if position < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if position == length - 1 else ProfilerAction.RECORD

    return plan


_active: profile | None = None


class profile:
    """Record the operations of this thread inside the block.

    Without a schedule everything is recorded, and `step()` marks the borders of steps. With one, `step()` must be called after
    each step, and every cycle gives a `Profile` of its own.

    Parameters
    ----------
    schedule : callable, optional
        Step number -> `ProfilerAction`; see `schedule`.
    on_ready : callable, optional
        Called with the `Profile` at the end of each cycle (or of the block).
    model : Module, optional
        Gives the types of the modules in the tables.

    Attributes
    ----------
    results : list of Profile
        One for each cycle; `result` is the last.

    Examples
    --------
    >>> import pydl
    >>> x = pydl.ones(64, 64, requires_grad=True)
    >>> with profile() as p:
    ...     (x @ x).sum().backward()
    >>> sorted((row.name, row.flops) for row in p.result.by_op() if "matmul" in row.name)
    [('matmul', 524288), ('matmul backward', 1048576)]
    """

    def __init__(
        self, schedule: Callable[[int], ProfilerAction] | None = None, on_ready: Callable[[Profile], object] | None = None,
        model: Any = None,
    ) -> None:
        self._plan = schedule
        self._on_ready = on_ready
        self._types = {} if model is None else {path: type(m).__name__ for path, m in model.named_modules()}
        self._recorder: Recorder | None = None
        self._action = ProfilerAction.NONE
        self.results: list[Profile] = []
        self.step_number = 0

    @property
    def result(self) -> Profile:
        if not self.results:
            raise ArgumentError("profiler: nothing is recorded yet; the result is there when the block or a cycle has ended "
                                "(with a schedule: after wait + warmup + active calls of step())")  # fmt: skip
        return self.results[-1]

    def __enter__(self) -> profile:
        global _active
        if _active is not None:
            raise ArgumentError("profiler: another profile is active; end it first")
        _active = self
        self._switch(self._planned())
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _active
        try:
            if self._recorder is not None:
                self._finish(keep=self._action is not ProfilerAction.WARMUP)
        finally:
            _active = None

    def step(self) -> None:
        """The next step begins."""
        if _active is not self:
            raise ArgumentError("profiler: step() outside of the with block")
        self.step_number += 1
        self._switch(self._planned())

    def _planned(self) -> ProfilerAction:
        return ProfilerAction.RECORD if self._plan is None else self._plan(self.step_number)

    def _switch(self, action: ProfilerAction) -> None:
        before, self._action = self._action, action
        records = action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if before is ProfilerAction.RECORD_AND_SAVE or (before is ProfilerAction.RECORD and not records):
            self._finish(keep=True)
        elif before is ProfilerAction.WARMUP and action is not ProfilerAction.WARMUP:
            self._finish(keep=False)
        if action is ProfilerAction.NONE:
            return
        if self._recorder is None:
            self._recorder = Recorder()
            self._recorder.start(self.step_number)
        else:
            self._recorder.next_step(self.step_number)

    def _finish(self, keep: bool) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        recorder.stop()
        if not keep:
            recorder.forget()
        else:
            self.results.append(Profile.of(recorder, self._types))
            if self._on_ready is not None:
                self._on_ready(self.results[-1])


class record_function(ContextDecorator):
    """Name a block, or with `@record_function("name")` a function: it appears in the trace and among the ranges."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        if _active is not None and _active._recorder is not None:
            _active._recorder.enter_range(self.name)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if _active is not None and _active._recorder is not None:
            _active._recorder.leave_range()
