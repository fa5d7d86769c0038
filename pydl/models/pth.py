"""Reads tensors from files that `torch.save` wrote, without torch and without running anything that the file says.

Such a file is a pickle, which can ask its reader to call any function. Here the pickle's instructions are interpreted by
a machine that knows only what a state dictionary needs: numbers, texts, lists, tuples, dictionaries and tensors. A name
of a function or class is only a text for it; any but the handful in `_CALLS` ends the reading.

Formats: the zip archive (since PyTorch 1.6: ``data.pkl``, and each storage as a member ``data/KEY``), and the older plain
one (four pickles, then the storages one after the other).
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pydl.graph.engine import TensorCore, wrap
from pydl.train.storage import CheckpointError

__all__ = ["read_pth"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MARK = object()

_DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bfloat16", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


class _Name(NamedTuple):
    """A function or class that the pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Storage(NamedTuple):
    """One-dimensional memory that tensors look into; filled after the pickle is read in the older format."""

    data: np.ndarray
    key: str


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


# --------------------------------------------------------------------------- what a pickle may make


def _whole(*values: Any) -> bool:
    return all(type(v) is int and v >= 0 for v in values)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """A tensor: a view of its storage, after a check that it stays inside."""
    if not (isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple)
            and len(size) == len(stride) <= 64 and _whole(offset, *size, *stride)):
        raise ValueError("a tensor is described wrongly")
    memory, count = storage.data, 1
    for n in size:
        count *= n
    if count == 0:
        return wrap(np.empty(size, memory.dtype))
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= memory.size or count > memory.size:
        raise ValueError(f"a tensor of shape {size} reaches beyond its storage of {memory.size} elements")
    strides = [s * memory.itemsize for s in stride]
    return wrap(np.lib.stride_tricks.as_strided(memory[offset:], size, strides))


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, TensorCore):
        raise ValueError("a parameter holds no tensor")
    return data


def _mapping(items: Any = (), *_: Any) -> dict[Any, Any]:
    """OrderedDict: empty, or from a list of pairs (Python 2)."""
    made: dict[Any, Any] = {}
    for pair in items:
        _set(made, *pair)
    return made


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _mapping,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
}


def _set(target: Any, key: Any, value: Any) -> None:
    if not (isinstance(target, dict) and type(key) in (str, int, bool, bytes)):
        raise ValueError("a dictionary with a key that is neither text nor number")
    target[key] = value


# --------------------------------------------------------------------------- the machine


class _Machine:
    """Interprets one pickle: a stack, a memo, and the instructions below; `load_storage` serves persistent ids."""

    def __init__(self, load_storage: Callable[[Any], Any]) -> None:
        self.load_storage = load_storage

    def run(self, file: IO[bytes]) -> Any:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                break
            self.step(opcode.name, argument)
        return self.stack.pop()

    def step(self, op: str, argument: Any) -> None:
        stack = self.stack
        if op in _CONSTANTS:
            stack.append(_CONSTANTS[op])
        elif op in _VALUES:
            stack.append(argument)
        elif op in _MAKE:
            stack.append(_MAKE[op]())
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif op not in ("PROTO", "FRAME"):
            act = getattr(self, f"do_{op.lower()}", None)
            if act is None:
                raise ValueError(f"the instruction {op}, which no state dictionary needs")
            act(argument)

    def pop_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def push_last(self, n: int) -> None:
        items = tuple(self.stack[-n:])
        del self.stack[-n:]
        self.stack.append(items)

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def do_tuple1(self, _: Any) -> None:
        self.push_last(1)

    def do_tuple2(self, _: Any) -> None:
        self.push_last(2)

    def do_tuple3(self, _: Any) -> None:
        self.push_last(3)

    def do_list(self, _: Any) -> None:
        self.stack.append(self.pop_mark())

    def do_dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(made, key, value)
        self.stack.append(made)

    def do_append(self, _: Any) -> None:
        value = self.stack.pop()
        self.extend([value])

    def do_appends(self, _: Any) -> None:
        self.extend(self.pop_mark())

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("an append to what is no list")
        self.stack[-1].extend(items)

    def do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], key, value)

    def do_setitems(self, _: Any) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(self.stack[-1], key, value)

    def do_global(self, argument: str) -> None:
        self.stack.append(_Name(*argument.split(" ", 1)))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_Name(str(module), str(name)))

    def do_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        call = _CALLS.get((function.module, function.name)) if isinstance(function, _Name) else None
        if call is None or not isinstance(arguments, tuple):
            raise ValueError(f"a call of {function if isinstance(function, _Name) else 'what is no function'}; "
                             "only tensors and dictionaries are made here")
        self.stack.append(call(*arguments))

    def do_build(self, _: Any) -> None:
        """Attributes, which `state_dict` gives to its dictionary (versions of modules): not needed."""
        state = self.stack.pop()
        if not (isinstance(self.stack[-1], dict) and isinstance(state, dict)):
            raise ValueError("attributes of what is no dictionary")

    def do_binpersid(self, _: Any) -> None:
        self.stack.append(self.load_storage(self.stack.pop()))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": _MARK}
_MAKE: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_VALUES = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
})  # fmt: skip


# --------------------------------------------------------------------------- the two formats


def _storage_fields(persistent_id: Any) -> tuple[np.dtype, str, int]:
    """Element type, key and number of elements from ("storage", type, key, device, count, ...)."""
    if not (isinstance(persistent_id, tuple) and len(persistent_id) >= 5 and persistent_id[0] == "storage"):
        raise ValueError("an outside object that is no storage")
    _, kind, key, _, count = persistent_id[:5]
    if not (isinstance(kind, _Name) and kind.module in ("torch", "torch.cuda", "torch.storage")) or kind.name not in _DTYPES:
        raise ValueError(f"a storage of type {kind}, which pydl cannot hold")
    if not (isinstance(key, str) and _whole(count)):
        raise ValueError("a storage is described wrongly")
    return _dtype(_DTYPES[kind.name]), key, count


def _read_zip(path: Path) -> Any:
    storages: dict[str, _Storage] = {}
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive: torch.save did not write it")
        root = pickles[0][: -len("data.pkl")]
        if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in members.values()):
            raise ValueError("compressed members, which torch.save never writes")
        size = path.stat().st_size
        order = archive.read(root + "byteorder") if root + "byteorder" in members else b"little"

        def load_storage(persistent_id: Any) -> _Storage:
            dtype, key, count = _storage_fields(persistent_id)
            if key not in storages:
                info = members.get(f"{root}data/{key}")
                if info is None or not count * dtype.itemsize <= info.file_size <= size:
                    raise ValueError(f"storage {key} is missing or too short")
                data = np.empty(count, dtype)
                with archive.open(info) as file:
                    _read_into(file, data, order == b"big")
                    file.read()  # to the end, where the archive's checksum is compared
                storages[key] = _Storage(data, key)
            return _same_type(storages[key], dtype)

        return _Machine(load_storage).run(io.BytesIO(archive.read(pickles[0])))


def _same_type(storage: _Storage, dtype: np.dtype) -> _Storage:
    if storage.data.dtype != dtype:
        raise ValueError(f"storage {storage.key} with two element types")
    return storage


def _read_into(file: IO[bytes], data: np.ndarray, big_endian: bool) -> None:
    view, done = data.view(np.uint8), 0
    while done < view.size:
        block = file.read(min(1 << 24, view.size - done))
        if not block:
            raise ValueError("the file ends within a storage: it is truncated")
        view[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    if big_endian == np.little_endian:  # the file's order is not this machine's
        data.byteswap(inplace=True)


def _read_legacy(path: Path) -> Any:
    size = path.stat().st_size
    storages: dict[str, _Storage] = {}

    def load_storage(persistent_id: Any) -> _Storage:
        dtype, key, count = _storage_fields(persistent_id)
        if len(persistent_id) > 5 and persistent_id[5] is not None:
            raise ValueError("a view of a storage, as very old versions of torch wrote; save it anew with torch")
        if key not in storages:
            if count * dtype.itemsize > size:
                raise ValueError(f"storage {key} is larger than the file: it is truncated")
            storages[key] = _Storage(np.empty(count, dtype), key)
        return _same_type(storages[key], dtype)

    def plain(_: Any) -> Any:
        raise ValueError("a storage where none can be")

    with open(path, "rb") as file:
        if _Machine(plain).run(file) != _LEGACY_MAGIC or _Machine(plain).run(file) != _LEGACY_PROTOCOL:
            raise ValueError("it does not start as torch.save starts")
        system = _Machine(plain).run(file)
        value = _Machine(load_storage).run(file)
        keys = _Machine(plain).run(file)
        if not isinstance(keys, list) or set(keys) != set(storages):
            raise ValueError("the list of storages is not that of the tensors")
        little = not isinstance(system, dict) or system.get("little_endian", True)
        for key in keys:
            count = int.from_bytes(file.read(8), "little" if little else "big", signed=True)
            if count != storages[key].data.size:
                raise ValueError(f"storage {key} has {count} elements, its tensors expect {storages[key].data.size}")
            _read_into(file, storages[key].data, not little)
    return value


# What a reader of damaged bytes meets, besides ValueError.
_DAMAGE = (zipfile.BadZipFile, struct.error, LookupError, TypeError, AttributeError, EOFError, ArithmeticError, RuntimeError,
           MemoryError)  # fmt: skip


def read_pth(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote: dictionaries, lists, numbers, texts and tensors; nothing in the file is run.

    Parameters
    ----------
    path : path
        A ``.pth``, ``.pt`` or ``.bin`` file, in the zip or the older format.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or truncated, or asks for anything but plain values and tensors.
    """
    path = Path(path)
    try:
        read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
        return read(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged or no file of tensors: {error}") from None
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged or no file of tensors ({type(error).__name__}: {error})") from None
