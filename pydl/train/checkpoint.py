"""Checkpoints: any nesting of tensors, numbers, texts, lists and dictionaries as one safetensors file, without pickle.

The tensors become the tensors of the file; all the rest becomes JSON in its metadata. One file holds everything and is
renamed into place whole, so there is no moment at which model, optimizer and position could disagree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import TensorCore, wrap
from pydl.train.storage import CheckpointError, Path_, read_tensors, write_tensors

__all__ = ["CheckpointError", "Checkpoints", "latest", "load", "load_checkpoint", "save", "save_checkpoint"]

FORMAT = 1
_KIND = "pydl-checkpoint"
_PATTERN = re.compile(r"checkpoint-(\d+)\.safetensors")


# --------------------------------------------------------------------------- nested state <-> tensors and JSON


class _Packer:
    """Takes the tensors out of a nested state. What JSON lacks becomes a dictionary with one key that starts with $."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def pack(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, TensorCore):
            return {"$tensor": self._add(value.data, path)}
        if isinstance(value, np.ndarray):
            return {"$array": self._add(value, path)}
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, list | tuple):
            items = [self.pack(v, f"{path}.{i}") for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        if isinstance(value, Mapping):
            return self._pack_mapping(value, path)
        raise ArgumentError(
            f"save: {path or 'the state'} is a {type(value).__name__}; a state may hold tensors, arrays, numbers, "
            "texts, None, lists, tuples and dictionaries (nothing is pickled)"
        )

    def _pack_mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        def name(key: Any) -> str:
            return f"{path}.{key}" if path else str(key)

        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {k: self.pack(v, name(k)) for k, v in value.items()}
        return {"$items": [[self.pack(k, "key"), self.pack(v, name(k))] for k, v in value.items()]}

    def _add(self, array: np.ndarray, path: str) -> str:
        name, n = path or "tensor", 2
        while name in self.arrays:  # {"a.b": x, "a": {"b": y}}
            name, n = f"{path}#{n}", n + 1
        self.arrays[name] = array
        return name


def _unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, content) = next(iter(value.items()))
        if key == "$tensor":
            return wrap(arrays[content])
        if key == "$array":
            return arrays[content]
        if key == "$float":
            return float(content)
        if key == "$tuple":
            return tuple(_unpack(v, arrays) for v in content)
        if key == "$items":
            return {_unpack(k, arrays): _unpack(v, arrays) for k, v in content}
    return {k: _unpack(v, arrays) for k, v in value.items()}


# --------------------------------------------------------------------------- plain state dictionaries


def save(obj: Mapping[Any, Any], f: Path_) -> None:
    """Save a state (``model.state_dict()``, say) as a safetensors file, atomically and with a checksum.

    Parameters
    ----------
    obj : dict
        Tensors, arrays, numbers, texts, None, and lists, tuples and dictionaries of them. A plain dictionary of tensors
        gives a file that every reader of safetensors understands.
    f : path
        The file; conventionally it ends in ``.safetensors``.
    """
    if not isinstance(obj, Mapping):
        raise ArgumentError(f"save: expected a dictionary such as model.state_dict(), got {type(obj).__name__}")
    packer = _Packer()
    skeleton = packer.pack(obj, "")
    plain = all(isinstance(k, str) and v == {"$tensor": k} for k, v in skeleton.items())
    write_tensors(f, packer.arrays, {} if plain else {"pydl": _dump(skeleton)})


def load(f: Path_) -> dict[Any, Any]:
    """What `save` wrote; from any other safetensors file, a dictionary of its tensors.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, truncated or of another kind.
    """
    arrays, metadata = read_tensors(f)
    if "pydl" not in metadata:
        return {name: wrap(array) for name, array in arrays.items()}
    return dict(_restore(Path(f), metadata["pydl"], arrays))


def _dump(skeleton: Any) -> str:
    return json.dumps(skeleton, separators=(",", ":"), allow_nan=False)


def _restore(path: Path, text: str, arrays: Mapping[str, np.ndarray]) -> Any:
    try:
        return _unpack(json.loads(text), arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not fit together: {type(error).__name__}: {error}") from None


# --------------------------------------------------------------------------- checkpoints


def save_checkpoint(path: Path_, state: Mapping[str, Any]) -> None:
    """Write a whole training state as one checkpoint file, atomically."""
    packer = _Packer()
    skeleton = packer.pack(state, "")
    write_tensors(path, packer.arrays, {"kind": _KIND, "format": str(FORMAT), "pydl": _dump(skeleton)})


def load_checkpoint(path: Path_) -> dict[str, Any]:
    """Read a checkpoint and verify it: its checksum over every byte, its kind and its format version.

    Raises
    ------
    CheckpointError
        Naming the file and what is wrong with it.
    """
    path = Path(path)
    arrays, metadata = read_tensors(path, require_checksum=True)
    if metadata.get("kind") != _KIND:
        raise CheckpointError(
            f"{path} is a tensor file, but not a checkpoint; read it with pydl.load and model.load_state_dict"
        )
    if metadata.get("format") != str(FORMAT):
        raise CheckpointError(
            f"{path} has checkpoint format {metadata.get('format')}, this version of pydl reads {FORMAT}; "
            "use the pydl that wrote it"
        )
    return dict(_restore(path, metadata["pydl"], arrays))


def _step(path: Path) -> float:
    """The step in a checkpoint's name; a file of another name counts as newer than all."""
    match = _PATTERN.fullmatch(path.name)
    return int(match[1]) if match else math.inf


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _PATTERN.fullmatch(p.name)), key=_step)


def latest(folder: Path_) -> Path | None:
    """The newest checkpoint file of a folder, or None."""
    found = _numbered(Path(folder))
    return found[-1] if found else None


class Checkpoints:
    """The checkpoints of one run: ``checkpoint-<step>.safetensors`` in a folder, the newest `keep` of them.

    One process writes into a folder at a time.

    Parameters
    ----------
    folder : path
        Made when the first checkpoint is written.
    keep : int
        How many to keep, at least 1. Two or more leave an older one to fall back to.
    """

    def __init__(self, folder: Path_, keep: int = 3) -> None:
        if keep < 1:
            raise ArgumentError(f"Checkpoints: keep={keep}, expected at least 1")
        self.folder, self.keep = Path(folder), keep

    def paths(self) -> list[Path]:
        """All checkpoint files, oldest first."""
        return _numbered(self.folder)

    def latest(self) -> Path | None:
        """The newest checkpoint file, or None."""
        return latest(self.folder)

    def save(self, state: Mapping[str, Any], step: int) -> Path:
        """Write the checkpoint of a step, then remove what is older than the newest `keep`."""
        path = self.folder / f"checkpoint-{step:09d}.safetensors"
        save_checkpoint(path, state)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        for left_over in self.folder.glob(".checkpoint-*.tmp"):  # of a writer that was killed
            left_over.unlink(missing_ok=True)
        return path

    def remove_all(self) -> None:
        """Remove every checkpoint: a run that starts anew must not be continued from an older run's files."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def load(self, path: Path_ | None = None, fallback: bool = False) -> tuple[dict[str, Any], Path]:
        """The state of `path` (default: the newest) and the file that it came from.

        Raises
        ------
        CheckpointError
            If there is none, or it is damaged and `fallback` is False: the message names the newest older one that is
            good. With `fallback` that one is loaded instead.
        """
        chosen = Path(path) if path is not None else self.latest()
        if chosen is None:
            raise CheckpointError(f"{self.folder} has no checkpoint")
        try:
            return load_checkpoint(chosen), chosen
        except CheckpointError as error:
            if not chosen.exists():
                raise
            good = self._good_before(chosen)
            if fallback and good is not None:
                return good
            raise CheckpointError(f"{error}. {self._advice(good)}") from None

    def _good_before(self, path: Path) -> tuple[dict[str, Any], Path] | None:
        for older in reversed([p for p in _numbered(path.parent) if _step(p) < _step(path)]):
            try:
                return load_checkpoint(older), older
            except CheckpointError:
                continue
        return None

    def _advice(self, good: tuple[dict[str, Any], Path] | None) -> str:
        if good is None:
            return f"There is no older good checkpoint in {self.folder} to fall back to; delete the file to start anew"
        return f"fallback=True would continue from the previous good one, {good[1]}"
