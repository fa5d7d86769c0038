"""MobileNet v1: convolutions split into one for each channel and one across channels.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications" (2017),
arXiv:1704.04861, table 1.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["MobileNetV1"]

# Table 1: maps and stride of each depthwise separable convolution.
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class DepthwiseSeparable(nn.Module):
    """3 x 3 for each channel alone, then 1 x 1 across channels, each with batch norm and ReLU (figure 3 of the paper).

    About 1/outputs + 1/9 of the operations of a full 3 x 3 convolution.
    Shapes: (N, inputs, H, W) -> (N, outputs, H/stride, W/stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, input: Any) -> Any:
        x = nn.conv_norm_act(self.depthwise, self.bn1, self.relu, input)
        return nn.conv_norm_act(self.pointwise, self.bn2, self.relu, x)


@register("mobilenet_v1", input_size=(3, 224, 224))
class MobileNetV1(nn.Module):
    """A full convolution, thirteen depthwise separable ones, and one linear layer on the global average.

    4,231,976 parameters at width 1. Shapes: (N, in_channels, H, W) -> (N, num_classes), from about 32 x 32.

    Parameters
    ----------
    num_classes, in_channels : int
        Classes; channels of the image.
    width : float
        Multiplies all numbers of maps (the paper's alpha: 1, 0.75, 0.5, 0.25).
    dropout : float
        Probability before the linear layer.

    Source: Howard et al. 2017.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, dropout: float = 0.001) -> None:
        super().__init__()
        if width <= 0:
            raise ArgumentError(f"MobileNetV1: width={width}; expected a positive factor such as 1, 0.75 or 0.5")
        inputs = max(8, int(32 * width))
        self.stem = nn.Sequential(nn.Conv2d(in_channels, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU())
        layers: list[Any] = []
        for maps, stride in LAYERS:
            outputs = max(8, int(maps * width))
            layers.append(DepthwiseSeparable(inputs, outputs, stride))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.features(self.stem(input)))
        return self.fc(self.dropout(pydl.flatten(x, 1)))
