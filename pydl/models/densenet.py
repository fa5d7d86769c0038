"""DenseNet: every layer of a block sees the maps of all layers before it.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks" (2016), arXiv:1608.06993, the
form with bottlenecks and compression (DenseNet-BC), table 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pydl
from pydl import nn
from pydl.models.registry import register

__all__ = ["DenseNet"]


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1 x 1 convolution to 4 growth_rate maps, the same with 3 x 3 to growth_rate new maps.

    Takes all maps so far. Shapes: (N, C, H, W) -> (N, growth_rate, H, W).
    """

    def __init__(self, inputs: int, growth_rate: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, bottleneck * growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth_rate)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(bottleneck * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Any) -> Any:
        x = nn.norm_act(self.norm1, self.relu1, maps)
        return self.dropout(self.conv2(nn.conv_norm_act(self.conv1, self.norm2, self.relu2, x)))


class DenseBlock(nn.Module):
    """Dense layers one after the other. Shapes: (N, C, H, W) -> (N, C + layers * growth_rate, H, W)."""

    def __init__(self, layers: int, inputs: int, growth_rate: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        self.names = [f"denselayer{i + 1}" for i in range(layers)]
        for i, name in enumerate(self.names):
            self.add_module(name, DenseLayer(inputs + i * growth_rate, growth_rate, bottleneck, dropout))

    def forward(self, input: Any) -> Any:
        # Joined pair by pair: each gradient is then a sum of two, not one of as many narrow strips as layers follow.
        maps = input
        for name in self.names:
            maps = pydl.cat([maps, getattr(self, name)(maps)], 1)
        return maps


class Transition(nn.Sequential):
    """Halves channels (1 x 1 convolution) and size (average pooling). Shapes: (N, C, H, W) -> (N, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)


class DenseNet(nn.Module):
    """Dense blocks with transitions between them. Shapes: (N, in_channels, H, W) -> (N, num_classes), from about 32 x 32.

    Parameters
    ----------
    layers : sequence of int
        Dense layers of each block.
    growth_rate : int
        Maps that each layer adds.
    stem : int
        Maps of the first convolution.
    num_classes, in_channels : int
        Classes; channels of the image.
    bottleneck : int
        The 1 x 1 convolutions make this many times `growth_rate` maps.
    dropout : float
        Probability on the maps that each layer adds.
    small_stem : bool
        One 3 x 3 convolution without pooling instead of 7 x 7 with stride and pooling: for images of 28 to 64 pixels.

    Source: Huang et al. 2016; names of parts as in torchvision.
    """

    def __init__(
        self, layers: Sequence[int] = (6, 12, 24, 16), growth_rate: int = 32, stem: int = 64, num_classes: int = 1000,
        in_channels: int = 3, bottleneck: int = 4, dropout: float = 0.0, small_stem: bool = False,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        kernel = (3, 1, 1) if small_stem else (7, 2, 3)  # size, stride, padding
        self.features.add_module("conv0", nn.Conv2d(in_channels, stem, *kernel, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(stem))
        self.features.add_module("relu0", nn.ReLU())
        if not small_stem:
            self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        maps = stem
        for i, n in enumerate(layers, 1):
            self.features.add_module(f"denseblock{i}", DenseBlock(n, maps, growth_rate, bottleneck, dropout))
            maps += n * growth_rate
            if i < len(layers):
                self.features.add_module(f"transition{i}", Transition(maps, maps // 2))
                maps //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(maps))
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(maps, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.classifier.bias)

    @staticmethod
    def published_name(key: str) -> str:
        """The name here of a tensor in the published files, which write denselayer1.norm.1 for denselayer1.norm1."""
        return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.relu(self.features(input)))
        return self.classifier(pydl.flatten(x, 1))


@register("densenet121", input_size=(3, 224, 224))
def densenet121(**options: Any) -> DenseNet:
    """DenseNet-121: 7,978,856 parameters. Options: of `DenseNet`."""
    return DenseNet(**{"layers": (6, 12, 24, 16), **options})
