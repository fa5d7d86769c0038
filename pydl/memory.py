"""The pool that kernel outputs live in: how much is in use, how much was, and how to give it back.

All figures are in bytes. ``PYDL_POOL=0`` switches the pool off, ``PYDL_POOL_CAP_MB`` limits what is kept for reuse.
"""

from __future__ import annotations

from pydl import _core

__all__ = ["current", "peak", "reset_peak", "set_cap", "set_enabled", "statistics", "trim"]


def current() -> int:
    """Bytes held by live arrays."""
    return int(_core.memory_current())


def peak() -> int:
    """The largest `current` since the start or the last `reset_peak`."""
    return int(_core.memory_peak())


def reset_peak() -> None:
    """Start measuring the peak anew."""
    _core.memory_reset_peak()


def trim(keep_bytes: int = 0) -> int:
    """Give pooled blocks back to the system until at most `keep_bytes` are pooled; returns the bytes given back."""
    return int(_core.memory_trim(keep_bytes))


def set_cap(bytes: int | None) -> None:
    """The most bytes to keep pooled for reuse; None for no limit."""
    _core.memory_set_cap(-1 if bytes is None else bytes)


def set_enabled(on: bool) -> None:
    """Switch the pool off (every block goes straight back to the system) or on again."""
    _core.memory_set_enabled(on)


def statistics() -> dict[str, int]:
    """current, peak, reserved (in use and pooled), and counts of allocations, in all and from the system."""
    return dict(_core.memory_statistics())
