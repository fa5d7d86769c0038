"""How element-wise work reaches its kernel: `run_map`, and what the tape itself needs of it."""

from __future__ import annotations

import numpy as np

from pydl import _core
from pydl.graph.engine import set_accumulate, set_copy
from pydl.graph.op import Shape
from pydl.ops._common import FLOATS, copy, empty, empty_like, memory_order

MAPS = _core.MAPS


def run_map(name: str, *arrays: np.ndarray, params: tuple[float, ...] = ()) -> np.ndarray:
    """Apply a native element-wise function to broadcastable arrays of one floating dtype."""
    first = arrays[0]
    if all(a.shape == first.shape for a in arrays[1:]):
        out = empty_like(first)
    else:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        out = empty_broadcast(shape, arrays)
    _core.map(MAPS[name], arrays, out, params)
    return out


def empty_broadcast(shape: Shape, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """The output of a broadcast keeps the memory order of the first operand that has the full shape."""
    for a in arrays:
        if a.shape == shape:
            return empty_like(a)
    widest = max(arrays, key=lambda a: a.ndim)
    if widest.ndim == len(shape) and not widest.flags.c_contiguous:
        return _core.empty(shape, widest.dtype, memory_order(widest))
    return empty(shape, widest.dtype)


def accumulate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return run_map("add", a, b) if a.dtype in FLOATS and a.dtype == b.dtype else a + b


def copy_like(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    return copy(array, empty_like(like, array.dtype))


set_accumulate(accumulate)
set_copy(copy_like)
