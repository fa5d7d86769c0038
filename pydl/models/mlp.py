"""Multilayer perceptron: fully connected layers with an activation between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register


@register("mlp", input_size=(1, 28, 28))
class MLP(nn.Sequential):
    """Fully connected layers of the given sizes. Shapes: (N, ...) with sizes[0] features -> (N, sizes[-1]).

    Parameters
    ----------
    sizes : sequence of int
        Features in, of each hidden layer, and out. Default: 28 x 28 pixels, 128 and 64 hidden units, 10 classes.
    activation : callable
        Makes the activation module after each layer but the last.
    dropout : float
        Probability of dropping a hidden unit while training; 0 for none.

    Examples
    --------
    >>> MLP((2, 4, 1))
    MLP(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=2, out_features=4, bias=True)
      (2): ReLU()
      (3): Linear(in_features=4, out_features=1, bias=True)
    )
    """

    def __init__(
        self, sizes: Sequence[int] = (784, 128, 64, 10), activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0
    ) -> None:
        if len(sizes) < 2 or any(n < 1 for n in sizes):
            raise ArgumentError(f"MLP: sizes={tuple(sizes)}; expected at least two positive numbers, features in and out")
        layers: list[nn.Module] = [nn.Flatten()]
        for i, (features, units) in enumerate(pairwise(sizes)):
            if i:
                layers.append(activation())
                if dropout:
                    layers.append(nn.Dropout(dropout))
            layers.append(nn.Linear(features, units))
        super().__init__(*layers)
