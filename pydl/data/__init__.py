"""Data sets and the loader that turns them into batches."""

from pydl.data.dataset import Dataset, TensorDataset
from pydl.data.loader import DataLoader
from pydl.data.mnist1d import load_mnist1d

__all__ = ["DataLoader", "Dataset", "TensorDataset", "load_mnist1d"]
