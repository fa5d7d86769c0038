"""Network in Network: small perceptrons slide over the image, and the last maps are averaged into the scores.

Source: Lin, Chen, Yan, "Network In Network" (2013), arXiv:1312.4400; numbers of maps as in the models that the authors
published for Caffe.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError
from pydl.models.registry import register

__all__ = ["NetworkInNetwork"]


def mlpconv(inputs: int, maps: tuple[int, int, int], kernel_size: int, stride: int = 1, padding: int = 0) -> list[Any]:
    """A convolution and a perceptron with two layers at each place, which are 1 x 1 convolutions."""
    first, second, third = maps
    return [
        nn.Conv2d(inputs, first, kernel_size, stride, padding), nn.ReLU(),
        nn.Conv2d(first, second, 1), nn.ReLU(),
        nn.Conv2d(second, third, 1), nn.ReLU(),
    ]  # fmt: skip


class NetworkInNetwork(nn.Module):
    """Blocks of a convolution with two 1 x 1 convolutions; the global average of the last maps, one a class, is the output.

    Shapes: (N, in_channels, H, W) -> (N, num_classes). There is no fully connected layer.

    Parameters
    ----------
    form : {"cifar", "imagenet"}
        Three blocks for 32 x 32 (966,986 parameters with 10 classes), or four for 224 x 224 (7,595,176 with 1000).
    num_classes, in_channels : int
        Classes; channels of the image.
    dropout : float
        Probability between the blocks (imagenet: before the last).

    Source: Lin et al. 2013.
    """

    def __init__(self, form: str = "cifar", num_classes: int = 10, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        if form == "cifar":
            layers = [
                *mlpconv(in_channels, (192, 160, 96), 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(dropout),
                *mlpconv(96, (192, 192, 192), 5, padding=2), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(dropout),
                *mlpconv(192, (192, 192, num_classes), 3, padding=1),
            ]  # fmt: skip
        elif form == "imagenet":
            layers = [
                *mlpconv(in_channels, (96, 96, 96), 11, stride=4), nn.MaxPool2d(3, 2),
                *mlpconv(96, (256, 256, 256), 5, padding=2), nn.MaxPool2d(3, 2),
                *mlpconv(256, (384, 384, 384), 3, padding=1), nn.MaxPool2d(3, 2), nn.Dropout(dropout),
                *mlpconv(384, (1024, 1024, num_classes), 3, padding=1),
            ]  # fmt: skip
        else:
            raise ArgumentError(f"NetworkInNetwork: form={form!r}; expected cifar or imagenet")
        self.features = nn.Sequential(*layers[:-1])  # scores are not cut off at 0
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.features[-1].weight, 0, 0.01)  # the scores start near 0

    def forward(self, input: Any) -> Any:
        return pydl.flatten(self.avgpool(self.features(input)), 1)


@register("nin", input_size=(3, 32, 32))
def nin(**options: Any) -> NetworkInNetwork:
    """Network in Network for CIFAR-10: 966,986 parameters. Options: of `NetworkInNetwork`."""
    return NetworkInNetwork("cifar", **options)


@register("nin_imagenet", input_size=(3, 224, 224))
def nin_imagenet(num_classes: int = 1000, **options: Any) -> NetworkInNetwork:
    """Network in Network for ImageNet: 7,595,176 parameters."""
    return NetworkInNetwork("imagenet", num_classes, **options)
