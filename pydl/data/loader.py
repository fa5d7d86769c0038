"""`DataLoader`: batches of a data set, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pydl.data.dataset import Dataset, TensorDataset
from pydl.errors import ArgumentError


class DataLoader:
    """Iterates over batches of tensors.

    Parameters
    ----------
    shuffle : bool
        A new order each epoch, drawn from a counter-based generator keyed by (seed, epoch).
    drop_last : bool
        Leave out the last batch if it is smaller.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int = 1, shuffle: bool = False, drop_last: bool = False, seed: int = 0
    ) -> None:
        if batch_size < 1:
            raise ArgumentError(f"DataLoader: batch_size must be positive, got {batch_size}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last, self.seed = dataset, batch_size, shuffle, drop_last, seed
        self.epoch, self.batch = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Start this epoch, from its first batch."""
        self.epoch, self.batch = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been given out."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken: the next iteration gives the batches that were left."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self) -> np.ndarray:
        """The samples' order in the current epoch."""
        n = len(self.dataset)
        if not self.shuffle:
            return np.arange(n)
        return np.random.Generator(np.random.Philox(key=self.seed, counter=self.epoch << 128)).permutation(n)

    def __iter__(self) -> Iterator[Any]:
        from pydl.tensor import from_numpy

        order = self.order()
        for i in range(self.batch, len(self)):
            index = order[i * self.batch_size : (i + 1) * self.batch_size]
            if isinstance(self.dataset, TensorDataset):
                arrays = self.dataset[index]
            else:
                arrays = tuple(np.stack(column) for column in zip(*(self.dataset[int(k)] for k in index), strict=True))
            self.batch = i + 1
            yield tuple(from_numpy(np.ascontiguousarray(a)) for a in arrays)
        self.set_epoch(self.epoch + 1)
