"""Data sets and the loader that turns them into batches."""

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
from pydl.data.mnist1d import load_mnist1d
from pydl.data.pools import WorkerError, WorkerTimeoutError
from pydl.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "ArrayDataset", "BatchSampler", "ConcatDataset", "DataLoader", "Dataset", "IterableDataset", "RandomSampler", "Sampler",
    "SequentialSampler", "Subset", "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler", "WorkerError",
    "WorkerInfo", "WorkerTimeoutError", "default_collate", "default_convert", "get_worker_info", "k_fold", "load_mnist1d",
    "random_split", "sample_generator",
]  # fmt: skip
