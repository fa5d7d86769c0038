"""HyperNetwork: a small network makes the kernels of a larger one out of a few numbers for each of its layers.

Source: Ha, Dai, Le, "HyperNetworks" (2016), arXiv:1609.09106, section 3.1 (static hypernetworks).
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["HyperConv2d", "HyperNetwork", "KernelGenerator"]


class KernelGenerator(nn.Module):
    """Two linear layers from an embedding z to a kernel: for each input map i, a_i = W_i z + b_i; K_i = W_out a_i + b_out.

    Shapes: (U, embedding) -> (U, outputs, inputs, k, k). W_out is the same for all input maps: this is what saves parameters.

    Parameters
    ----------
    inputs, outputs, kernel_size : int
        Size of the kernel.
    embedding, hidden : int
        Sizes of z and of a_i.

    Source: Ha et al. 2016, equations 2. With 16, 16, 7, 4 and 4 it has the 4,240 parameters of the paper's MNIST example,
    in the place of 12,544 weights.
    """

    def __init__(self, inputs: int = 16, outputs: int = 16, kernel_size: int = 7, embedding: int = 4, hidden: int = 4) -> None:
        super().__init__()
        self.size = (inputs, outputs, kernel_size)
        self.hidden = hidden
        self.project = nn.Linear(embedding, inputs * hidden)
        self.out = nn.Linear(hidden, outputs * kernel_size**2)
        # Var(K) = 2 / fan-in for embeddings of variance 1, so that the generated layer starts as He's initialisation does.
        nn.init.normal_(self.project.weight, 0, embedding**-0.5)
        nn.init.zeros_(self.project.bias)
        nn.init.normal_(self.out.weight, 0, (2 / (inputs * kernel_size**2 * hidden)) ** 0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, input: Any) -> Any:
        inputs, outputs, k = self.size
        a = self.project(input).reshape(-1, inputs, self.hidden)  # (U, inputs, hidden)
        return self.out(a).reshape(-1, inputs, outputs, k, k).transpose(1, 2)


class HyperConv2d(nn.Module):
    """A convolution without weights of its own: a generator, shared by many layers, makes them from the layer's embeddings.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W) with stride 1. A layer larger than the generator's kernel is
    tiled by several kernels, each from an embedding of its own.

    Parameters
    ----------
    generator : KernelGenerator
        Makes the kernels; give the same one to all layers.
    in_channels, out_channels : int
        Multiples of the generator's.

    Source: Ha et al. 2016, equation 3.
    """

    def __init__(self, generator: Any, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inputs, outputs, kernel_size = generator.size
        if in_channels % inputs or out_channels % outputs:
            raise ArgumentError(f"HyperConv2d: {in_channels} to {out_channels} channels; expected multiples of the generator's "
                                f"{inputs} and {outputs}")
        self.generator = generator
        self.tiles = (out_channels // outputs, in_channels // inputs)
        self.stride, self.padding = stride, kernel_size // 2
        self.embeddings = nn.Parameter(pydl.zeros(self.tiles[0] * self.tiles[1], generator.project.in_features))
        self.bias = nn.Parameter(pydl.zeros(out_channels))
        nn.init.normal_(self.embeddings)

    def weight(self) -> Any:
        """The generated kernels (out_channels, in_channels, k, k)."""
        rows, columns = self.tiles
        kernels = self.generator(self.embeddings)  # (rows * columns, O, I, k, k)
        lines = [pydl.cat([kernels[r * columns + c] for c in range(columns)], 1) for r in range(rows)]
        return pydl.cat(lines, 0)

    def forward(self, input: Any) -> Any:
        return nn.functional.conv2d(input, self.weight(), self.bias, self.stride, self.padding)


@register("hypernetwork", input_size=(1, 28, 28))
class HyperNetwork(nn.Module):
    """The paper's network for MNIST: two convolutions of 7 x 7 with pooling and a linear layer; the second is generated.

    Shapes: (N, in_channels, 28, 28) -> (N, num_classes). 12,910 parameters, against 21,210 with a kernel of its own.

    Parameters
    ----------
    generated : int
        How many generated layers there are, all by the same generator; each more costs `embedding` + 16 parameters.
    embedding, hidden : int
        Numbers that describe a layer; width of the generator.
    num_classes, in_channels : int
        Classes; channels of the image.

    Source: Ha et al. 2016, section 4.1.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, generated: int = 1, embedding: int = 4, hidden: int = 4
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 7, padding=3)
        self.generator = KernelGenerator(16, 16, 7, embedding, hidden)
        self.layers = nn.ModuleList([HyperConv2d(self.generator, 16, 16) for _ in range(generated)])
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(16 * 7 * 7, num_classes)

    def forward(self, input: Any) -> Any:
        x = self.pool(self.relu(self.conv1(input)))  # (N, 16, 14, 14)
        for layer in self.layers:
            x = self.relu(layer(x))
        return self.fc(pydl.flatten(self.pool(x), 1))
