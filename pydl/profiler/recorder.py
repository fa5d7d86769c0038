"""The recorder: switches the native log on and off, and hands it over to be read (`pydl.profiler.reading`)."""

from __future__ import annotations

import threading
import time

from pydl import _core
from pydl.graph import engine
from pydl.profiler.events import RangeSpan
from pydl.profiler.reading import Reading


class Recorder:
    """Records the thread that starts it."""

    def __init__(self) -> None:
        self.ranges: list[RangeSpan] = []
        self.thread = threading.get_ident()
        self._log = _core.ProfileRecording()
        self._open_ranges: list[tuple[str, int]] = []
        self._step = 0

    def start(self, step: int) -> None:
        self._step = step
        _core.profile_set_on(True)
        engine.set_profiling(True)
        self._log.start()
        self._log.step(step)

    def next_step(self, step: int) -> None:
        self._step = step
        self._log.step(step)

    def stop(self) -> None:
        self._log.stop(self._step)
        engine.set_profiling(False)
        _core.profile_set_on(False)

    def read(self) -> Reading:
        """What was recorded, once stopped."""
        reading = Reading(self._log)
        self.forget()
        return reading

    def forget(self) -> None:
        self._log.forget()

    # ------------------------------------------------------------------ ranges
    def enter_range(self, name: str) -> None:
        if threading.get_ident() == self.thread:
            self._open_ranges.append((name, time.perf_counter_ns()))

    def leave_range(self) -> None:
        if threading.get_ident() == self.thread and self._open_ranges:
            name, start = self._open_ranges.pop()
            self.ranges.append(RangeSpan(name, self._step, start, time.perf_counter_ns()))
