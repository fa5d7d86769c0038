"""Convolution layers; one class body for 1, 2 and 3 spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydl import ops
from pydl.errors import ArgumentError
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module
from pydl.ops.conv import resolve_padding, tuple_of

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

Ints = int | Sequence[int]


class _ConvNd(Module):
    axes: ClassVar[int]
    transposed: ClassVar[bool] = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1,
        groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ArgumentError(f"{name}: padding_mode={padding_mode!r}; expected zeros, reflect, replicate or circular")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = tuple_of(name, "kernel_size", kernel_size, self.axes)
        self.stride = tuple_of(name, "stride", stride, self.axes)
        self.dilation = tuple_of(name, "dilation", dilation, self.axes)
        self.padding, self.padding_mode = padding, padding_mode
        shape = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = new_parameter(*shape, *self.kernel_size)
        self.register_parameter("bias", new_parameter(out_channels) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(fan_in), as in PyTorch."""
        init.inv_sqrt_(self.weight)
        if self.bias is not None:
            bound = max(init.calculate_fan(self.weight)[0], 1) ** -0.5
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any, relu: bool = False, norm: Any = None, residual: Any = None) -> Any:
        """`relu`: see `conv_act`, which calls with it; `norm` and `residual`: see `conv_norm_act`."""
        padding = self.padding
        if self.padding_mode != "zeros":
            pairs = resolve_padding(type(self).__name__, padding, self.kernel_size, self.stride, self.dilation)
            input = ops.pad(input, [n for pair in reversed(pairs) for n in pair], self.padding_mode)
            padding = 0
        if norm is not None:
            return ops.conv_norm(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups,
                                 norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps, residual=residual,
                                 relu=relu)
        function = getattr(ops, f"conv{self.axes}d")
        return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups, relu=relu)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", 0), ("dilation", (1,) * self.axes), ("groups", 1), ("padding_mode", "zeros")):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text + ("" if self.bias is not None else ", bias=False")


class Conv1d(_ConvNd):
    """Convolution over one axis: (N, C, L) -> (N, O, L'). Arguments and formula: `pydl.conv2d`."""

    axes = 1


class Conv2d(_ConvNd):
    """Convolution over H and W: (N, C, H, W) -> (N, O, H', W'). Arguments and formula: `pydl.conv2d`."""

    axes = 2


class Conv3d(_ConvNd):
    """Convolution over D, H, W: (N, C, D, H, W) -> (N, O, D', H', W'). Arguments and formula: `pydl.conv2d`."""

    axes = 3


class _ConvTransposeNd(_ConvNd):
    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1, padding: Ints = 0,
        output_padding: Ints = 0, groups: int = 1, bias: bool = True, dilation: Ints = 1, padding_mode: str = "zeros",
    ) -> None:
        if padding_mode != "zeros":
            raise ArgumentError(f"{type(self).__name__}: padding_mode={padding_mode!r}; expected 'zeros'")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.output_padding = tuple_of(type(self).__name__, "output_padding", output_padding, self.axes, 0)

    def forward(self, input: Any) -> Any:  # type: ignore[override]
        function = getattr(ops, f"conv_transpose{self.axes}d")
        return function(input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution over one axis: (N, C, L) -> (N, O, L'). Formula: `pydl.conv_transpose2d`."""

    axes = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution: (N, C, H, W) -> (N, O, H', W'). Formula: `pydl.conv_transpose2d`."""

    axes = 2


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution over D, H, W. Formula: `pydl.conv_transpose2d`."""

    axes = 3
