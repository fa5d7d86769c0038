"""GoogLeNet (Inception v1) with batch norm and its two auxiliary classifiers.

Source: Szegedy et al., "Going Deeper with Convolutions" (2014), arXiv:1409.4842, table 1. As in the published weights,
convolutions are followed by batch norm, and the branch that the paper gives a 5 x 5 kernel has 3 x 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pydl
from pydl import nn
from pydl.models.registry import register

__all__ = ["GoogLeNet", "GoogLeNetOutputs"]

# Table 1: name, channels in; 1 x 1; 3 x 3 reduce, 3 x 3; 5 x 5 reduce, 5 x 5; pool projection.
INCEPTIONS = (
    ("3a", 192, 64, 96, 128, 16, 32, 32),
    ("3b", 256, 128, 128, 192, 32, 96, 64),
    ("4a", 480, 192, 96, 208, 16, 48, 64),
    ("4b", 512, 160, 112, 224, 24, 64, 64),
    ("4c", 512, 128, 128, 256, 24, 64, 64),
    ("4d", 512, 112, 144, 288, 32, 64, 64),
    ("4e", 528, 256, 160, 320, 32, 128, 128),
    ("5a", 832, 256, 160, 320, 32, 128, 128),
    ("5b", 832, 384, 192, 384, 48, 128, 128),
)


class GoogLeNetOutputs(NamedTuple):
    """What training with auxiliary heads returns: three times scores (N, num_classes)."""

    logits: Any
    aux_logits2: Any
    aux_logits1: Any


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, input: Any) -> Any:
        return nn.conv_norm_act(self.conv, self.bn, self.relu, input)


class Inception(nn.Module):
    """Four branches side by side, joined by channels: 1 x 1, 3 x 3, twice smaller 3 x 3, and pooling.

    Shapes: (N, C, H, W) -> (N, n1 + n3 + n5 + pool, H, W).
    """

    def __init__(self, inputs: int, n1: int, n3_reduce: int, n3: int, n5_reduce: int, n5: int, pool: int) -> None:
        super().__init__()
        self.outputs = n1 + n3 + n5 + pool
        self.branch1 = BasicConv2d(inputs, n1, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, n3_reduce, 1), BasicConv2d(n3_reduce, n3, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, n5_reduce, 1), BasicConv2d(n5_reduce, n5, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), BasicConv2d(inputs, pool, 1))

    def forward(self, input: Any) -> Any:
        return pydl.cat([self.branch1(input), self.branch2(input), self.branch3(input), self.branch4(input)], 1)


class InceptionAux(nn.Module):
    """A small classifier on inner maps, so that the gradient reaches the early layers. (N, C, H, W) -> (N, num_classes)."""

    def __init__(self, inputs: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((4, 4))
        self.conv = BasicConv2d(inputs, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, input: Any) -> Any:
        x = pydl.flatten(self.conv(self.pool(input)), 1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


@register("googlenet", input_size=(3, 224, 224))
class GoogLeNet(nn.Module):
    """Nine Inception modules: 6,624,904 parameters without the auxiliary heads, 13,004,888 with them.

    Shapes: (N, in_channels, H, W) -> (N, num_classes); while training with ``aux_logits``: `GoogLeNetOutputs`, whose parts
    the paper adds up in the loss with weights 1, 0.3 and 0.3.

    Parameters
    ----------
    num_classes, in_channels : int
        Classes; channels of the image.
    aux_logits : bool
        Whether there are auxiliary heads, after modules 4a and 4d; in evaluation they are not run.
    dropout, dropout_aux : float
        Probability before the last layer, and within the heads.
    width : float
        Factor on all numbers of maps.
    small_stem : bool
        A first convolution of 3 x 3 with stride 1 and no pooling after it: for images of 28 to 64 pixels.

    Source: Szegedy et al. 2014; names of parts as in torchvision.
    """

    classifiers = ("aux1.fc2", "aux2.fc2", "fc")

    def __init__(
        self, num_classes: int = 1000, aux_logits: bool = True, in_channels: int = 3, dropout: float = 0.2,
        dropout_aux: float = 0.7, width: float = 1.0, small_stem: bool = False,
    ) -> None:
        super().__init__()
        self.aux_logits = aux_logits

        def maps(n: int) -> int:
            return max(round(n * width), 1)

        kernel = (3, 1, 1) if small_stem else (7, 2, 3)  # size, stride, padding
        self.conv1 = BasicConv2d(in_channels, maps(64), *kernel)
        self.maxpool1 = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(maps(64), maps(64), 1)
        self.conv3 = BasicConv2d(maps(64), maps(192), 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        inputs = maps(192)
        for name, _, *branches in INCEPTIONS:
            if name == "4a":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if name == "5a":
                self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
            module = Inception(inputs, *map(maps, branches))
            setattr(self, f"inception{name}", module)
            inputs = module.outputs
        if aux_logits:
            self.aux1 = InceptionAux(self.inception4a.outputs, num_classes, dropout_aux)
            self.aux2 = InceptionAux(self.inception4d.outputs, num_classes, dropout_aux)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)

    def forward(self, input: Any) -> Any:
        heads = self.aux_logits and self.training
        x = self.maxpool1(self.conv1(input))  # (N, 64, H/4, W/4)
        x = self.maxpool2(self.conv3(self.conv2(x)))  # (N, 192, H/8, W/8)
        x = self.maxpool3(self.inception3b(self.inception3a(x)))  # (N, 480, H/16, W/16)
        x = self.inception4a(x)  # (N, 512, H/16, W/16)
        aux1 = self.aux1(x) if heads else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))  # (N, 528, H/16, W/16)
        aux2 = self.aux2(x) if heads else None
        x = self.maxpool4(self.inception4e(x))  # (N, 832, H/32, W/32)
        x = self.inception5b(self.inception5a(x))  # (N, 1024, H/32, W/32)
        x = self.fc(self.dropout(pydl.flatten(self.avgpool(x), 1)))
        return GoogLeNetOutputs(x, aux2, aux1) if heads else x
