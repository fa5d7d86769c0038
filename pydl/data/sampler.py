"""Samplers: the order in which samples are read. A random order depends on (seed, epoch) and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from pydl.errors import ArgumentError

__all__ = [
    "BatchSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler",
]  # fmt: skip


def _seed_of(generator: Any) -> int:
    from pydl.random import default_generator

    return (generator or default_generator).initial_seed()


class Sampler:
    """Base of samplers. A sampler of one's own needs `__iter__` and `__len__`; with `set_epoch` it can change by epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of the next iteration is that of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class _OrderSampler(Sampler):
    """A sampler that knows its whole order as an array."""

    def order(self) -> np.ndarray:
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return len(self.order())


class SequentialSampler(_OrderSampler):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def order(self) -> np.ndarray:
        return np.arange(len(self.data_source))

    def __len__(self) -> int:
        return len(self.data_source)


class _SeededSampler(_OrderSampler):
    replacement = False

    def __init__(self, generator: Any) -> None:
        self.seed = _seed_of(generator)

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed = state["seed"]

    def random(self) -> np.random.Generator:
        """The generator of this (seed, epoch)."""
        return np.random.Generator(np.random.Philox(key=self.seed, counter=self.epoch << 128))


class RandomSampler(_SeededSampler):
    """A random order of all samples, or `num_samples` of them.

    Parameters
    ----------
    replacement : bool
        Draw each sample independently, so that some come twice.
    num_samples : int, optional
        How many to draw, default all; without `replacement` at most all.
    generator : pydl.Generator, optional
        Its seed is taken, not its state; default the seed of `pydl.manual_seed`.
    """

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        super().__init__(generator)
        self.data_source, self.replacement, self._num_samples = data_source, replacement, num_samples
        if num_samples is not None and not (num_samples > 0 and (replacement or num_samples <= len(data_source))):
            raise ArgumentError(
                f"RandomSampler: num_samples={num_samples} of {len(data_source)} samples (replacement={replacement})"
            )

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self) -> np.ndarray:
        n = len(self.data_source)
        if self.replacement:
            return self.random().integers(0, n, len(self) if n else 0)
        return self.random().permutation(n)[: len(self)]


class SubsetRandomSampler(_SeededSampler):
    """The given indices in random order."""

    def __init__(self, indices: Any, generator: Any = None) -> None:
        super().__init__(generator)
        self.indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def order(self) -> np.ndarray:
        return self.random().permutation(self.indices)


class WeightedRandomSampler(_SeededSampler):
    """`num_samples` indices drawn with probabilities in proportion to `weights` (of any sum): balances rare classes."""

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True, generator: Any = None) -> None:
        super().__init__(generator)
        self.weights = np.asarray(weights, np.float64)
        w = self.weights
        if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
            raise ArgumentError(
                f"WeightedRandomSampler: weights of shape {w.shape}; expected one finite, not negative number a sample, not all 0"
            )
        if num_samples < 1 or (not replacement and num_samples > np.count_nonzero(w)):
            raise ArgumentError(
                f"WeightedRandomSampler: num_samples={num_samples} of {np.count_nonzero(w)} samples with a weight "
                f"(replacement={replacement})"
            )
        self.num_samples, self.replacement = num_samples, replacement

    def __len__(self) -> int:
        return self.num_samples

    def order(self) -> np.ndarray:
        return self.random().choice(
            len(self.weights), self.num_samples, replace=self.replacement, p=self.weights / self.weights.sum()
        )


class BatchSampler(Sampler):
    """Groups of `batch_size` indices from a sampler; the last may be smaller unless `drop_last`."""

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
            raise ArgumentError(f"BatchSampler: batch_size={batch_size!r}, expected a positive integer")
        self.sampler, self.batch_size, self.drop_last = sampler, int(batch_size), drop_last

    @property
    def replacement(self) -> bool:
        return bool(getattr(self.sampler, "replacement", False))

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def state_dict(self) -> Any:
        return self.sampler.state_dict() if hasattr(self.sampler, "state_dict") else None

    def load_state_dict(self, state: Any) -> None:
        if state is not None and hasattr(self.sampler, "load_state_dict"):
            self.sampler.load_state_dict(state)

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.sampler, _OrderSampler):
            order = self.sampler.order()
            end = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
            return (order[i : i + self.batch_size] for i in range(0, end, self.batch_size))
        return self._group(iter(self.sampler))

    def _group(self, indices: Iterator[Any]) -> Iterator[list[Any]]:
        while group := list(islice(indices, self.batch_size)):
            if len(group) < self.batch_size and self.drop_last:
                return
            yield group
