"""Five networks for digits of 16 x 16: from a linear one to convolutions, by fewer connections and by shared weights.

Source: LeCun, "Generalization and Network Design Strategies", technical report CRG-TR-89-4 (1989), networks Net-1 to Net-5.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["LeCun1989"]


class SharedConv2d(nn.Module):
    """A convolution with weights shared by all places and a bias for each place. (N, C, H, W) -> (N, maps, size, size)."""

    def __init__(self, inputs: int, maps: int, kernel_size: int, size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, maps, kernel_size, stride, padding, bias=False)
        self.bias = nn.Parameter(pydl.zeros(maps, size, size))

    def forward(self, input: Any) -> Any:
        return self.conv(input) + self.bias


@register("lecun1989", input_size=(1, 16, 16))
class LeCun1989(nn.Sequential):
    """Net-1 to Net-5. Shapes: (N, 1, 16, 16) -> (N, num_classes).

    ===  ===========================================================  ===========  ==========
    net  hidden layers                                                connections  parameters
    ===  ===========================================================  ===========  ==========
    1    none                                                               2,570       2,570
    2    12 units, fully connected                                          3,214       3,214
    3    8 x 8 and 4 x 4 units, locally connected                           1,226       1,226
    4    two maps of 8 x 8 with shared weights, 4 x 4 units locally         2,266       1,132
    5    two maps of 8 x 8, four of 4 x 4, both with shared weights         5,194       1,060
    ===  ===========================================================  ===========  ==========

    Parameters
    ----------
    net : int
        1 to 5.
    num_classes : int
        Classes.

    Source: LeCun 1989.
    """

    def __init__(self, net: int = 5, num_classes: int = 10) -> None:
        first: Any = SharedConv2d(1, 2, 3, 8, stride=2, padding=1)
        if net == 1:
            layers: list[Any] = [nn.Flatten(), nn.Linear(256, num_classes)]
        elif net == 2:
            layers = [nn.Flatten(), nn.Linear(256, 12), nn.Tanh(), nn.Linear(12, num_classes)]
        elif net in (3, 4):
            if net == 3:
                first = nn.LocallyConnected2d(1, 1, 16, 3, stride=2, padding=1)
            second: Any = nn.LocallyConnected2d(net - 2, 1, 8, 5)
            layers = [first, nn.Tanh(), second, nn.Tanh(), nn.Flatten(), nn.Linear(16, num_classes)]
        elif net == 5:
            layers = [first, nn.Tanh(), SharedConv2d(2, 4, 5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(64, num_classes)]
        else:
            raise ArgumentError(f"LeCun1989: net={net}; expected 1 to 5")
        super().__init__(*layers)

    def connections(self) -> int:
        """How many products and biases one example passes through."""
        total = 0
        for layer in self:
            own = sum(p.numel() for p in layer.parameters())
            if isinstance(layer, SharedConv2d):  # a weight is used at every place, a bias at one
                maps, height, width = layer.bias.shape
                own = height * width * (layer.conv.weight.numel() + maps)
            total += own
        return total
