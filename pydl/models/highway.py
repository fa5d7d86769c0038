"""Highway network: gates decide, for each unit, how much is transformed and how much is carried through.

Source: Srivastava, Greff, Schmidhuber, "Training Very Deep Networks" (2015), arXiv:1507.06228, equations 2 and 3.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["Highway", "HighwayNetwork"]


class Highway(nn.Module):
    """y = H(x) T(x) + x (1 - T(x)), H = activation(W_H x + b_H), T = sigmoid(W_T x + b_T). Shapes: (..., D) -> (..., D).

    Parameters
    ----------
    features : int
        Units in and out.
    bias : float
        Where b_T starts: negative, so that the layer at first carries its input through.
    activation : {"relu", "tanh"}
        Of H.

    Source: Srivastava et al. 2015.
    """

    def __init__(self, features: int, bias: float = -2.0, activation: str = "relu") -> None:
        super().__init__()
        if activation not in ("relu", "tanh"):
            raise ArgumentError(f"Highway: activation={activation!r}; expected relu or tanh")
        self.transform = nn.Linear(features, features)
        self.gate = nn.Linear(features, features)
        self.activation = nn.ReLU() if activation == "relu" else nn.Tanh()
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, input: Any) -> Any:
        t = pydl.sigmoid(self.gate(input))
        return self.activation(self.transform(input)) * t + input * (1 - t)


@register("highway", input_size=(1, 28, 28))
class HighwayNetwork(nn.Module):
    """One plain layer, highway layers of equal width, one linear layer. Shapes: (N, ...) with `features` values -> (N, classes).

    Parameters
    ----------
    depth : int
        Layers with weights, the first and the last included: 10, 20, 50 and 100 in the paper.
    width : int
        Units of each layer: 50 as in the paper's experiments on MNIST.
    features, num_classes : int
        Values of an example; classes.
    bias, activation
        As of `Highway`.

    Source: Srivastava et al. 2015, section 3.
    """

    def __init__(
        self, depth: int = 20, width: int = 50, features: int = 784, num_classes: int = 10, bias: float = -2.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if depth < 3:
            raise ArgumentError(f"HighwayNetwork: depth={depth}; expected 3 or more: first, highway layers, last")
        self.flatten = nn.Flatten()
        self.first = nn.Linear(features, width)
        self.relu = nn.ReLU()
        self.layers = nn.Sequential(*(Highway(width, bias, activation) for _ in range(depth - 2)))
        self.last = nn.Linear(width, num_classes)

    def forward(self, input: Any) -> Any:
        return self.last(self.layers(self.relu(self.first(self.flatten(input)))))
