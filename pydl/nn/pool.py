"""Pooling layers; one class body per kind for 1, 2 and 3 spatial axes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

from pydl import ops
from pydl.nn.module import Module
from pydl.ops.pool import Ints, OptionalInts

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "GlobalAvgPool", "GlobalMaxPool", "LPPool1d", "LPPool2d",
    "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]


class _Pool(Module):
    """Holds the arguments of `pydl.<function><axes>d` and calls it."""

    function: ClassVar[str]
    axes: ClassVar[int]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        for name, value in arguments.items():
            setattr(self, name, value)
        self.argument_names = tuple(arguments)

    def forward(self, input: Any) -> Any:
        function = getattr(ops, f"{self.function}{self.axes}d")
        return function(input, **{name: getattr(self, name) for name in self.argument_names})

    def extra_repr(self) -> str:
        usual = inspect.signature(type(self).__init__).parameters
        values = {name: getattr(self, name) for name in self.argument_names}
        return ", ".join(f"{k}={v}" for k, v in values.items() if v != usual[k].default)


class _MaxPool(_Pool):
    function = "max_pool"

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
                         return_indices=return_indices, ceil_mode=ceil_mode)


class MaxPool1d(_MaxPool):
    """The largest of each window: (N, C, L) -> (N, C, L'). Arguments and formula: `pydl.max_pool2d`."""

    axes = 1


class MaxPool2d(_MaxPool):
    """The largest of each window: (N, C, H, W) -> (N, C, H', W'). Arguments and formula: `pydl.max_pool2d`."""

    axes = 2


class MaxPool3d(_MaxPool):
    """The largest of each window: (N, C, D, H, W) -> (N, C, D', H', W'). Arguments and formula: `pydl.max_pool2d`."""

    axes = 3


class AvgPool1d(_Pool):
    """The mean of each window: (N, C, L) -> (N, C, L'). Arguments and formula: `pydl.avg_pool2d`."""

    function, axes = "avg_pool", 1

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
                         count_include_pad=count_include_pad)


class AvgPool2d(_Pool):
    """The mean of each window: (N, C, H, W) -> (N, C, H', W'). Arguments and formula: `pydl.avg_pool2d`."""

    function, axes = "avg_pool", 2

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
                         count_include_pad=count_include_pad, divisor_override=divisor_override)


class AvgPool3d(AvgPool2d):
    """The mean of each window: (N, C, D, H, W) -> (N, C, D', H', W'). Arguments and formula: `pydl.avg_pool2d`."""

    axes = 3


class _LPPool(_Pool):
    function = "lp_pool"

    def __init__(self, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class LPPool1d(_LPPool):
    """The p-norm of each window: (N, C, L) -> (N, C, L'). Arguments and formula: `pydl.lp_pool2d`."""

    axes = 1


class LPPool2d(_LPPool):
    """The p-norm of each window: (N, C, H, W) -> (N, C, H', W'). Arguments and formula: `pydl.lp_pool2d`."""

    axes = 2


class LPPool3d(_LPPool):
    """The p-norm of each window: (N, C, D, H, W) -> (N, C, D', H', W'). Arguments and formula: `pydl.lp_pool2d`."""

    axes = 3


class _AdaptiveAvgPool(_Pool):
    function = "adaptive_avg_pool"

    def __init__(self, output_size: OptionalInts) -> None:
        super().__init__(output_size=output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The mean of each part of the axis: (N, C, L) -> (N, C, output_size). Formula: `pydl.adaptive_avg_pool2d`."""

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The mean of each part of the plane: (N, C, H, W) -> (N, C, *output_size). Formula: `pydl.adaptive_avg_pool2d`."""

    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The mean of each part of the volume: (N, C, D, H, W) -> (N, C, *output_size). Formula: `pydl.adaptive_avg_pool2d`."""

    axes = 3


class _AdaptiveMaxPool(_Pool):
    function = "adaptive_max_pool"

    def __init__(self, output_size: OptionalInts, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest of each part of the axis: (N, C, L) -> (N, C, output_size). Parts: `pydl.adaptive_avg_pool2d`."""

    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest of each part of the plane: (N, C, H, W) -> (N, C, *output_size). Parts: `pydl.adaptive_avg_pool2d`."""

    axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest of each part of the volume: (N, C, D, H, W) -> (N, C, *output_size). Parts: `pydl.adaptive_avg_pool2d`."""

    axes = 3


class _GlobalPool(Module):
    function: ClassVar[str]

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, input: Any) -> Any:
        return getattr(ops, self.function)(input, self.keepdim)

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}"


class GlobalAvgPool(_GlobalPool):
    """The mean over all of space: (N, C, spatial...) -> (N, C), or (N, C, 1, ...) with keepdim."""

    function = "global_avg_pool"


class GlobalMaxPool(_GlobalPool):
    """The largest over all of space: (N, C, spatial...) -> (N, C), or (N, C, 1, ...) with keepdim."""

    function = "global_max_pool"


class _MaxUnpool(_Pool):
    function = "max_unpool"

    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding)

    def forward(self, input: Any, indices: Any, output_size: Sequence[int] | None = None) -> Any:  # type: ignore[override]
        function = getattr(ops, f"max_unpool{self.axes}d")
        return function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """Maxima put back where they were: (N, C, L') and indices -> (N, C, L). See `pydl.max_unpool2d`."""

    axes = 1


class MaxUnpool2d(_MaxUnpool):
    """Maxima put back where they were: (N, C, H', W') and indices -> (N, C, H, W). See `pydl.max_unpool2d`."""

    axes = 2


class MaxUnpool3d(_MaxUnpool):
    """Maxima put back where they were: (N, C, D', H', W') and indices -> (N, C, D, H, W). See `pydl.max_unpool2d`."""

    axes = 3
