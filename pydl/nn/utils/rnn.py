"""Batches of sequences of unequal lengths: padding, packing, and back (PyTorch's ``nn.utils.rnn``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.ops.pad import pad
from pydl.ops.rnn import as_lengths, longest_first, pack_rows, pad_rows, ragged
from pydl.ops.shape import stack, transpose

__all__ = [
    "PackedSequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence", "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence(NamedTuple):
    """Sequences without their padding: all first steps (longest sequence first), then all second steps, and so on.

    Made by `pack_padded_sequence` or `pack_sequence`; recurrent layers take it in place of a padded batch.
    """

    data: Any                      # (sum of lengths, ...)
    batch_sizes: Any               # int64: how many sequences have step t
    sorted_indices: Any = None     # int64: the sequences from long to short; None if they came so
    unsorted_indices: Any = None   # int64: where each sequence went


def _steps_first(input: Any, batch_first: bool) -> Any:
    return transpose(input, 0, 1) if batch_first else input


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """A padded batch (T, B, ...), or (B, T, ...) with batch_first, without its padding.

    Parameters
    ----------
    lengths : integers
        Steps of each sequence, 1 to T.
    enforce_sorted : bool
        Insist that lengths fall. With False any order goes: the sequences are sorted, and `pad_packed_sequence` and the layers
        put them back.

    Raises
    ------
    ArgumentError
        If a length is 0 or beyond T, or the lengths do not fall and ``enforce_sorted`` is True.
    """
    op = "pack_padded_sequence"
    if input.data.ndim < 2:
        raise ShapeError(f"[{op}] input of shape {input.data.shape}, expected (T, B, ...), or (B, T, ...) with batch_first=True")
    x = _steps_first(input, batch_first)
    checked = as_lengths(op, lengths, x.data.shape[1], x.data.shape[0])
    if not len(checked):
        raise ShapeError(f"[{op}] input of shape {input.data.shape} holds no sequences; an empty batch cannot be packed")
    if enforce_sorted and (np.diff(checked) > 0).any():
        raise ArgumentError(f"[{op}] lengths {checked.tolist()} do not fall; sort the batch from long to short, or pass "
                            "enforce_sorted=False")
    order = np.arange(len(checked)) if enforce_sorted else longest_first(checked)
    plan = ragged(checked, order, x.data.shape[0])
    data = pack_rows(x, plan)
    if enforce_sorted:
        return PackedSequence(data, wrap(plan.batch_sizes))
    return PackedSequence(data, wrap(plan.batch_sizes), wrap(plan.order), wrap(plan.inverse))


def _lengths(packed: PackedSequence) -> np.ndarray:
    """Lengths in packed order, from long to short."""
    sizes = packed.batch_sizes.data
    return (sizes[None, :] > np.arange(sizes[0])[:, None]).sum(1)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Any, Any]:
    """The padded batch (T, B, ...) and the lengths (int64) of a packed one, sequences in their original order.

    ``total_length`` pads further than the longest sequence (for parts of a batch that must fit together).
    """
    lengths = _lengths(sequence)
    longest = len(sequence.batch_sizes.data)
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ArgumentError(f"[pad_packed_sequence] total_length={total_length} is below the longest sequence ({longest} steps)")
    order = np.arange(len(lengths)) if sequence.sorted_indices is None else sequence.sorted_indices.data
    original = np.empty_like(lengths)
    original[order] = lengths
    padded = pad_rows(sequence.data, ragged(original, order, steps), steps, padding_value)
    return _steps_first(padded, batch_first), wrap(original)


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Any:
    """Tensors (T_i, ...) of unequal lengths side by side: (T, B, ...), or (B, T, ...) with batch_first; T is the longest."""
    op = "pad_sequence"
    if padding_side not in ("left", "right"):
        raise ArgumentError(f"[{op}] padding_side={padding_side!r}; expected 'right' or 'left'")
    tensors = list(sequences)
    if not tensors:
        raise ArgumentError(f"[{op}] sequences is empty; give at least one tensor")
    rest = tensors[0].data.shape[1:]
    for i, t in enumerate(tensors):
        if not t.data.ndim or t.data.shape[1:] != rest:
            raise ShapeError(f"[{op}] sequences[{i}] of shape {t.data.shape}; all but the first axis must equal {rest}, as in "
                             "sequences[0]")
    steps = max(len(t.data) for t in tensors)
    padded = []
    for t in tensors:
        missing = steps - len(t.data)
        ends = (missing, 0) if padding_side == "left" else (0, missing)
        padded.append(pad(t, [0, 0] * len(rest) + list(ends), "constant", padding_value) if missing else t)
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """The tensors (T_i, ...) of a padded batch."""
    x = padded_sequences if batch_first else transpose(padded_sequences, 0, 1)
    checked = as_lengths("unpad_sequence", lengths, *x.data.shape[:2])
    return [x[i, : int(n)] for i, n in enumerate(checked)]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (T_i, ...) of unequal lengths, packed."""
    tensors = list(sequences)
    lengths = np.array([len(t.data) if isinstance(t, TensorCore) else len(t) for t in tensors], np.int64)
    return pack_padded_sequence(pad_sequence(tensors), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The tensors (T_i, ...) of a packed batch, in their original order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
