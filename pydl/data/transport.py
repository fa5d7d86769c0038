"""Batches through a pipe: the arrays go as raw bytes straight into pooled memory, only the skeleton is pickled.

Pickle is fine here: both ends are processes of one program, and nothing reaches a file.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import ChainMap
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from pydl.graph.engine import TensorCore, wrap
from pydl.ops._common import empty
from pydl.tensor import Tensor

__all__ = ["dumps", "receive", "send"]

_COUNTS = struct.Struct("<QQ")  # bytes of the skeleton, number of arrays


def _reduce_tensor(tensor: TensorCore) -> Any:
    return wrap, (tensor.data,)


class _Pickler(pickle.Pickler):
    dispatch_table: Any = ChainMap({Tensor: _reduce_tensor}, ForkingPickler(io.BytesIO()).dispatch_table)


def dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """Pickle for another process; the memory of arrays is left out and appended to `buffers`, if given."""
    file = io.BytesIO()
    _Pickler(file, protocol=5, buffer_callback=None if buffers is None else buffers.append).dump(value)
    return file.getvalue()


def send(fd: int, value: Any) -> None:
    """Write a value to a pipe."""
    buffers: list[pickle.PickleBuffer] = []
    skeleton = dumps(value, buffers)
    views = [b.raw() for b in buffers]
    header = _COUNTS.pack(len(skeleton), len(views)) + struct.pack(f"<{len(views)}Q", *(v.nbytes for v in views))
    for part in (memoryview(header + skeleton), *views):
        while part.nbytes:
            part = part[os.write(fd, part) :]


def receive(fd: int) -> Any:
    """Read a value that `send` wrote; EOFError when the other end has closed."""
    skeleton_size, count = _COUNTS.unpack(_read(fd, _COUNTS.size))
    sizes = struct.unpack(f"<{count}Q", _read(fd, 8 * count))
    skeleton = _read(fd, skeleton_size)
    return pickle.loads(skeleton, buffers=[_read(fd, size) for size in sizes])


def _read(fd: int, size: int) -> memoryview:
    block = empty((size,), np.uint8).data
    view = block
    while view.nbytes:
        done = os.readv(fd, [view])
        if not done:
            raise EOFError("the other end of the pipe is closed")
        view = view[done:]
    return block
