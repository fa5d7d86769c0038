"""From a list of samples to one batch."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import DTypeError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.ops._common import empty

__all__ = ["collate", "default_collate", "default_convert"]


def default_collate(batch: Sequence[Any]) -> Any:
    """Join samples: what a `DataLoader` does with them unless it is given a `collate_fn`.

    Tensors and arrays are stacked along a new first axis, in pooled memory; numbers become a tensor (floats float32,
    integers int64, booleans bool); texts and bytes a list; tuples, lists and dictionaries are joined field by field.

    Raises
    ------
    ShapeError, DTypeError
        Naming two samples that do not fit together.
    """
    return collate(batch, None)


def collate(samples: Sequence[Any], indices: Sequence[Any] | None, path: str = "") -> Any:
    """`default_collate` that knows the samples' numbers in the data set, for its messages."""
    if not len(samples):
        raise ShapeError("[collate] expected at least one sample, got none")
    first = samples[0]
    if isinstance(first, TensorCore | np.ndarray):
        return wrap(_stack(samples, indices, path))
    if isinstance(first, str | bytes):
        _require(samples, indices, path, type(first))
        return list(samples)
    if isinstance(first, numbers.Number | np.generic):
        return wrap(_numbers(samples, indices, path))
    if isinstance(first, Mapping):
        _require(samples, indices, path, Mapping)
        _same(samples, indices, path, "keys", [tuple(sorted(s, key=str)) for s in samples])
        return {k: collate([s[k] for s in samples], indices, f"{path}[{k!r}]") for k in first}
    if isinstance(first, tuple | list):
        _require(samples, indices, path, tuple | list)
        _same(samples, indices, path, "numbers of fields", [len(s) for s in samples])
        fields = [collate([s[i] for s in samples], indices, f"{path}[{i}]") for i in range(len(first))]
        if isinstance(first, tuple) and hasattr(first, "_fields"):
            return type(first)(*fields)
        return fields if isinstance(first, list) else tuple(fields)
    raise DTypeError(
        f"[collate] {_name(0, indices)}{path} is of type {type(first).__name__}; expected tensors, arrays, numbers, texts, "
        "tuples, lists or dictionaries: convert it in the data set (a PIL image by np.asarray), or pass a collate_fn"
    )


def default_convert(sample: Any) -> Any:
    """A sample as it is, but arrays as tensors (for loaders without batches)."""
    if isinstance(sample, np.ndarray | np.generic):
        return wrap(np.asarray(sample))
    if isinstance(sample, Mapping):
        return {k: default_convert(v) for k, v in sample.items()}
    if isinstance(sample, tuple | list):
        parts = [default_convert(v) for v in sample]
        if isinstance(sample, tuple):
            return type(sample)(*parts) if hasattr(sample, "_fields") else tuple(parts)
        return parts
    return sample


def _name(i: int, indices: Sequence[Any] | None) -> str:
    return f"sample {i}" if indices is None else f"sample {i} (dataset index {indices[i]})"


def _same(samples: Sequence[Any], indices: Sequence[Any] | None, path: str, what: str, values: list[Any]) -> None:
    for i, value in enumerate(values):
        if value != values[0]:
            raise ShapeError(
                f"[collate] {what} differ{f' at {path}' if path else ''}: {_name(0, indices)} has {values[0]}, "
                f"{_name(i, indices)} has {value}; bring samples to one form in the data set (resize, crop, pad), or "
                "pass a collate_fn"
            )


def _require(samples: Sequence[Any], indices: Sequence[Any] | None, path: str, kind: Any) -> None:
    for i, sample in enumerate(samples):
        if not isinstance(sample, kind):
            raise DTypeError(
                f"[collate] types differ{f' at {path}' if path else ''}: {_name(0, indices)} is a "
                f"{type(samples[0]).__name__}, {_name(i, indices)} is a {type(sample).__name__}"
            )


def _stack(samples: Sequence[Any], indices: Sequence[Any] | None, path: str) -> np.ndarray:
    _require(samples, indices, path, TensorCore | np.ndarray | np.generic)
    arrays = [s.data if isinstance(s, TensorCore) else np.asarray(s) for s in samples]
    first = arrays[0]
    if len({a.shape for a in arrays}) > 1:
        _same(samples, indices, path, "shapes", [a.shape for a in arrays])
    if first.dtype.kind in "OUSMm":
        raise DTypeError(
            f"[collate] {_name(0, indices)}{path} has dtype {first.dtype}, which no tensor can hold; encode it as numbers"
        )
    for i, a in enumerate(arrays):
        if a.dtype != first.dtype:
            raise DTypeError(
                f"[collate] dtypes differ{f' at {path}' if path else ''}: {_name(0, indices)} has {first.dtype}, "
                f"{_name(i, indices)} has {a.dtype}; convert in the data set"
            )
    out = empty((len(arrays), *first.shape), first.dtype.newbyteorder("="))
    if first.dtype.isnative:
        _core.stack_rows([np.ascontiguousarray(a) if a.ndim else a for a in arrays], out)
    else:
        np.stack(arrays, out=out)
    return out


def _numbers(samples: Sequence[Any], indices: Sequence[Any] | None, path: str) -> np.ndarray:
    _require(samples, indices, path, numbers.Number | np.generic | np.ndarray | TensorCore)
    values = [s.data if isinstance(s, TensorCore) else s for s in samples]
    _same(samples, indices, path, "shapes", [np.shape(v) for v in values])
    array = np.asarray(values)
    if array.dtype.kind in "OUSMmc":
        raise DTypeError(f"[collate] {_name(0, indices)}{path} has dtype {array.dtype}, which no tensor can hold")
    python_floats = array.dtype == np.float64 and not any(isinstance(v, np.generic | np.ndarray) for v in values)
    return array.astype(np.float32) if python_floats else array
