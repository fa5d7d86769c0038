"""Layers that find out the size of their input at the first call."""

from __future__ import annotations

from typing import Any, ClassVar

from pydl.errors import ShapeError
from pydl.nn.conv import Conv1d, Conv2d, Conv3d
from pydl.nn.linear import Linear
from pydl.nn.module import Module
from pydl.ops._common import empty

__all__ = ["LazyConv1d", "LazyConv2d", "LazyConv3d", "LazyLinear"]


class _Lazy(Module):
    """The weight is empty until the first call, which makes it and turns the layer into one of the class `becomes`."""

    becomes: ClassVar[type[Module]]
    axis: ClassVar[int]  # of the input, which holds the features
    size: ClassVar[str]  # the attribute that is found out

    def reset_parameters(self) -> None:
        if getattr(self, self.size):
            self.becomes.reset_parameters(self)  # type: ignore[attr-defined]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        input = args[0]
        if input.data.ndim < abs(self.axis):
            raise ShapeError(f"{type(self).__name__}: input of shape {input.data.shape} has too few axes")
        features = input.data.shape[self.axis]
        setattr(self, self.size, features)
        weight = self.weight
        shape = (weight.data.shape[0], features // getattr(self, "groups", 1), *weight.data.shape[2:])
        weight.data = empty(shape, weight.data.dtype)
        object.__setattr__(self, "__class__", self.becomes)
        self.reset_parameters()
        return self.forward(*args, **kwargs)


class LazyLinear(_Lazy, Linear):
    """`Linear` that takes ``in_features`` from its first input. Call the network once before making the optimizer."""

    becomes, axis, size = Linear, -1, "in_features"

    def __init__(self, out_features: int, bias: bool = True) -> None:
        Linear.__init__(self, 0, out_features, bias)


class _LazyConv(_Lazy):
    size = "in_channels"

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        self.becomes.__init__(self, 0, out_channels, kernel_size, *args, **kwargs)  # type: ignore[call-arg]


class LazyConv1d(_LazyConv, Conv1d):
    """`Conv1d` that takes ``in_channels`` from its first input; the other arguments are the same."""

    becomes, axis = Conv1d, -2


class LazyConv2d(_LazyConv, Conv2d):
    """`Conv2d` that takes ``in_channels`` from its first input; the other arguments are the same."""

    becomes, axis = Conv2d, -3


class LazyConv3d(_LazyConv, Conv3d):
    """`Conv3d` that takes ``in_channels`` from its first input; the other arguments are the same."""

    becomes, axis = Conv3d, -4
