"""Padding layers for 1, 2 and 3 spatial axes: one class body, the mode and the number of axes as class attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.nn.module import Module

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d",
    "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d",
    "ZeroPad2d", "ZeroPad3d",
]

Ints = int | Sequence[int]


class _Pad(Module):
    """Padding of the last axes; shape (N, C, spatial...) or (C, spatial...)."""

    axes: ClassVar[int]
    mode: ClassVar[str]
    value: float = 0.0

    def __init__(self, padding: Ints) -> None:
        super().__init__()
        n = 2 * self.axes
        self.padding = (padding,) * n if isinstance(padding, int) else tuple(int(p) for p in padding)
        if len(self.padding) != n:
            raise ArgumentError(f"{type(self).__name__}: padding={padding}: expected one number or {n}, (before, after) for each "
                                "axis, the last axis first")

    def forward(self, input: Any) -> Any:
        if input.data.ndim not in (self.axes + 1, self.axes + 2):
            raise ShapeError(f"[pad] {type(self).__name__}: input must have {self.axes + 1} or {self.axes + 2} axes, got shape "
                             f"{input.data.shape}")
        return ops.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Ints, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Border of one value: (N, C, W), padding (left, right) -> (N, C, W + left + right)."""

    axes = 1


class ConstantPad2d(_ConstantPad):
    """Border of one value: (N, C, H, W), padding (left, right, top, bottom)."""

    axes = 2


class ConstantPad3d(_ConstantPad):
    """Border of one value: (N, C, D, H, W), padding (left, right, top, bottom, front, back)."""

    axes = 3


class ZeroPad1d(_Pad):
    """Border of zeros: (N, C, W), padding (left, right)."""

    axes, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Border of zeros: (N, C, H, W), padding (left, right, top, bottom)."""

    axes, mode = 2, "constant"


class ZeroPad3d(_Pad):
    """Border of zeros: (N, C, D, H, W), padding (left, right, top, bottom, front, back)."""

    axes, mode = 3, "constant"


class ReflectionPad1d(_Pad):
    """Border that mirrors the input, the edge itself left out: (N, C, W), padding (left, right)."""

    axes, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Border that mirrors the input, the edge itself left out: (N, C, H, W), padding (left, right, top, bottom)."""

    axes, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Border that mirrors the input, the edge itself left out: (N, C, D, H, W), padding of six numbers."""

    axes, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Border that repeats the edge: (N, C, W), padding (left, right)."""

    axes, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Border that repeats the edge: (N, C, H, W), padding (left, right, top, bottom)."""

    axes, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Border that repeats the edge: (N, C, D, H, W), padding of six numbers."""

    axes, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Border that comes from the other end: (N, C, W), padding (left, right)."""

    axes, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Border that comes from the other end: (N, C, H, W), padding (left, right, top, bottom)."""

    axes, mode = 2, "circular"


class CircularPad3d(_Pad):
    """Border that comes from the other end: (N, C, D, H, W), padding of six numbers."""

    axes, mode = 3, "circular"
