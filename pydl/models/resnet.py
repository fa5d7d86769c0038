"""Residual networks, and the same networks without their skips, which show why the skips are there.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015), arXiv:1512.03385, table 1; the stride
of a bottleneck is at its 3 x 3 convolution, as in the weights that are published for PyTorch. Pre-activation: the same
authors, "Identity Mappings in Deep Residual Networks" (2016), arXiv:1603.05027.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["PreActResNet", "ResNet"]


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> Any:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> Any:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def initialise(model: Any) -> None:
    """He's initialisation by fan-out, as in the paper's code; batch norm starts as the identity by itself."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """y = ReLU(x + F(x)), F two 3 x 3 convolutions with batch norm. Shapes: (N, C, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1, skip: bool = True) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip = skip
        self.downsample = projection(inputs, width, stride) if skip else None

    def forward(self, input: Any) -> Any:
        x = nn.conv_norm_act(self.conv1, self.bn1, self.relu, input)
        skip = None if not self.skip else input if self.downsample is None else self.downsample(input)
        return nn.conv_norm_act(self.conv2, self.bn2, self.relu, x, skip)


class Bottleneck(nn.Module):
    """y = ReLU(x + F(x)), F narrowing by 1 x 1, 3 x 3, widening fourfold by 1 x 1.

    Shapes: (N, C, H, W) -> (N, 4 width, H/stride, W/stride).
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1, skip: bool = True) -> None:
        super().__init__()
        self.conv1 = conv1x1(inputs, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, 4 * width)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.skip = skip
        self.downsample = projection(inputs, 4 * width, stride) if skip else None

    def forward(self, input: Any) -> Any:
        x = nn.conv_norm_act(self.conv1, self.bn1, self.relu, input)
        x = nn.conv_norm_act(self.conv2, self.bn2, self.relu, x)
        skip = None if not self.skip else input if self.downsample is None else self.downsample(input)
        return nn.conv_norm_act(self.conv3, self.bn3, self.relu, x, skip)


def projection(inputs: int, outputs: int, stride: int) -> Any:
    """The 1 x 1 convolution of a skip whose ends differ in shape (option B of the paper), else None."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A stem that quarters the size, four stages of residual blocks, and one linear layer on the global average.

    Shapes: (N, in_channels, H, W) -> (N, num_classes); 224 x 224 as published, any size from about 32 works.

    Parameters
    ----------
    block : BasicBlock or Bottleneck
        What a stage repeats.
    layers : sequence of int
        Blocks of each stage, four as published for ImageNet, three for CIFAR; each stage but the first halves the size and
        doubles the channels.
    num_classes, in_channels : int
        Classes; channels of the image.
    width : int
        Channels of the stem and the first stage.
    skip : bool
        False: the plain network, with neither skips nor projections.
    small_stem : bool
        One 3 x 3 convolution without pooling instead of 7 x 7 with stride and pooling: for images of 28 to 64 pixels.

    Source: He et al. 2015; names of parts and of parameters as in torchvision.
    """

    def __init__(
        self, block: Any, layers: Sequence[int], num_classes: int = 1000, in_channels: int = 3, width: int = 64,
        skip: bool = True, small_stem: bool = False,
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise ArgumentError(f"ResNet: layers={tuple(layers)}; expected a positive number of blocks for each stage")
        self.conv1 = nn.Conv2d(in_channels, width, 3 if small_stem else 7, 1 if small_stem else 2, 1 if small_stem else 3,
                               bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, 2, 1)
        inputs = width
        for i, blocks in enumerate(layers):
            stage: list[Any] = []
            for j in range(blocks):
                stage.append(block(inputs, width * 2**i, 2 if i and not j else 1, skip))
                inputs = width * 2**i * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, input: Any) -> Any:
        x = self.maxpool(nn.conv_norm_act(self.conv1, self.bn1, self.relu, input))  # (N, 64, H/4, W/4)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)  # at last (N, 512 or 2048, H/32, W/32)
        return self.fc(pydl.flatten(self.avgpool(x), 1))


@register("resnet18", input_size=(3, 224, 224))
def resnet18(**options: Any) -> ResNet:
    """ResNet-18: 11,689,512 parameters. Options: of `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **options)


@register("resnet34", input_size=(3, 224, 224))
def resnet34(**options: Any) -> ResNet:
    """ResNet-34: 21,797,672 parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), **options)


@register("resnet50", input_size=(3, 224, 224))
def resnet50(**options: Any) -> ResNet:
    """ResNet-50: 25,557,032 parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **options)


@register("resnet101", input_size=(3, 224, 224))
def resnet101(**options: Any) -> ResNet:
    """ResNet-101: 44,549,160 parameters."""
    return ResNet(Bottleneck, (3, 4, 23, 3), **options)


@register("resnet152", input_size=(3, 224, 224))
def resnet152(**options: Any) -> ResNet:
    """ResNet-152: 60,192,808 parameters."""
    return ResNet(Bottleneck, (3, 8, 36, 3), **options)


@register("plain18", input_size=(3, 224, 224))
def plain18(**options: Any) -> ResNet:
    """ResNet-18 without skips: 11,515,688 parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), skip=False, **options)


@register("plain34", input_size=(3, 224, 224))
def plain34(**options: Any) -> ResNet:
    """ResNet-34 without skips: 21,623,848 parameters. Trained, it does worse than plain-18: the degradation of the paper."""
    return ResNet(BasicBlock, (3, 4, 6, 3), skip=False, **options)


class PreActBottleneck(nn.Module):
    """y = x + F(x), batch norm and ReLU before each of F's convolutions: the skip is the identity from end to end.

    Where the shape changes, the projection also starts from the activated input. `activate` is False for the first
    block of a network, whose stem has activated already. Shapes: (N, C, H, W) -> (N, 4 width, H/stride, W/stride).
    """

    def __init__(self, inputs: int, width: int, stride: int = 1, activate: bool = True) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs) if activate else nn.Identity()
        self.relu = nn.ReLU()
        self.conv1 = conv1x1(inputs, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, 4 * width)
        self.downsample = None if stride == 1 and inputs == 4 * width else conv1x1(inputs, 4 * width, stride)

    def forward(self, input: Any) -> Any:
        active = nn.norm_act(self.bn1, self.relu, input)
        x = nn.conv_norm_act(self.conv1, self.bn2, self.relu, active)
        x = self.conv3(nn.conv_norm_act(self.conv2, self.bn3, self.relu, x))
        return x + (input if self.downsample is None else self.downsample(active))


class PreActResNet(nn.Module):
    """Residual network with the activations before the convolutions. Shapes: (N, in_channels, H, W) -> (N, num_classes).

    Parameters as of `ResNet`. Source: He et al. 2016, and table 1 of He et al. 2015 for the stages.
    """

    def __init__(self, layers: Sequence[int], num_classes: int = 1000, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for i, blocks in enumerate(layers):
            stage: list[Any] = []
            for j in range(blocks):
                stage.append(PreActBottleneck(inputs, width * 2**i, 2 if i and not j else 1, activate=bool(i or j)))
                inputs = 4 * width * 2**i
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.bn2 = nn.BatchNorm2d(inputs)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, input: Any) -> Any:
        x = self.maxpool(nn.conv_norm_act(self.conv1, self.bn1, self.relu, input))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = nn.norm_act(self.bn2, self.relu, x)  # what the last block leaves has not been activated
        return self.fc(pydl.flatten(self.avgpool(x), 1))


@register("preact_resnet200", input_size=(3, 224, 224))
def preact_resnet200(**options: Any) -> PreActResNet:
    """Pre-activation ResNet-200, 64.7 million parameters. Options: of `PreActResNet`."""
    return PreActResNet((3, 24, 36, 3), **options)
