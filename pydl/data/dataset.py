"""Data sets: anything with a length and samples by number."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl.errors import ShapeError


class Dataset:
    """Base of data sets: `__len__`, and `__getitem__` returning one sample."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError


class TensorDataset(Dataset):
    """Samples cut from arrays (or tensors) along their first axis."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = tuple(np.asarray(getattr(a, "data", a)) if not isinstance(a, np.ndarray) else a for a in arrays)
        lengths = {len(a) for a in self.arrays}
        if len(lengths) != 1:
            raise ShapeError(f"TensorDataset: arrays of different lengths {[len(a) for a in self.arrays]}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[np.ndarray, ...]:
        return tuple(a[index] for a in self.arrays)
