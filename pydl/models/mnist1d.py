"""The two networks that MNIST-1D compares: convolutional and fully connected, with as many layers and hidden units."""

from __future__ import annotations

from typing import Any

from pydl import nn
from pydl.models.registry import register


def _initialise(model: nn.Module) -> None:
    """He's initialisation, biases zero."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


@register("mnist1d-conv", input_size=(1, 40))
class MNIST1DConv(nn.Sequential):
    """Three convolutions of 15 channels, kernel 3, stride 2: (N, 1, 40) -> lengths 19, 9, 4 -> (N, 10).

    2,050 parameters, and about 17 % test error where the fully connected network stays near 40 %.

    Source: Prince, "Understanding Deep Learning" (2023), section 10.2.5; data: Greydanus and Kobak, arXiv:2011.14439.
    """

    def __init__(self, channels: int = 15, num_classes: int = 10) -> None:
        layers: list[Any] = []
        for before in (1, channels, channels):
            layers += [nn.Conv1d(before, channels, 3, stride=2), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(4 * channels, num_classes))
        _initialise(self)


@register("mnist1d-dense", input_size=(1, 40))
class MNIST1DDense(nn.Sequential):
    """Hidden layers of as many units as `MNIST1DConv` has: 285, 135, 60. Shapes: (N, 1, 40) -> (N, 10).

    59,065 parameters. Source: as for `MNIST1DConv`.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(40, 285), nn.ReLU(),
            nn.Linear(285, 135), nn.ReLU(),
            nn.Linear(135, 60), nn.ReLU(),
            nn.Linear(60, num_classes),
        )  # fmt: skip
        _initialise(self)
