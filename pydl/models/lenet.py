"""LeNet-5, the convolutional network that read cheques: as published, as usually taught, and as built today.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the
IEEE 86 (1998), section II.B and figure 2. The parts carry the paper's names: C1, S2, C3, S4, C5, F6, output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["LeNet5"]

# Table I of the paper: the maps of S2 that each of the 16 maps of C3 is connected to.
C3_INPUTS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Which of seven bars each digit lights: top, upper left, upper right, middle, lower left, lower right, bottom.
_SEGMENTS = ("1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011")
_BARS = (
    (slice(1, 2), slice(1, 6)), (slice(1, 6), slice(1, 2)), (slice(1, 6), slice(5, 6)), (slice(5, 6), slice(1, 6)),
    (slice(5, 11), slice(1, 2)), (slice(5, 11), slice(5, 6)), (slice(10, 11), slice(1, 6)),
)  # fmt: skip


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3): passes through (1, 1) and (-1, -1), and is steepest in between."""

    def forward(self, input: Any) -> Any:
        return 1.7159 * pydl.tanh(input * (2 / 3))


class Subsampling(nn.Module):
    """The sum of each 2 x 2 block, times a learnt coefficient and plus a learnt bias for each map, squashed.

    Shapes: (N, C, H, W) -> (N, C, H/2, W/2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(np.full((channels, 1, 1), 0.25, np.float32))
        self.bias = nn.Parameter(np.zeros((channels, 1, 1), np.float32))
        self.act = ScaledTanh()

    def forward(self, input: Any) -> Any:
        return self.act(4 * pydl.avg_pool2d(input, 2) * self.coefficient + self.bias)


class PartialConv(nn.Module):
    """Convolution in which each output map sees only some input maps, given as a tuple of their numbers for each.

    The kernels of all connections are one parameter (connections, k, k). Shapes: (N, C, H, W) -> (N, O, H', W').
    """

    def __init__(self, in_channels: int, inputs: tuple[tuple[int, ...], ...], kernel_size: int) -> None:
        super().__init__()
        self.shape = (len(inputs), in_channels, kernel_size, kernel_size)
        places = np.full((len(inputs), in_channels), sum(map(len, inputs)), np.int64)  # the row of zeros, where unconnected
        for o, maps in enumerate(inputs):
            for c in maps:
                places[o, c] = sum(map(len, inputs[:o])) + maps.index(c)
        self.register_buffer("places", pydl.from_numpy(places.ravel()), persistent=False)
        self.weight = nn.Parameter(np.zeros((sum(map(len, inputs)), kernel_size, kernel_size), np.float32))
        self.bias = nn.Parameter(np.zeros(len(inputs), np.float32))
        self.fan_in = [len(maps) * kernel_size**2 for maps in inputs for _ in maps]

    def full_weight(self) -> Any:
        """The kernels in a dense (O, C, k, k) with zeros where there is no connection."""
        k = self.shape[-1]
        rows = pydl.cat([self.weight, pydl.zeros(1, k, k, dtype=self.weight.dtype)])
        return pydl.index_select(rows, 0, self.places).reshape(*self.shape)

    def forward(self, input: Any) -> Any:
        return pydl.conv2d(input, self.full_weight(), self.bias)


class DigitCodes(nn.Module):
    """Minus the squared distance of 84 activations to a fixed 7 x 12 picture of each digit: (N, 84) -> (N, 10).

    The paper's output units (its pictures are drawn by hand, ours like a seven-segment display, in +1 and -1). The sign
    makes the likeliest digit the largest, so that cross-entropy applies.
    """

    def __init__(self) -> None:
        super().__init__()
        codes = np.full((10, 12, 7), -1.0, np.float32)
        for digit, lit in enumerate(_SEGMENTS):
            for bar, on in zip(_BARS, lit, strict=True):
                if on == "1":
                    codes[(digit, *bar)] = 1
        self.register_buffer("codes", pydl.from_numpy(codes.reshape(10, 84)))

    def forward(self, input: Any) -> Any:
        return -((input.unsqueeze(1) - self.codes) ** 2).sum(2)


@register("lenet5", input_size=(1, 28, 28))
class LeNet5(nn.Module):
    """Two convolutions with subsampling, then three fully connected layers. Shapes: (N, C, 28, 28) -> (N, num_classes).

    Parameters
    ----------
    form : {"modern", "classic", "original"}
        "modern": ReLU and max pooling; "classic": tanh and average pooling, as mostly taught (both 61,706 parameters);
        "original": as published, with learnt subsampling, the sparse table of C3, scaled tanh and fixed output codes
        (60,000 parameters, ten classes).
    num_classes : int
        Classes of the output layer.
    in_channels : int
        1 for grey images.
    padding : int
        Around the image, before C1: 2 makes 28 x 28 into the 32 x 32 of the paper; 0 for images of 32 x 32.

    Source: LeCun et al. 1998.
    """

    def __init__(self, form: str = "modern", num_classes: int = 10, in_channels: int = 1, padding: int = 2) -> None:
        super().__init__()
        if form not in ("modern", "classic", "original"):
            raise ArgumentError(f"LeNet5: form={form!r}; expected modern, classic or original")
        original = form == "original"
        if original and num_classes != 10:
            raise ArgumentError(f"LeNet5: the original's output codes are for 10 digits, got num_classes={num_classes}")
        activation = {"modern": nn.ReLU, "classic": nn.Tanh, "original": ScaledTanh}[form]

        def pool(channels: int) -> nn.Module:
            return Subsampling(channels) if original else nn.MaxPool2d(2) if form == "modern" else nn.AvgPool2d(2)

        self.c1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.act1 = activation()
        self.s2 = pool(6)
        self.c3 = PartialConv(6, C3_INPUTS, 5) if original else nn.Conv2d(6, 16, 5)
        self.act3 = activation()
        self.s4 = pool(16)
        self.flatten = nn.Flatten()
        self.c5 = nn.Linear(400, 120)  # a convolution of 5 x 5 on maps of 5 x 5
        self.act5 = activation()
        self.f6 = nn.Linear(120, 84)
        self.act6 = activation()
        self.output = DigitCodes() if original else nn.Linear(84, num_classes)
        if original:
            self._initialise()

    def _initialise(self) -> None:
        """Uniform within 2.4 / fan-in, as in the paper."""
        for layer in (self.c1, self.c5, self.f6):
            bound = 2.4 / nn.init.calculate_fan(layer.weight)[0]
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
        bounds = 2.4 / np.array(self.c3.fan_in, np.float32)[:, None, None]
        nn.init.uniform_(self.c3.weight, -1.0, 1.0)
        with pydl.no_grad():
            self.c3.weight *= pydl.from_numpy(bounds)

    def forward(self, input: Any) -> Any:
        x = self.s2(self.act1(self.c1(input)))  # (N, 6, 14, 14)
        x = self.s4(self.act3(self.c3(x)))  # (N, 16, 5, 5)
        x = self.act6(self.f6(self.act5(self.c5(self.flatten(x)))))  # (N, 84)
        return self.output(x)
