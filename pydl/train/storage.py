"""Files that are either wholly there or not there, and tensors in them: safetensors with a checksum over every byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from pydl.errors import ArgumentError, PydlError

__all__ = ["CheckpointError", "atomic_write", "atomic_write_text", "read_tensors", "temporary_name", "write_tensors"]

Path_ = str | os.PathLike[str]

# The names that the safetensors format gives to element types.
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}
_WRITER = "pydl"
_START = b'{"__metadata__":{"sha256":"'  # the checksum's 64 digits come first in the header, so their place is fixed
_CHECKSUM = slice(8 + len(_START), 8 + len(_START) + 64)
_NO_CHECKSUM = "0" * 64  # stands there while the checksum is computed


class CheckpointError(PydlError, ValueError):
    """A checkpoint or tensor file is damaged, truncated, of another kind, or missing."""


# --------------------------------------------------------------------------- atomic files


def temporary_name(path: Path) -> Path:
    """Where the file is prepared: one name per target, so that a killed writer leaves at most one such file."""
    return path.with_name(f".{path.name}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Some systems (Windows) cannot open folders: there the rename alone has to do."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path_) -> Iterator[IO[bytes]]:
    """A binary file to write: it takes the place of `path` when the block ends, or leaves it as it was if the block
    raises or the process dies."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def atomic_write_text(path: Path_, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


# --------------------------------------------------------------------------- writing tensors


def _little_endian(array: np.ndarray) -> np.ndarray:
    """The array in C order and in the byte order of the format (bfloat16 has no byte order of its own)."""
    array = np.ascontiguousarray(array) if array.ndim else array
    return array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.kind in "fiu" else array


def _header(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"sha256": _NO_CHECKSUM, "writer": _WRITER, **metadata}}
    offset = 0
    for name, array in arrays.items():
        kind = _NAMES.get(array.dtype.name)
        if kind is None:
            raise ArgumentError(
                f"save: {name!r} has element type {array.dtype}, which safetensors cannot hold; convert it first"
            )
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return text + b" " * (-len(text) % 8)  # the data starts at a multiple of 8


def write_tensors(path: Path_, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts atomically as one safetensors file; its metadata ``sha256`` covers the whole file.

    The arrays are written from where they are, without a copy of the whole.
    """
    if "__metadata__" in arrays:
        raise ArgumentError("save: no tensor can be named '__metadata__'; the format uses this name itself")
    # The widest types first: then every tensor starts at a multiple of its own size.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    header = _header(ordered, metadata)
    start = len(header).to_bytes(8, "little")
    digest = hashlib.sha256(start + header)
    with atomic_write(path) as file:
        file.write(start + header)
        for array in ordered.values():
            data = _little_endian(array).reshape(-1).view(np.uint8).data
            digest.update(data)
            file.write(data)
        file.seek(_CHECKSUM.start)
        file.write(digest.hexdigest().encode())


# --------------------------------------------------------------------------- reading tensors


def _parse_header(path: Path, data: bytes) -> tuple[bytes, dict[str, Any]]:
    if len(data) < 8:
        raise CheckpointError(f"{path} is truncated: {len(data)} bytes, too short for the header of a safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > 100_000_000:
        raise CheckpointError(f"{path} is not a safetensors file: it starts with {data[:8]!r}, not with a header's length")
    if length > len(data) - 8:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file: {len(data)} bytes, its header needs {length + 8}"
        )
    header = data[8 : 8 + length]
    try:
        fields = json.loads(header)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: its header is not JSON ({error})") from None
    if not isinstance(fields, dict) or not all(isinstance(v, dict) for v in fields.values()):
        raise CheckpointError(f"{path} is not a safetensors file: its header is JSON, but does not describe tensors")
    return header, fields


def _verify(path: Path, data: bytes, header: bytes, fields: dict[str, Any], expected: str) -> None:
    try:
        ends = [int(v["data_offsets"][1]) for k, v in fields.items() if k != "__metadata__"]
    except (KeyError, IndexError, TypeError, ValueError):
        raise CheckpointError(f"{path} is damaged: its header does not say where the tensors are") from None
    need = 8 + len(header) + max(ends, default=0)
    if len(data) < need:
        raise CheckpointError(f"{path} is truncated: {len(data)} bytes of {need}")
    digest = hashlib.sha256(data[: _CHECKSUM.start])
    digest.update(_NO_CHECKSUM.encode())
    digest.update(memoryview(data)[_CHECKSUM.stop :])
    if digest.hexdigest() != expected:
        found = digest.hexdigest()
        raise CheckpointError(f"{path} is damaged: its checksum is {found[:12]}..., the file says {expected[:12]}...")


def _to_array(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    types = {v: k for k, v in _NAMES.items()}
    kind = types.get(entry["dtype"])
    if kind is None:
        raise CheckpointError(f"{path}: tensor {name!r} has element type {entry['dtype']}, which pydl cannot hold")
    if kind == "bfloat16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(kind).newbyteorder("<")
    # frombuffer on the bytes gives read-only memory: the caller owns what it loads, so copy.
    array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return array.astype(dtype.newbyteorder("=") if kind != "bfloat16" else dtype)


def read_tensors(path: Path_, require_checksum: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file; the checksum is verified if the file has one.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, damaged or of another kind, saying which.
    """
    import safetensors

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    header, fields = _parse_header(path, data)
    metadata = dict(fields.get("__metadata__", {}))
    expected = metadata.pop("sha256", None)
    if metadata.pop("writer", None) == _WRITER or header.startswith(_START):
        _verify(path, data, header, fields, str(expected))
    elif require_checksum:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of pydl (it has no checksum)")
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from None
    return {name: _to_array(path, name, entry) for name, entry in entries}, metadata


