"""The IDX format of MNIST and its relatives: a header that tells dtype and shape, then the elements, big-endian."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np

from pydl.errors import PydlError

__all__ = ["IdxError", "read_idx"]

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class IdxError(PydlError, ValueError):
    """A file is not IDX, or damaged."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, plain or compressed by gzip (told by its content, not by its name).

    Raises
    ------
    IdxError
        Naming the file and what is wrong: another format, truncated, damaged, or data after the end.
    """
    path = Path(path)
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if compressed else open(path, "rb") as file:
            return _read(path, file, path.stat().st_size * (1100 if compressed else 1))  # gzip shrinks by 1032 at most
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise IdxError(f"{path} is a damaged gzip file ({error}); delete it and fetch it again") from None


def _read(path: Path, file: gzip.GzipFile | BufferedReader, most: int) -> np.ndarray:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES or not start[3]:
        raise IdxError(f"{path} is not an IDX file: it starts with the bytes {start.hex(' ') or '(none)'}, expected 00 00 "
                       "<element type> <number of axes>")  # fmt: skip
    axes = file.read(4 * start[3])
    if len(axes) < 4 * start[3]:
        raise IdxError(f"{path} is truncated: it ends within its header")
    shape = struct.unpack(f">{start[3]}I", axes)
    dtype = np.dtype(_DTYPES[start[2]])
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise IdxError(f"{path} is truncated or damaged: its header promises {size} bytes of shape {shape}, it has fewer")
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size and (n := file.readinto(view[done:])):
        done += n
    if done < size:
        raise IdxError(f"{path} is truncated: {done} bytes of data, its header promises {size} (shape {shape})")
    if file.read(1):
        raise IdxError(f"{path} is damaged: there is more data than the {size} bytes (shape {shape}) its header promises")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
