"""Temporal convolutional network: causal convolutions whose dilation doubles from block to block.

Source: Bai, Kolter, Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
Modeling" (2018), arXiv:1803.01271, figure 1. The paper's weight normalisation, which it finds to change little, is left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["TCN", "TemporalConvNet"]


class CausalConv1d(nn.Module):
    """Convolution that sees the present and the past alone: padded on both sides, the end cut off. (N, C, T) -> (N, O, T)."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.extra = (kernel_size - 1) * dilation
        self.conv = nn.Conv1d(inputs, outputs, kernel_size, padding=self.extra, dilation=dilation)
        nn.init.normal_(self.conv.weight, 0, 0.01)

    def forward(self, input: Any) -> Any:
        x = self.conv(input)
        return x[:, :, : x.shape[2] - self.extra]


class TemporalBlock(nn.Module):
    """Twice causal convolution, ReLU and dropout; plus the input, widened by a 1 x 1 convolution if need be; ReLU.

    Shapes: (N, inputs, T) -> (N, outputs, T).
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            CausalConv1d(inputs, outputs, kernel_size, dilation), nn.ReLU(), nn.Dropout(dropout),
            CausalConv1d(outputs, outputs, kernel_size, dilation), nn.ReLU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.downsample = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None
        self.relu = nn.ReLU()

    def forward(self, input: Any) -> Any:
        return self.relu(self.net(input) + (input if self.downsample is None else self.downsample(input)))


class TemporalConvNet(nn.Sequential):
    """Temporal blocks with dilation 1, 2, 4, ... Shapes: (N, inputs, T) -> (N, channels[-1], T).

    An output depends on the last ``1 + 2 (kernel_size - 1) (2**len(channels) - 1)`` inputs and on none after it.
    """

    def __init__(self, inputs: int, channels: Sequence[int], kernel_size: int = 2, dropout: float = 0.2) -> None:
        if not channels or kernel_size < 2:
            raise ArgumentError(f"TemporalConvNet: channels={tuple(channels)}, kernel_size={kernel_size}; expected at least one "
                                "block, and kernels of 2 or more")
        blocks = []
        for i, outputs in enumerate(channels):
            blocks.append(TemporalBlock(inputs, outputs, kernel_size, 2**i, dropout))
            inputs = outputs
        super().__init__(*blocks)


@register("tcn", input_size=(1, 784))
class TCN(nn.Module):
    """Classifies a sequence by the last output of a `TemporalConvNet`. Shapes: (N, in_channels, T) -> (N, num_classes).

    The default is the paper's for images read pixel by pixel: eight blocks of 25 channels, 66,510 parameters, which
    look 3,061 steps back.

    Parameters
    ----------
    in_channels, num_classes : int
        Channels of the sequence; classes.
    channels : sequence of int
        Channels of each block.
    kernel_size : int
        Of all convolutions.
    dropout : float
        Probability within the blocks.

    Source: Bai et al. 2018.
    """

    def __init__(
        self, in_channels: int = 1, num_classes: int = 10, channels: Sequence[int] = (25,) * 8, kernel_size: int = 7,
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        self.tcn = TemporalConvNet(in_channels, channels, kernel_size, dropout)
        self.linear = nn.Linear(channels[-1], num_classes)

    def forward(self, input: Any) -> Any:
        return self.linear(self.tcn(input)[:, :, -1])
