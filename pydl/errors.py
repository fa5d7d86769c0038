"""The exceptions of pydl: each message says what was expected, what came, and the likely fix."""

from __future__ import annotations


class PydlError(Exception):
    """Base of all errors that pydl raises itself.

    `add_module` lets each enclosing module put its name in front, so that the message names the layer's path.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.module_path: list[str] = []

    def add_module(self, name: str) -> None:
        if name:
            self.module_path.insert(0, name)

    def __str__(self) -> str:
        message = super().__str__()
        return f"in module {'.'.join(self.module_path)}: {message}" if self.module_path else message


class ShapeError(PydlError, ValueError):
    """An argument has the wrong shape."""


class TooSmallError(ShapeError):
    """A window does not fit into its input; `least` is the size from which images pass through the network, once known."""

    least: tuple[int, ...] | None = None

    def __str__(self) -> str:
        message = super().__str__()
        if self.least is None:
            return message
        return f"{message}; the network needs inputs of at least {' x '.join(map(str, self.least))}"


class DTypeError(PydlError, TypeError):
    """An argument has the wrong element type."""


class ArgumentError(PydlError, ValueError):
    """An argument has an impossible value."""


class GraphError(PydlError, RuntimeError):
    """The tape was used in a way that would give wrong gradients."""


class NonFiniteError(PydlError, ArithmeticError):
    """A NaN or Inf appeared where anomaly detection (or the trainer) looks for it."""


class MissingExtraError(PydlError, ImportError):
    """An optional dependency is not installed."""
