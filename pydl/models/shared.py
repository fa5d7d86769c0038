"""The same weights used more than once: in every layer of a recursive network, and in both arms of a Siamese one.

Sources: Eigen, Rolfe, Fergus, LeCun, "Understanding Deep Architectures using a Recursive Convolutional Network" (2013),
arXiv:1312.1847; Bromley et al., "Signature Verification using a Siamese Time Delay Neural Network" (1993).
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["RecursiveConvNet", "Siamese"]


@register("recursive_conv", input_size=(3, 32, 32))
class RecursiveConvNet(nn.Module):
    """One convolution to `width` maps, one 3 x 3 convolution applied `steps` times, pooling, a linear layer.

    Shapes: (N, in_channels, H, W) -> (N, num_classes). The number of parameters does not depend on `steps` with `tied`
    weights; without, it grows with them. The gradient of a tied weight is the sum over the steps.

    Parameters
    ----------
    steps : int
        How often the inner convolution is applied.
    width : int
        Maps.
    tied : bool
        False: each step has weights of its own (initialised alike, as identity and small noise).
    num_classes, in_channels : int
        Classes; channels of the image.

    Source: Eigen et al. 2013.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, steps: int = 4, width: int = 32, tied: bool = True
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ArgumentError(f"RecursiveConvNet: steps={steps}; expected 1 or more")
        self.steps = steps
        self.first = nn.Conv2d(in_channels, width, 8, 2, padding=3)
        self.inner = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(1 if tied else steps)])
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.fc = nn.Linear(width * 16, num_classes)
        for layer in self.inner:
            nn.init.dirac_(layer.weight)
            with pydl.no_grad():
                layer.weight += 0.03 * pydl.randn(*layer.weight.shape)
            nn.init.zeros_(layer.bias)

    def forward(self, input: Any) -> Any:
        x = self.pool(self.relu(self.first(input)))
        for i in range(self.steps):
            x = self.relu(self.inner[i % len(self.inner)](x))
        return self.fc(pydl.flatten(self.avgpool(x), 1))


class Embedding(nn.Module):
    """Three convolutions with pooling and a linear layer. Shapes: (N, in_channels, H, W) -> (N, features), of length 1."""

    def __init__(self, in_channels: int, features: int, width: int) -> None:
        super().__init__()
        layers: list[Any] = []
        inputs = in_channels
        for maps in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(inputs, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = maps
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.fc = nn.Linear(inputs * 16, features)

    def forward(self, input: Any) -> Any:
        x = self.fc(pydl.flatten(self.avgpool(self.features(input)), 1))
        return nn.functional.normalize(x)


@register("siamese")
class Siamese(nn.Module):
    """Two pictures through one and the same network; what comes out is the distance of their embeddings.

    Shapes: (N, in_channels, H, W) twice -> (N,), from 0 to 2. `embed` gives the embeddings themselves, (N, features).

    Parameters
    ----------
    in_channels, features : int
        Channels of the pictures; size of the embedding.
    width : int
        Maps of the first of three convolutions.

    Source: Bromley et al. 1993; with `contrastive_loss` of Hadsell, Chopra, LeCun 2006.
    """

    def __init__(self, in_channels: int = 1, features: int = 64, width: int = 16) -> None:
        super().__init__()
        self.embed = Embedding(in_channels, features, width)

    def forward(self, first: Any, second: Any) -> Any:
        apart = self.embed(first) - self.embed(second)
        return ((apart * apart).sum(1) + 1e-12) ** 0.5

    @staticmethod
    def contrastive_loss(distance: Any, same: Any, margin: float = 1.0) -> Any:
        """mean(same d^2 + (1 - same) max(0, margin - d)^2) over distances (N,), `same` being 1 or 0 for each pair."""
        short = pydl.clamp(margin - distance, min=0.0)
        return (same * distance**2 + (1 - same) * short**2).mean()
