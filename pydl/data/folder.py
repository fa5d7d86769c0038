"""Images in folders, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pydl.data.dataset import Dataset
from pydl.errors import ArgumentError
from pydl.vision.io import read_image

__all__ = ["IMAGE_EXTENSIONS", "ImageFolder", "load_image"]

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def load_image(path: str | os.PathLike[str], mode: str = "RGB") -> np.ndarray:
    """An image file as float32 in [0, 1] of shape (C, H, W).

    Parameters
    ----------
    mode : str
        "RGB" (3 channels), "L" (1, grey) or "RGBA" (4): other kinds of images are converted.

    Raises
    ------
    pydl.vision.io.ImageError
        Naming a file that cannot be read.
    """
    return read_image(path, mode) * np.float32(1 / 255)


class ImageFolder(Dataset):
    """Images in ``root/<class>/**``: samples (image, number of the class), in alphabetical order.

    Parameters
    ----------
    transform, target_transform : callable, optional
        Get what `loader` returned, and the class's number. Images of different sizes need a transform to one size.
    loader : callable
        Reads a file, default `load_image`: float32 (3, H, W) in [0, 1].
    extensions : tuple of str
        Which files count as images.

    Attributes
    ----------
    classes : list of str
        Names of the folders, sorted.
    class_to_idx : dict
    samples : list of (path, class number)
    targets : list of int
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
        loader: Callable[[Path], Any] = load_image,
        extensions: tuple[str, ...] = IMAGE_EXTENSIONS,
    ) -> None:
        self.root, self.transform, self.target_transform, self.loader = Path(root), transform, target_transform, loader
        if not self.root.is_dir():
            raise ArgumentError(f"ImageFolder: {self.root} is not a folder")
        self.classes = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not self.classes:
            raise ArgumentError(f"ImageFolder: {self.root} has no folders; expected one for each class")
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples: list[tuple[Path, int]] = []
        for name, i in self.class_to_idx.items():
            files = sorted(p for p in (self.root / name).rglob("*") if p.suffix.lower() in extensions and p.is_file())
            if not files:
                raise ArgumentError(f"ImageFolder: {self.root / name} has no images ({', '.join(extensions)})")
            self.samples += [(p, i) for p in files]
        self.targets = [i for _, i in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        path, label = self.samples[index]
        image = self.loader(path)
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )
