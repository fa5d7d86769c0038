"""VGG: depth by 3 x 3 convolutions alone.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014),
arXiv:1409.1556, table 1, columns A, B, D and E.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.models.registry import register

__all__ = ["VGG"]

# 3 x 3 convolutions by their number of maps; "M": 2 x 2 max pooling.
STAGES: dict[int, tuple[Any, ...]] = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    13: (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    16: (64, 64, "M", 128, 128, "M", *(256,) * 3, "M", *(512,) * 3, "M", *(512,) * 3, "M"),
    19: (64, 64, "M", 128, 128, "M", *(256,) * 4, "M", *(512,) * 4, "M", *(512,) * 4, "M"),
}


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions, each ended by pooling, then three linear layers.

    Shapes: (N, in_channels, H, W) -> (N, num_classes); 224 x 224 as published, at least 32 x 32.

    Parameters
    ----------
    depth : {11, 13, 16, 19}
        Layers with weights.
    batch_norm : bool
        Batch norm after each convolution (younger than the paper).
    num_classes, in_channels : int
        Classes; channels of the image.
    dropout : float
        Probability between the linear layers.
    hidden : int
        Units of the two hidden linear layers, which hold most of the parameters: 4096 as published.
    width : int
        Maps of the first stage; the later ones have 2, 4, 8 and 8 times as many.

    Source: Simonyan and Zisserman 2014; names of parts as in torchvision.
    """

    def __init__(
        self, depth: int, batch_norm: bool = False, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5,
        hidden: int = 4096, width: int = 64,
    ) -> None:
        super().__init__()
        layers: list[Any] = []
        inputs = in_channels
        for maps in STAGES[depth]:
            if maps == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            outputs = width * maps // 64
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 7 * 7, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.features(input))  # (N, 512, 7, 7)
        return self.classifier(pydl.flatten(x, 1))


@register("vgg11", input_size=(3, 224, 224))
def vgg11(**options: Any) -> VGG:
    """VGG-11 (column A): 132,863,336 parameters. Options: of `VGG`."""
    return VGG(11, **options)


@register("vgg13", input_size=(3, 224, 224))
def vgg13(**options: Any) -> VGG:
    """VGG-13 (column B): 133,047,848 parameters."""
    return VGG(13, **options)


@register("vgg16", input_size=(3, 224, 224))
def vgg16(**options: Any) -> VGG:
    """VGG-16 (column D): 138,357,544 parameters."""
    return VGG(16, **options)


@register("vgg19", input_size=(3, 224, 224))
def vgg19(**options: Any) -> VGG:
    """VGG-19 (column E): 143,667,240 parameters."""
    return VGG(19, **options)


@register("vgg11_bn", input_size=(3, 224, 224))
def vgg11_bn(**options: Any) -> VGG:
    """VGG-11 with batch norm: 132,868,840 parameters."""
    return VGG(11, batch_norm=True, **options)


@register("vgg13_bn", input_size=(3, 224, 224))
def vgg13_bn(**options: Any) -> VGG:
    """VGG-13 with batch norm: 133,053,736 parameters."""
    return VGG(13, batch_norm=True, **options)


@register("vgg16_bn", input_size=(3, 224, 224))
def vgg16_bn(**options: Any) -> VGG:
    """VGG-16 with batch norm: 138,365,992 parameters."""
    return VGG(16, batch_norm=True, **options)


@register("vgg19_bn", input_size=(3, 224, 224))
def vgg19_bn(**options: Any) -> VGG:
    """VGG-19 with batch norm: 143,678,248 parameters."""
    return VGG(19, batch_norm=True, **options)
