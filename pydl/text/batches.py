"""Batches of sequences: padded, grouped by length, or cut from one long text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pydl.data.collate import default_collate
from pydl.data.sampler import _SeededSampler
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import TensorCore, wrap

__all__ = ["BPTTBatches", "BucketSampler", "PadCollate", "pad_ids"]


def _array(x: Any) -> np.ndarray:
    return x.data if isinstance(x, TensorCore) else np.asarray(x)


def pad_ids(sequences: Sequence[Any], pad: int = 0, length: int | None = None, side: str = "right") -> tuple[Any, Any]:
    """Sequences of numbers side by side: tensors (B, T) int64, and the lengths (B,) int64.

    Parameters
    ----------
    pad : int
        The number that fills the rest (``vocabulary.pad``).
    length : int, optional
        T; longer sequences are cut at their end. Default: the longest.
    side : "right" or "left"
        Where the padding goes.
    """
    if side not in ("right", "left"):
        raise ArgumentError(f"pad_ids: side={side!r}; expected 'right' or 'left'")
    arrays = [_array(s) for s in sequences]
    for i, a in enumerate(arrays):
        if a.ndim != 1 or (a.size and a.dtype.kind not in "iub"):
            raise ShapeError(f"[pad_ids] sequences[{i}] of shape {a.shape} and dtype {a.dtype}; expected integers with one axis")
    steps = max((len(a) for a in arrays), default=0) if length is None else length
    lengths = np.array([min(len(a), steps) for a in arrays], np.int64)
    out = np.full((len(arrays), steps), pad, np.int64)
    for row, a, n in zip(out, arrays, lengths.tolist(), strict=True):
        if side == "right":
            row[:n] = a[:n]
        elif n:
            row[-n:] = a[:n]
    return wrap(out), wrap(lengths)


class PadCollate:
    """Collates samples with sequences of unequal lengths: ``DataLoader(data, 32, collate_fn=PadCollate(vocabulary.pad))``.

    A sample is a tuple of fields (or one field). A field of integers with one axis becomes a padded tensor (B, T) and, behind
    it, the lengths (B,) if ``lengths`` asks for them; other fields are joined as `default_collate` does.

    Parameters
    ----------
    pad : int or sequence of int
        For all fields, or one for each.
    lengths : bool or sequence of int
        Put the lengths behind every sequence field (True), none (False), or those of these field numbers.
    """

    def __init__(self, pad: int | Sequence[int] = 0, lengths: bool | Sequence[int] = True) -> None:
        self.pad, self.lengths = pad, lengths

    def __call__(self, samples: Sequence[Any]) -> tuple[Any, ...]:
        rows = [s if isinstance(s, tuple) else (s,) for s in samples]
        if not rows:
            raise ArgumentError("PadCollate: no samples")
        batch: list[Any] = []
        for i, field in enumerate(zip(*rows, strict=True)):
            if not self._is_sequence(field[0]):
                batch.append(default_collate(field))
                continue
            ids, lengths = pad_ids(field, self.pad if isinstance(self.pad, int) else self.pad[i])
            batch.append(ids)
            if self.lengths is True or (self.lengths is not False and i in self.lengths):
                batch.append(lengths)
        return tuple(batch)

    @staticmethod
    def _is_sequence(field: Any) -> bool:
        if isinstance(field, list):
            return not field or isinstance(field[0], int | np.integer)
        return isinstance(field, TensorCore | np.ndarray) and field.ndim == 1 and _array(field).dtype.kind in "iu"


class BucketSampler(_SeededSampler):
    """Batches of samples of similar length, in random order: little padding, yet another mixture each epoch.

    For a `DataLoader` as ``batch_sampler``. Samples are shuffled, cut into pools of many batches, sorted by length inside each
    pool and cut into batches, which are shuffled again. The order depends on (seed, epoch) alone.

    Parameters
    ----------
    lengths : sequence of int
        Of each sample.
    batch_size : int
        Samples in a batch.
    max_tokens : int, optional
        Instead of a fixed number: as many samples as stay, padded, within so many tokens (a longer sample comes alone).
    pool : int
        Batches that are sorted together; more of them means less padding and less mixture.
    shuffle : bool
        False: simply from short to long.
    """

    def __init__(
        self, lengths: Any, batch_size: int = 32, max_tokens: int | None = None, pool: int = 50, shuffle: bool = True,
        drop_last: bool = False, generator: Any = None,
    ) -> None:
        super().__init__(generator)
        self.lengths = np.asarray(lengths, np.int64)
        if self.lengths.ndim != 1 or (self.lengths < 0).any():
            raise ArgumentError("BucketSampler: lengths must be one non-negative integer for each sample")
        if batch_size < 1 or pool < 1 or (max_tokens is not None and max_tokens < 1):
            raise ArgumentError(f"BucketSampler: batch_size={batch_size}, pool={pool} and max_tokens={max_tokens} must be "
                                "positive")
        self.batch_size, self.max_tokens, self.pool = batch_size, max_tokens, pool
        self.shuffle, self.drop_last = shuffle, drop_last

    def batches(self) -> list[np.ndarray]:
        """The batches of this epoch."""
        n = len(self.lengths)
        rng = self.random()
        order = rng.permutation(n) if self.shuffle else np.arange(n)
        if self.max_tokens is None:
            size = self.batch_size * self.pool
        else:  # about `pool` batches' worth of samples
            size = max(1, int(self.pool * self.max_tokens / max(self.lengths.mean(), 1))) if n else 1
        size = size if self.shuffle else max(n, 1)
        found: list[np.ndarray] = []
        for start in range(0, n, size):
            part = order[start : start + size]
            found += self._cut(part[np.argsort(self.lengths[part], kind="stable")])
        if self.drop_last and self.max_tokens is None:
            found = [b for b in found if len(b) == self.batch_size]
        return [found[i] for i in rng.permutation(len(found))] if self.shuffle else found

    def _cut(self, part: np.ndarray) -> list[np.ndarray]:
        """A part from short to long, in batches."""
        if self.max_tokens is None:
            return [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        found, start = [], 0
        for i in range(1, len(part) + 1):
            if i == len(part) or (i + 1 - start) * self.lengths[part[i]] > self.max_tokens:
                found.append(part[start:i])
                start = i
        return found

    def order(self) -> np.ndarray:
        """All samples in the order in which they come."""
        return np.concatenate([np.zeros(0, np.int64), *self.batches()])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches())

    def __len__(self) -> int:
        """Batches in this epoch; with max_tokens it differs a little from epoch to epoch."""
        return len(self.batches())


class BPTTBatches:
    """A long text for truncated backpropagation through time: B parallel streams, cut into windows of T steps.

    The numbers are laid out in B rows, each a contiguous piece of the text; a batch is (input, target), both (B, T) int64,
    the target one step ahead. Row b of a batch goes on where row b of the batch before it ended, so that a recurrent state can
    be carried over (`LanguageModelTrainer` does). The numbers at the end that do not fill all rows are left out; the last
    window may be shorter.

    Parameters
    ----------
    ids : integers (N,)
    batch_size, steps : int
        B and T.
    pieces : int
        An epoch is one such part of every row, the next epoch the next part, so that a long text is validated more than once a
        pass.
    overlap : int
        For models without a carried state: so many tokens before each window are put in front of it, to be read but not
        predicted again: their targets are -100, which the losses and `Perplexity` leave out.
    """

    def __init__(self, ids: Any, batch_size: int, steps: int, pieces: int = 1, overlap: int = 0) -> None:
        array = _array(ids)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ShapeError(f"[BPTTBatches] ids of shape {array.shape} and dtype {array.dtype}; expected integers with one axis")
        if batch_size < 1 or steps < 1 or pieces < 1 or overlap < 0:
            raise ArgumentError(f"BPTTBatches: batch_size={batch_size}, steps={steps}, pieces={pieces} must be positive and "
                                f"overlap={overlap} not negative")
        row = (len(array) - 1) // batch_size
        if row < 1:
            raise ArgumentError(f"BPTTBatches: {len(array)} tokens are too few for batch_size={batch_size}; it needs at least "
                                f"{batch_size + 1}")
        if pieces > -(-row // steps):
            raise ArgumentError(f"BPTTBatches: pieces={pieces}, but a row of {row} tokens has {-(-row // steps)} windows of "
                                f"{steps}")
        self.batch_size, self.steps, self.pieces, self.overlap = batch_size, steps, pieces, overlap
        self._piece = 0
        self.inputs = array[: row * batch_size].reshape(batch_size, row).astype(np.int64)
        self.targets = array[1 : row * batch_size + 1].reshape(batch_size, row).astype(np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Choose the piece of this epoch."""
        self._piece = epoch % self.pieces

    def _starts(self) -> range:
        """Where the windows of this piece begin."""
        windows = -(-self.inputs.shape[1] // self.steps)
        first, last = (i * windows // self.pieces for i in (self._piece, self._piece + 1))
        return range(first * self.steps, min(last * self.steps, self.inputs.shape[1]), self.steps)

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for start in self._starts():
            before = min(self.overlap, start)
            window = slice(start - before, start + self.steps)
            targets = self.targets[:, window].copy()
            targets[:, :before] = -100
            yield wrap(np.ascontiguousarray(self.inputs[:, window])), wrap(targets)

    @property
    def tokens(self) -> int:
        """Predicted tokens in a pass over all pieces."""
        return int(self.inputs.size)
