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
    from pydl.data.help_pages import OfficeHelp
    from pydl.data.idx import IdxError, read_idx
    from pydl.data.images import MNIST, DatasetNotFoundError, Digits8x8, FashionMNIST, ImageArrays, MNIST5k
    from pydl.data.pairs import CMUDict, EmojiNames, GameMessages, GermanEnglish, PairSet, read_mo, split_pairs
    from pydl.data.reviews import (
        Analogy,
        Labelled,
        load_analogies,
        load_polarity,
        load_rated_snippets,
        load_tagged,
        load_topics,
        load_word_pairs,
    )
    from pydl.data.series import SeriesFile, TimeSeries, TsFormatError, load_electricity_demand, read_ts
    from pydl.data.standardize import Standardizer
    from pydl.data.text_sets import Shakespeare

# Imported when first used: they bring HTTP, archives and compression along.
_LAZY = dict.fromkeys(("ImageFolder", "load_image"), "folder") | dict.fromkeys(("IdxError", "read_idx"), "idx")
_LAZY |= dict.fromkeys(("MNIST", "DatasetNotFoundError", "Digits8x8", "FashionMNIST", "ImageArrays", "MNIST5k"), "images")
_LAZY |= dict.fromkeys(("Analogy", "Labelled", "load_analogies", "load_polarity", "load_rated_snippets",
                       "load_tagged", "load_topics", "load_word_pairs"), "reviews")
_LAZY |= dict.fromkeys(("SeriesFile", "TimeSeries", "TsFormatError", "load_electricity_demand", "read_ts"), "series")
_LAZY |= dict.fromkeys(("CMUDict", "EmojiNames", "GameMessages", "GermanEnglish", "PairSet", "read_mo", "split_pairs"), "pairs")
_LAZY |= {"OfficeHelp": "help_pages", "Shakespeare": "text_sets", "Standardizer": "standardize"}

__all__ = [
    "Analogy", "ArrayDataset", "BatchSampler", "CMUDict", "ConcatDataset", "DataLoader", "Dataset", "DatasetNotFoundError",
    "Digits8x8", "EmojiNames", "FashionMNIST", "GameMessages", "GermanEnglish", "IdxError", "ImageArrays", "ImageFolder",
    "IterableDataset", "Labelled", "MNIST", "MNIST1D", "MNIST5k", "OfficeHelp", "PairSet", "RandomSampler", "Sampler",
    "SequentialSampler", "SeriesFile", "Shakespeare", "Standardizer", "Subset", "SubsetRandomSampler", "TensorDataset",
    "TimeSeries", "TsFormatError", "WeightedRandomSampler", "WorkerError", "WorkerInfo", "WorkerTimeoutError", "default_collate",
    "default_convert", "get_worker_info", "k_fold", "load_analogies", "load_electricity_demand", "load_image", "load_mnist1d",
    "load_polarity",
    "load_rated_snippets", "load_tagged", "load_topics", "load_word_pairs", "random_split", "read_idx", "read_mo",
    "read_ts", "sample_generator", "split_pairs",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"pydl.data.{_LAZY[name]}"), name)
    if name == "fetch":
        return importlib.import_module("pydl.data.fetch")
    raise AttributeError(f"module 'pydl.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
