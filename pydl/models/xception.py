"""Xception: depthwise separable convolutions throughout, with residual connections.

Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions" (2016), arXiv:1610.02357, figure 5.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["Xception"]


class SeparableConv2d(nn.Module):
    """3 x 3 for each channel alone, then 1 x 1 across channels, with nothing between them, then batch norm.

    Shapes: (N, inputs, H, W) -> (N, outputs, H, W).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, input: Any) -> Any:
        return nn.conv_norm_act(self.pointwise, self.bn, None, self.depthwise(input))


class Block(nn.Module):
    """ReLU and separable convolution for each width, then pooling if `stride` is 2; plus the input.

    The skip is a 1 x 1 convolution with batch norm where the shape changes.
    Shapes: (N, inputs, H, W) -> (N, widths[-1], H/stride, W/stride).
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], stride: int = 1, activate_first: bool = True) -> None:
        super().__init__()
        layers: list[Any] = []
        maps = inputs
        for i, width in enumerate(widths):
            if i or activate_first:
                layers.append(nn.ReLU())
            layers.append(SeparableConv2d(maps, width))
            maps = width
        if stride == 2:
            layers.append(nn.MaxPool2d(3, 2, 1))
        self.rep = nn.Sequential(*layers)
        changes = stride != 1 or inputs != maps
        self.skip = nn.Sequential(nn.Conv2d(inputs, maps, 1, stride, bias=False), nn.BatchNorm2d(maps)) if changes else None

    def forward(self, input: Any) -> Any:
        return self.rep(input) + (input if self.skip is None else self.skip(input))


@register("xception", input_size=(3, 299, 299))
class Xception(nn.Module):
    """Entry flow, `middle` equal blocks, exit flow: 22,855,952 parameters.

    Shapes: (N, in_channels, H, W) -> (N, num_classes); 299 x 299 as published, from about 32 x 32.

    Parameters
    ----------
    num_classes, in_channels : int
        Classes; channels of the image.
    width : float
        Multiplies all numbers of maps, for small versions.
    middle : int
        Blocks of the middle flow: 8 as published.
    dropout : float
        Probability before the linear layer.

    Source: Chollet 2016.
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, middle: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width <= 0 or middle < 0:
            raise ArgumentError(f"Xception: width={width}, middle={middle}; expected a positive factor, and 0 blocks or more")
        a, b, c, d, e, f, g, h = (max(8, int(n * width)) for n in (32, 64, 128, 256, 728, 1024, 1536, 2048))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, a, 3, 2, bias=False), nn.BatchNorm2d(a), nn.ReLU(),
            nn.Conv2d(a, b, 3, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip
        self.entry = nn.Sequential(Block(b, (c, c), 2, activate_first=False), Block(c, (d, d), 2), Block(d, (e, e), 2))
        self.middle = nn.Sequential(*(Block(e, (e, e, e)) for _ in range(middle)))
        self.exit = nn.Sequential(
            Block(e, (e, f), 2), SeparableConv2d(f, g), nn.ReLU(), SeparableConv2d(g, h), nn.ReLU()
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(h, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, input: Any) -> Any:
        x = self.exit(self.middle(self.entry(self.stem(input))))
        return self.fc(self.dropout(pydl.flatten(self.avgpool(x), 1)))
