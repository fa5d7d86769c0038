"""Context managers that switch recording: no_grad, enable_grad, inference_mode, set_detect_anomaly; `observe` watches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from pydl.graph import engine


class _Mode(ContextDecorator):
    """A context manager that also decorates functions; the previous state returns at the end."""

    def __init__(self) -> None:
        self._previous: list[Any] = []

    def _switch(self) -> Any:
        raise NotImplementedError

    def _restore(self, previous: Any) -> None:
        raise NotImplementedError

    def __enter__(self) -> None:
        self._previous.append(self._switch())

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore(self._previous.pop())


class set_grad_enabled(_Mode):
    """Record operations or not, by an argument."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = mode

    def _switch(self) -> bool:
        previous = engine.is_grad_enabled()
        engine.set_grad_mode(self.mode)
        return previous

    def _restore(self, previous: bool) -> None:
        engine.set_grad_mode(previous)


class no_grad(set_grad_enabled):
    """Do not record operations: for evaluation and for updates of parameters."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Record operations again inside `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class inference_mode(_Mode):
    """Like `no_grad`, and the tensors made inside can never enter a recorded operation that saves them."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode

    def _switch(self) -> tuple[bool, bool]:
        previous = engine.is_grad_enabled(), engine.is_inference_mode_enabled()
        engine.set_inference_mode(self.mode)
        if self.mode:
            engine.set_grad_mode(False)
        return previous

    def _restore(self, previous: tuple[bool, bool]) -> None:
        engine.set_grad_mode(previous[0])
        engine.set_inference_mode(previous[1])


class set_detect_anomaly(_Mode):
    """Check every result: the first NaN or Inf raises `NonFiniteError` naming the operation and the module path."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode

    def _switch(self) -> bool:
        previous = engine.is_anomaly_enabled()
        engine.set_anomaly_mode(self.mode)
        return previous

    def _restore(self, previous: bool) -> None:
        engine.set_anomaly_mode(previous)


detect_anomaly = set_detect_anomaly


class observe(_Mode):
    """Let `function(op, ctx, arrays)` run every forward inside, and see what goes in and out (profiler, summary).

    It must return ``op.forward(ctx, *arrays)``, the output array or tuple of them. An outer observer rests meanwhile.
    """

    def __init__(self, function: Callable[[Any, Any, list[Any]], Any]) -> None:
        super().__init__()
        self.function = function

    def _switch(self) -> Any:
        return engine.set_observer(self.function)

    def _restore(self, previous: Any) -> None:
        engine.set_observer(previous)
