"""Data sets and the loader that turns them into batches."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pydl.data.collate import default_collate, default_convert
from pydl.data.context import WorkerInfo, get_worker_info, sample_generator
from pydl.data.dataset import (
    ArrayDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    k_fold,
    random_split,
)
from pydl.data.loader import DataLoader
from pydl.data.mnist1d import MNIST1D, load_mnist1d
from pydl.data.pools import WorkerError, WorkerTimeoutError
from pydl.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

if TYPE_CHECKING:
    from pydl.data.folder import ImageFolder, load_image
    from pydl.data.idx import IdxError, read_idx
    from pydl.data.images import MNIST, DatasetNotFoundError, Digits8x8, FashionMNIST, ImageArrays, MNIST5k

# Imported when first used: they bring HTTP, archives and compression along.
_LAZY = dict.fromkeys(("ImageFolder", "load_image"), "folder") | dict.fromkeys(("IdxError", "read_idx"), "idx")
_LAZY |= dict.fromkeys(("MNIST", "DatasetNotFoundError", "Digits8x8", "FashionMNIST", "ImageArrays", "MNIST5k"), "images")

__all__ = [
    "ArrayDataset", "BatchSampler", "ConcatDataset", "DataLoader", "Dataset", "DatasetNotFoundError", "Digits8x8",
    "FashionMNIST", "IdxError", "ImageArrays", "ImageFolder", "IterableDataset", "MNIST", "MNIST1D", "MNIST5k",
    "RandomSampler", "Sampler", "SequentialSampler", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "WorkerError", "WorkerInfo", "WorkerTimeoutError", "default_collate", "default_convert",
    "get_worker_info", "k_fold", "load_image", "load_mnist1d", "random_split", "read_idx", "sample_generator",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"pydl.data.{_LAZY[name]}"), name)
    if name == "fetch":
        return importlib.import_module("pydl.data.fetch")
    raise AttributeError(f"module 'pydl.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
