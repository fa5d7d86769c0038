"""Activations that are more than a function of one input: with parameters, or over fixed axes."""

from __future__ import annotations

from typing import Any

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module

__all__ = ["PReLU", "Softmax2d"]


class PReLU(Module):
    """x for x > 0, weight * x otherwise, the slope being learnt: one for all, or one for each channel (He et al. 2015)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        if num_parameters < 1:
            raise ArgumentError(f"PReLU: num_parameters must be 1 or the number of channels, got {num_parameters}")
        self.num_parameters, self.init = num_parameters, init
        self.weight = new_parameter(num_parameters)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.constant_(self.weight, self.init)

    def forward(self, input: Any) -> Any:
        return ops.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Softmax2d(Module):
    """Softmax over the channels at every position. Shape: (N, C, H, W) or (C, H, W), kept."""

    def forward(self, input: Any) -> Any:
        if input.data.ndim not in (3, 4):
            raise ShapeError(f"[softmax2d] input must be (N, C, H, W) or (C, H, W), got {input.data.shape}")
        return ops.softmax(input, -3)
