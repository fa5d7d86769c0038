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

    Source: Krizhevsky 2014 (without the paper's local response norm); names of parts as in torchvision.
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5, hidden: int = 4096
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip

    def forward(self, input: Any) -> Any:
        x = self.avgpool(self.features(input))  # (N, 256, 6, 6)
        return self.classifier(pydl.flatten(x, 1))
