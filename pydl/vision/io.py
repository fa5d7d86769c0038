"""Image files, read and written by Pillow (extra ``vision``). Images are arrays (C, H, W)."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.errors import ArgumentError, DTypeError, PydlError, ShapeError
from pydl.graph import TensorCore

__all__ = ["ImageError", "from_pillow", "open_image", "read_image", "to_pillow", "write_image"]

_MODES = {"L": 1, "RGB": 3, "RGBA": 4}
# What Pillow's readers raise for damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError, struct.error)
PathLike = str | os.PathLike[str]


class ImageError(PydlError, OSError):
    """An image file cannot be read or written; the message names it and says why."""


def read_image(path: PathLike, mode: str = "RGB") -> np.ndarray:
    """An image file as uint8 of shape (C, H, W); photographs are turned as their camera says.

    Parameters
    ----------
    mode : {"RGB", "L", "RGBA"}
        3 channels, grey, or with transparency: other kinds are converted.

    Raises
    ------
    ImageError
        If there is no such file, or it is not an image, or damaged.
    """
    if mode not in _MODES:
        raise ArgumentError(f"[read_image] mode={mode!r}; expected one of {', '.join(_MODES)}")
    return from_pillow(open_image(path, mode))


def open_image(path: PathLike, mode: str = "RGB") -> Any:
    """As `read_image`, but the image of Pillow."""
    pil = require("PIL.Image", "vision", "reading images")
    ops = require("PIL.ImageOps", "vision", "reading images")
    try:
        with pil.open(path) as image:
            return ops.exif_transpose(image).convert(mode)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    except pil.UnidentifiedImageError:
        raise ImageError(f"{path} cannot be read as an image: no format that Pillow knows, {_start_of(path)}") from None
    except pil.DecompressionBombError as error:
        raise ImageError(f"{path} cannot be read as an image: {error}") from None
    except _DAMAGED as error:
        raise ImageError(f"{path} cannot be read as an image: it is damaged ({error})") from None


def _start_of(path: PathLike) -> str:
    data = Path(path).read_bytes()[:8]
    return f"it starts with {data!r}" if data else "it is empty"


def write_image(path: PathLike, image: Any, quality: int = 92) -> Path:
    """Write an image (C, H, W) or (H, W): uint8, or floats from 0 to 1, which are cut off there. The suffix says the format."""
    pil = to_pillow(image)
    path = Path(path)
    if path.suffix.lower() in (".jpg", ".jpeg") and pil.mode == "RGBA":
        raise ImageError(f"{path} cannot be written: JPEG has no transparency; use .png, or the first 3 channels")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pil.save(path, quality=quality)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be written: {error}") from None
    return path


def to_pillow(image: Any) -> Any:
    """A Pillow image of an array or tensor (C, H, W) or (H, W) with 1, 3 or 4 channels."""
    array = image.data if isinstance(image, TensorCore) else np.asarray(image)
    shape = array.shape
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[0] not in _MODES.values():
        raise ShapeError(f"[to_pillow] image must be (H, W) or (C, H, W) with 1, 3 or 4 channels, got shape {shape}")
    if array.dtype.kind == "f":
        array = (np.clip(np.nan_to_num(array), 0, 1) * 255 + 0.5).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise DTypeError(f"[to_pillow] image must be uint8, bool or floats from 0 to 1, got {array.dtype}")
    pixels = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    return require("PIL.Image", "vision", "drawing").fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_pillow(image: Any) -> np.ndarray:
    """The pixels of a Pillow image as (C, H, W); palettes and other exotic kinds as RGB."""
    if image.mode not in _MODES:
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return np.ascontiguousarray(np.moveaxis(pixels[..., None] if pixels.ndim == 2 else pixels, -1, 0))
