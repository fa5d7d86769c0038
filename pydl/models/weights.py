"""Weights from files into networks."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pydl.errors import ArgumentError
from pydl.models.pth import read_pth
from pydl.nn.module import Module, StateDictError
from pydl.tensor import Tensor, from_numpy
from pydl.train.checkpoint import load
from pydl.train.storage import CheckpointError

__all__ = ["load_weights", "read_weights"]

M = TypeVar("M", bound=Module)

# Under these names training scripts keep the state dictionary of the network beside other things.
_INSIDE = ("state_dict", "model_state_dict", "model_state", "model")


def read_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state dictionary in a ``.safetensors`` file, a ``.pth``, ``.pt`` or ``.bin`` file of PyTorch, or NumPy's ``.npz``.

    A checkpoint with the state dictionary under "state_dict" or "model" gives that, and "module." before all names (of
    networks that were trained on several devices) is left out. Code in a file is never run (see `pydl.models.pth`).
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        values: Any = load(path)
    elif path.suffix in (".pth", ".pt", ".bin"):
        values = read_pth(path)
    elif path.suffix == ".npz":
        values = _read_npz(path)
    else:
        raise ArgumentError(f"load_weights: {path} ends in {path.suffix!r}; expected .safetensors, .pth, .pt, .bin or .npz")
    for name in _INSIDE:
        if isinstance(values, Mapping) and isinstance(values.get(name), Mapping):
            values = values[name]
    if not isinstance(values, Mapping) or not values or not all(isinstance(v, Tensor) for v in values.values()):
        raise ArgumentError(f"load_weights: {path} holds no state dictionary (names and tensors alone), but "
                            + (f"{list(values)[:8]}" if isinstance(values, Mapping) else type(values).__name__))
    if all(str(k).startswith("module.") for k in values):
        values = {k[len("module."):]: v for k, v in values.items()}
    return dict(values)


def _read_npz(path: Path) -> dict[str, Any]:
    """The arrays in an archive of `numpy.savez`; pickled objects in it are refused."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: from_numpy(archive[name]) for name in archive.files}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is damaged or no archive of arrays: {error}") from None


def load_weights(model: M, path: str | os.PathLike[str], strict: bool = True) -> M:
    """Copy the weights of a file into a network, and return it.

    Parameters
    ----------
    model : Module
        Receives the values; it stays as it was if they do not fit.
    path : path
        Safetensors, what `torch.save` wrote (both its formats), or what `numpy.savez` wrote, by the suffix.
    strict : bool
        False: names that only the network or only the file has are left alone (a new head, say). Shapes must always agree.

    Raises
    ------
    StateDictError
        With the file and every name that is missing, unexpected or of another shape.
    CheckpointError
        If the file is missing, damaged, or asks for anything but tensors.

    Examples
    --------
    >>> import pydl, tempfile
    >>> from pydl import models
    >>> model = models.create("mlp", sizes=(4, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pydl.save(model.state_dict(), f"{folder}/mlp.safetensors")
    ...     models.load_weights(model, f"{folder}/mlp.safetensors") is model
    True
    """
    values = read_weights(path)
    convert = getattr(model, "published_state", None)
    if convert is not None:
        values = convert(values)
    rename = getattr(model, "published_name", None)
    if rename is not None:
        values = {rename(k): v for k, v in values.items()}
    for name, own in model.state_dict().items():  # files older than this counter lack it
        if name.endswith(".num_batches_tracked"):
            values.setdefault(name, own)
    try:
        model.load_state_dict(values, strict)
    except StateDictError as error:
        raise StateDictError(f"{path}: {_short(str(error), model, values)}") from None
    return model


def _short(message: str, model: Module, values: Mapping[str, Any]) -> str:
    """The message, or for weights that seem to be another network's its beginning after how much agrees."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    agree = sum(own.get(name) == tuple(value.shape) for name, value in values.items())
    if len(message) <= 1000 or 2 * agree > len(own):
        return message
    return (f"these seem to be the weights of another network than {type(model).__name__}: of its {len(own)} tensors {agree} are "
            f"there in the same shape. {message[:400]} ...")
