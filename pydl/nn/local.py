"""Layers on windows of an image: locally connected, unfold, fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl import ops
from pydl.errors import ShapeError
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module
from pydl.ops.conv import output_size, resolve_padding, tuple_of
from pydl.ops.local import empty_filters

__all__ = ["Fold", "LocallyConnected2d", "Unfold"]

Ints = int | Sequence[int]


class LocallyConnected2d(Module):
    """A convolution whose filter is another one at every position. Formula: `pydl.locally_connected2d`.

    Shapes: (N, C, H, W) -> (N, O, H', W'); weight (H', W', O, C, kh, kw), bias (O, H', W'). For images in which a place has
    a meaning, faces say (LeCun 1989; Taigman et al. 2014, "DeepFace").

    Parameters
    ----------
    input_size : int or pair of int
        (H, W) of the images, which fixes how many filters there are.
    """

    def __init__(
        self, in_channels: int, out_channels: int, input_size: Ints, kernel_size: Ints, stride: Ints = 1, padding: Any = 0,
        dilation: Ints = 1, bias: bool = True,
    ) -> None:
        super().__init__()
        name = "LocallyConnected2d"
        self.in_channels, self.out_channels, self.padding = in_channels, out_channels, padding
        self.input_size = tuple_of(name, "input_size", input_size, 2)
        self.kernel_size = tuple_of(name, "kernel_size", kernel_size, 2)
        self.stride, self.dilation = tuple_of(name, "stride", stride, 2), tuple_of(name, "dilation", dilation, 2)
        pads = resolve_padding(name, padding, self.kernel_size, self.stride, self.dilation)
        self.output_size = tuple(
            output_size(n, k, s, p[0], p[1], d)
            for n, k, s, p, d in zip(self.input_size, self.kernel_size, self.stride, pads, self.dilation, strict=True)
        )
        if min(self.output_size) < 1:
            raise ShapeError(f"{name}: input_size={self.input_size} is smaller than the kernel {self.kernel_size}")
        self.weight = new_parameter(0)
        self.weight.data = empty_filters((*self.output_size, out_channels, in_channels, *self.kernel_size), np.float32)
        self.register_parameter("bias", new_parameter(out_channels, *self.output_size) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(C kh kw), as a convolution."""
        bound = max(self.in_channels * self.kernel_size[0] * self.kernel_size[1], 1) ** -0.5
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Any:
        return ops.locally_connected2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        return (f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}, kernel_size={self.kernel_size}, "
                f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, bias={self.bias is not None}")


class Unfold(Module):
    """Windows of an image as columns. Shapes: (N, C, H, W) -> (N, C kh kw, windows)."""

    def __init__(self, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Any) -> Any:
        return ops.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Columns added back as windows of an image. Shapes: (N, C kh kw, windows) -> (N, C, H, W)."""

    def __init__(
        self, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Any) -> Any:
        return ops.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
                f"padding={self.padding}, stride={self.stride}")
