"""AlexNet, in the form with one column that published weights have.

Sources: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012); the sizes
are those of Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014), arXiv:1404.5997.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.models.registry import register

__all__ = ["AlexNet"]


@register("alexnet", input_size=(3, 224, 224))
class AlexNet(nn.Module):
    """Five convolutions and three linear layers: 61,100,840 parameters.

    Shapes: (N, in_channels, H, W) -> (N, num_classes); 224 x 224 as published, at least 63 x 63.

    Parameters
    ----------
    num_classes, in_channels : int
        Classes; channels of the image.
    dropout : float
        Probability before the two hidden linear layers.
    hidden : int
        Units of these layers, which hold most of the parameters: 4096 as published.
    width : float
        Factor on the maps of all convolutions.
    small_stem : bool
        A first convolution of 5 x 5 with stride 1 in the place of 11 x 11 with stride 4, and 3 x 3 maps before the linear
        layers: for images of 28 to 64 pixels.

    Source: Krizhevsky 2014 (without the paper's local response norm); names of parts as in torchvision.
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5, hidden: int = 4096, width: float = 1.0,
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        a, b, c, d = (max(round(maps * width), 1) for maps in (64, 192, 384, 256))
        side = 3 if small_stem else 6
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, a, 5 if small_stem else 11, stride=1 if small_stem else 4, padding=2), nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.Identity() if small_stem else nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((side, side))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(d * side * side, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.features(input))  # (N, 256, 6, 6), with small_stem (N, 256, 3, 3)
        return self.classifier(pydl.flatten(x, 1))
