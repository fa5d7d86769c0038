"""Data sets: anything with a length and samples by number, or a stream of samples; and ways to join and split them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.ops._common import empty

__all__ = [
    "ArrayDataset", "ConcatDataset", "Dataset", "IterableDataset", "Subset", "TensorDataset", "batch_reader", "k_fold",
    "random_split",
]  # fmt: skip


class Dataset:
    """Base of data sets: `__len__`, and `__getitem__` returning one sample (arrays, tensors, numbers, texts, tuples, dicts)."""

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset:
    """Base of streams: `__iter__` yields the samples, in the same order each time.

    A `DataLoader` with several workers still gives every sample once and the same batches in the same order: each process
    worker runs through the stream and keeps its share of the batches (put costly decoding into `collate_fn`, which only
    runs for those), thread workers take turns at one stream.
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


def _array(data: Any) -> np.ndarray:
    return data.data if isinstance(data, TensorCore) else np.asarray(data)


class TensorDataset(Dataset):
    """Samples cut from tensors or arrays along their first axis; a sample is a tuple of what was given, tensors or arrays."""

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset: expected at least one tensor or array")
        self.arrays = tuple(_array(t) for t in tensors)
        self._is_tensor = tuple(isinstance(t, TensorCore) for t in tensors)
        if any(a.ndim == 0 for a in self.arrays) or len({len(a) for a in self.arrays}) != 1:
            raise ShapeError(
                f"TensorDataset: all must have as many samples along the first axis, got shapes {[a.shape for a in self.arrays]}"
            )

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The whole data as tensors."""
        return tuple(wrap(a) for a in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> Any:
        parts = (a[index] for a in self.arrays)
        return tuple(wrap(np.asarray(p)) if t else p for p, t in zip(parts, self._is_tensor, strict=True))

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples of these numbers, stacked, in pooled memory: a batch at once instead of sample by sample."""
        return tuple(take_rows(a, indices) for a in self.arrays)


class ArrayDataset(TensorDataset):
    """Arrays with transforms: the first is the input, the last (of two or more) the target.

    Parameters
    ----------
    transform, target_transform : callable, optional
        Applied to the input, and to the target, of a sample when it is read.
    """

    def __init__(self, *arrays: Any, transform: Callable[..., Any] | None = None,
                 target_transform: Callable[..., Any] | None = None) -> None:  # fmt: skip
        super().__init__(*arrays)
        self.transform, self.target_transform = transform, target_transform
        if target_transform is not None and len(arrays) < 2:
            raise ArgumentError("ArrayDataset: target_transform needs a target: ArrayDataset(inputs, targets, ...)")

    def __getitem__(self, index: Any) -> Any:
        parts = list(super().__getitem__(index))
        if self.transform is not None:
            parts[0] = self.transform(parts[0])
        if self.target_transform is not None:
            parts[-1] = self.target_transform(parts[-1])
        return tuple(parts)


class Subset(Dataset):
    """The samples of another data set with these numbers, in this order."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = _array(indices).astype(np.int64).reshape(-1)
        n = len(dataset)
        if len(self.indices) and not (-n <= self.indices.min() and self.indices.max() < n):
            raise ArgumentError(
                f"Subset: indices from {self.indices.min()} to {self.indices.max()} for a data set of {n} samples"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


class ConcatDataset(Dataset):
    """Data sets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets or any(isinstance(d, IterableDataset) for d in self.datasets):
            raise ArgumentError("ConcatDataset: expected at least one data set, each with a length (no IterableDataset)")
        self.ends = np.cumsum([len(d) for d in self.datasets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"ConcatDataset: index {index} in a data set of {n} samples")
        index = int(index) % n
        which = int(np.searchsorted(self.ends, index, side="right"))
        return self.datasets[which][index - (int(self.ends[which - 1]) if which else 0)]


# --------------------------------------------------------------------------- whole batches at once


def take_rows(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """array[indices] as a new array in pooled memory; indices must be valid (negative ones count from the end)."""
    n = len(array)
    if len(indices) and not (-n <= indices.min() and indices.max() < n):
        raise IndexError(f"indices from {indices.min()} to {indices.max()} for a data set of {n} samples")
    if array.dtype.kind in "OUS":
        raise ArgumentError(f"TensorDataset: an array of dtype {array.dtype} cannot become a tensor; encode it as numbers")
    if not array.flags.c_contiguous:
        return np.ascontiguousarray(array[indices])
    out = empty((len(indices), *array.shape[1:]), array.dtype)
    _core.take_rows(array, np.ascontiguousarray(np.where(indices < 0, indices + n, indices)), out)
    return out


def batch_reader(dataset: Any) -> Callable[[np.ndarray], tuple[np.ndarray, ...]] | None:
    """A function that reads a whole batch by its indices, where a data set can do that; else None.

    It can if it is a `TensorDataset` without transforms (or a subset of one): a subclass with a `__getitem__` of its own
    must define `take` itself.
    """
    if isinstance(dataset, Subset):
        inner, chosen = batch_reader(dataset.dataset), dataset.indices
        own = type(dataset).__getitem__ is not Subset.__getitem__
        return None if inner is None or own else lambda indices: inner(chosen[indices])
    if getattr(dataset, "transform", None) is not None or getattr(dataset, "target_transform", None) is not None:
        return None
    for kind in type(dataset).__mro__:  # whichever is defined closer to the class counts
        if "take" in vars(kind):
            return dataset.take
        if "__getitem__" in vars(kind) and kind is not ArrayDataset:
            return None
    return None


# --------------------------------------------------------------------------- splitting


def _permutation(n: int, generator: Any) -> np.ndarray:
    from pydl.random import default_generator

    return (generator or default_generator).numpy().permutation(n)


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Cut a data set at random into parts that do not overlap.

    Parameters
    ----------
    lengths : sequence
        Numbers of samples that add up to the whole, or fractions that add up to 1 (what rounding leaves over goes to the
        first parts, one each).
    generator : pydl.Generator, optional
    """
    n = len(dataset)
    if all(0 <= x <= 1 for x in lengths) and math.isclose(sum(lengths), 1, abs_tol=1e-6):
        counts = [math.floor(n * x + 1e-9) for x in lengths]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        counts = [int(x) for x in lengths]
        if sum(counts) != n or any(c != x or c < 0 for c, x in zip(counts, lengths, strict=True)):
            raise ArgumentError(
                f"random_split: lengths {list(lengths)} add up to {sum(lengths)}; expected counts that add up to the "
                f"{n} samples, or fractions that add up to 1"
            )
    order = _permutation(n, generator)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(counts)[:-1])]


def k_fold(dataset: Any, k: int, shuffle: bool = True, generator: Any = None) -> Iterator[tuple[Subset, Subset]]:
    """k pairs (training part, validation part) for cross-validation: each sample is in one validation part.

    The sizes of the validation parts differ by at most one. With `shuffle` the parts are drawn at random.
    """
    n = len(dataset)
    if not 2 <= k <= n:
        raise ArgumentError(f"k_fold: k={k} for {n} samples; expected 2 to {n}")
    order = _permutation(n, generator) if shuffle else np.arange(n)
    parts = np.array_split(order, k)
    return ((Subset(dataset, np.concatenate(parts[:i] + parts[i + 1 :])), Subset(dataset, parts[i])) for i in range(k))
