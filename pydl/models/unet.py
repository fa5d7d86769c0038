"""U-Net: a contracting path, an expanding path, and maps handed across from each size to the same size.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015), arXiv:1505.04597,
figure 1. The paper's convolutions have no padding and the handed maps are cropped; "same" padding and batch normalisation
are how it is built today.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.models.registry import register

__all__ = ["UNet"]


class DoubleConv(nn.Sequential):
    """Two 3 x 3 convolutions, each with ReLU. Shapes: (N, C, H, W) -> (N, outputs, H, W), without padding H - 4, W - 4."""

    def __init__(self, inputs: int, outputs: int, padding: int, batch_norm: bool) -> None:
        layers: list[Any] = []
        for channels in (inputs, outputs):
            layers.append(nn.Conv2d(channels, outputs, 3, padding=padding, bias=not batch_norm))
            layers += [nn.BatchNorm2d(outputs)] * batch_norm
            layers.append(nn.ReLU())
        super().__init__(*layers)


class Up(nn.Module):
    """Twice the size by a transposed convolution, beside the maps handed across, and two convolutions over both."""

    def __init__(self, inputs: int, outputs: int, padding: int, batch_norm: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.conv = DoubleConv(2 * outputs, outputs, padding, batch_norm)

    def forward(self, x: Any, across: Any) -> Any:
        x = self.up(x)
        return self.conv(pydl.cat([_crop(across, x.shape[2:]), x], 1))


def _crop(x: Any, size: tuple[int, ...]) -> Any:
    """The middle of the maps."""
    if x.shape[2:] == size:
        return x
    top, left = ((have - want) // 2 for have, want in zip(x.shape[2:], size, strict=True))
    return x[:, :, top : top + size[0], left : left + size[1]]


class UNet(nn.Module):
    """Scores of a class for each pixel. Shapes: (N, in_channels, H, W) -> (N, num_classes, H, W).

    Parameters
    ----------
    in_channels, num_classes : int
        Channels of the image; classes.
    base : int
        Maps at full size; each of the smaller sizes has twice as many as the one above.
    depth : int
        How often the size is halved.
    padding : str
        "same" keeps the size, which must be a multiple of 2 ** depth; "valid" as in the paper: 572 x 572 gives 388 x 388.
    batch_norm : bool
        Normalise after each convolution.

    Raises
    ------
    ShapeError
        If the size cannot be halved `depth` times.
    """

    def __init__(
        self, in_channels: int = 3, num_classes: int = 2, base: int = 64, depth: int = 4, padding: str = "same",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if padding not in ("same", "valid"):
            raise ArgumentError(f"UNet: padding={padding!r}; expected 'same' or 'valid'")
        if depth < 1 or base < 1:
            raise ArgumentError(f"UNet: base={base}, depth={depth}; both must be at least 1")
        self.same = padding == "same"
        widths = [base << i for i in range(depth + 1)]
        pairs = zip([in_channels, *widths], widths, strict=False)
        self.down = nn.ModuleList([DoubleConv(cin, cout, int(self.same), batch_norm) for cin, cout in pairs])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList([Up(2 * w, w, int(self.same), batch_norm) for w in widths[-2::-1]])
        self.out = nn.Conv2d(base, num_classes, 1)

    def forward(self, x: Any) -> Any:
        kept = []
        for i, conv in enumerate(self.down):
            if i:
                kept.append(x)
                if any(n % 2 for n in x.shape[2:]):
                    raise ShapeError(f"[UNet] a map of {' x '.join(map(str, x.shape[2:]))} cannot be halved; {self._sizes()}")
                x = self.pool(x)
            x = conv(x)
        for up in self.up:
            x = up(x, kept.pop())
        return self.out(x)

    def _sizes(self) -> str:
        steps = len(self.up)
        if self.same:
            return f"height and width of the input must be multiples of {2**steps}"
        return "choose the input so that every map is even, such as 572 x 572 for depth 4"


@register("unet", input_size=(3, 128, 128))
def unet(**options: Any) -> UNet:
    """U-Net with base 64, "same" padding and batch normalisation: 31,037,698 parameters. Options: of `UNet`."""
    return UNet(**options)
