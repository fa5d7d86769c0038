"""Images changed by given amounts: functions on arrays (C, H, W), which the transforms call with random ones.

Names are torchvision's. Pixels are uint8, or floats from 0 to 1; a result of the colour functions is rounded or cut off to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError
from pydl.ops._common import contiguous, empty
from pydl.ops.resample import IDENTITY, table
from pydl.vision.filters import correlate_separable, gaussian_1d
from pydl.vision.transforms.sample import check_image

__all__ = [
    "adjust_brightness", "adjust_contrast", "adjust_hue", "adjust_saturation", "affine_matrix", "crop", "erase",
    "gaussian_blur", "hflip", "homography", "hsv_to_rgb", "normalize", "pad", "resize", "rgb_to_grayscale", "rgb_to_hsv",
    "to_float", "vflip", "warp",
]  # fmt: skip

_BORDERS = {"constant": 0, "edge": 1, "reflect": 2}
_PADS = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}
GREY = np.array([0.2989, 0.587, 0.114], np.float32)  # as in torchvision


# --------------------------------------------------------------------------- geometry


def hflip(image: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[..., ::-1])


def vflip(image: np.ndarray) -> np.ndarray:
    """Upside down."""
    return np.ascontiguousarray(image[..., ::-1, :])


def crop(image: np.ndarray, top: int, left: int, height: int, width: int, fill: Any = 0) -> np.ndarray:
    """The rectangle; `fill` where it sticks out of the image."""
    inside = image[..., max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.shape[-2:] == (height, width):
        return np.ascontiguousarray(inside)
    out = np.empty((*image.shape[:-2], height, width), image.dtype)
    out[...] = _fill(fill, image).reshape(-1, 1, 1)
    y, x = max(-top, 0), max(-left, 0)
    out[..., y : y + inside.shape[-2], x : x + inside.shape[-1]] = inside
    return out


def pad(image: np.ndarray, padding: Sequence[int], fill: Any = 0, padding_mode: str = "constant") -> np.ndarray:
    """A border of (left, top, right, bottom): `fill`, the "edge", or mirrored (without it "reflect", with it "symmetric")."""
    if padding_mode not in _PADS:
        raise ArgumentError(f"[pad] padding_mode={padding_mode!r}; expected one of {', '.join(_PADS)}")
    left, top, right, bottom = padding
    h, w = image.shape[-2:]
    if padding_mode == "constant":
        return crop(image, -top, -left, h + top + bottom, w + left + right, fill)
    return np.pad(image, ((0, 0), (top, bottom), (left, right)), _PADS[padding_mode])  # type: ignore[call-overload]


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear", antialias: bool = True) -> np.ndarray:
    """The image at size (H, W): "nearest", "bilinear" or "bicubic"; with `antialias`, every input pixel counts when shrinking."""
    if interpolation not in ("nearest", "bilinear", "bicubic"):
        raise ArgumentError(f"[resize] interpolation={interpolation!r}; expected nearest, bilinear or bicubic")
    if min(size) < 1:
        raise ArgumentError(f"[resize] size={tuple(size)}: expected positive numbers")
    h, w = image.shape[-2:]
    if (h, w) == tuple(size):
        return image
    if interpolation == "nearest":
        return warp(image, np.diag([w / size[1], h / size[0], 1.0]), size, "nearest", border="edge")
    x = contiguous(image.astype(np.float64 if image.dtype == np.float64 else np.float32, copy=False))
    y = empty((len(x), *size), x.dtype)
    tables = [table(interpolation, m, n, antialias) for m, n in zip((h, w), size, strict=True)]
    # Each channel as an image of its own: nothing is reordered, and a vector is neighbouring columns.
    _core.resample(x.reshape(-1, 1, h, w, 1), y.reshape(-1, 1, *size, 1), [IDENTITY, *tables])
    if interpolation == "bilinear":  # means never leave the range
        return np.add(y, 0.5, out=y).astype(np.uint8) if image.dtype == np.uint8 else y
    return _like(y, image)


def warp(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, int] | None = None, interpolation: str = "bilinear", fill: Any = 0,
    border: str = "constant",
) -> np.ndarray:  # fmt: skip
    """The image seen through a projective map (kernel: csrc/cpu/warp.cpp).

    Parameters
    ----------
    matrix : array (3, 3)
        From a point (x, y, 1) of the *output* to its place in the input; a pixel's centre is at + 1/2.
    size : (H, W), optional
        Of the output; default the input's.
    interpolation : {"bilinear", "nearest"}
    fill : number, or one a channel
        What lies outside under border "constant"; at the border it is mixed in.
    border : {"constant", "edge", "reflect"}
    """
    if interpolation not in ("bilinear", "nearest"):
        raise ArgumentError(f"[warp] interpolation={interpolation!r}; expected bilinear or nearest")
    if border not in _BORDERS:
        raise ArgumentError(f"[warp] border={border!r}; expected one of {', '.join(_BORDERS)}")
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    back = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    centres = back @ np.asarray(matrix, np.float64) @ half  # between centres of pixels, as the kernel counts
    out = empty((image.shape[0], *(size or image.shape[-2:])), image.dtype)
    shades = np.broadcast_to(_fill(fill, image), image.shape[:1]).astype(np.float64)
    _core.warp(contiguous(image), out, centres.ravel().tolist(), shades, interpolation == "bilinear", _BORDERS[border])
    return out


def affine_matrix(
    angle: float, translate: Sequence[float], scale: float, shear: Sequence[float], center: Sequence[float]
) -> np.ndarray:
    """(3, 3), from input to output: shear, scale and turn (degrees, clockwise) about `center`, then move by (right, down)."""
    turn, sx, sy = np.deg2rad([angle, *shear])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shears = np.array([[1, 0], [-np.tan(sy), 1]]) @ np.array([[1, -np.tan(sx)], [0, 1]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * rotation @ shears
    matrix[:2, 2] = np.asarray(center) + np.asarray(translate) - matrix[:2, :2] @ np.asarray(center)
    return matrix


def homography(start: Any, end: Any) -> np.ndarray:
    """The projective map (3, 3) that takes four points (4, 2) to four others."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    if start.shape != (4, 2) or end.shape != (4, 2):
        raise ArgumentError(f"[homography] expected four points (x, y) each, got shapes {start.shape} and {end.shape}")
    rows = []
    for (x, y), (u, v) in zip(start, end, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    try:
        return np.append(np.linalg.solve(np.array(rows), end.ravel()), 1).reshape(3, 3)
    except np.linalg.LinAlgError:
        raise ArgumentError("[homography] three of the four points lie on one line") from None


# --------------------------------------------------------------------------- colour


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 0 to 255 as float32 0 to 1; floats as they are."""
    return image * np.float32(1 / 255) if image.dtype == np.uint8 else image


def _like(result: np.ndarray, image: np.ndarray, cut: bool = True) -> np.ndarray:
    """Floats in the units of `image` as its dtype."""
    if image.dtype == np.uint8:
        result = result + np.float32(0.5)
        return np.clip(result, 0, 255, out=result).astype(np.uint8)
    return np.clip(result, 0, 1, out=result).astype(image.dtype, copy=False) if cut else result.astype(image.dtype, copy=False)


def _blend(image: np.ndarray, other: Any, ratio: float) -> np.ndarray:
    x = image.astype(np.float32) if image.dtype == np.uint8 else image
    return _like(x * x.dtype.type(ratio) + x.dtype.type(1 - ratio) * other, image)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """All values times the factor."""
    return _blend(image, np.float32(0), factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """The distance of all values from the mean grey, times the factor."""
    return _blend(image, rgb_to_grayscale(image, exact=True).mean(dtype=np.float64).astype(np.float32), factor)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """The distance of each colour from its grey, times the factor; a grey image stays as it is."""
    return image if image.shape[0] == 1 else _blend(image, rgb_to_grayscale(image, exact=True), factor)


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Colours moved around the colour circle by the factor, -0.5 to 0.5 of a turn; a grey image stays as it is."""
    if not -0.5 <= factor <= 0.5:
        raise ArgumentError(f"[adjust_hue] factor={factor}: expected -0.5 to 0.5")
    if image.shape[0] == 1 or factor == 0:
        return image
    hsv = rgb_to_hsv(to_float(check_image("adjust_hue", image, (3,))))
    hsv[0] = (hsv[0] + hsv.dtype.type(factor)) % 1
    rgb = hsv_to_rgb(hsv)
    return _like(rgb * 255, image) if image.dtype == np.uint8 else rgb


def rgb_to_hsv(image: np.ndarray) -> np.ndarray:
    """Hue, saturation and value, all 0 to 1, of a float RGB image."""
    r, g, b = image
    value = image.max(0)
    spread = value - image.min(0)
    safe = np.where(spread > 0, spread, 1)
    # Where two channels are greatest, the earlier counts; the hue is the same.
    sixth = np.where(value == r, (g - b) / safe, np.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    return np.stack([sixth / 6 % 1, spread / np.where(value > 0, value, 1), value])


def hsv_to_rgb(image: np.ndarray) -> np.ndarray:
    """The inverse of `rgb_to_hsv`: each channel falls from the value as its distance on the colour circle grows."""
    hue, saturation, value = image
    shift = np.array([5, 3, 1], image.dtype).reshape(3, 1, 1)
    k = (shift + hue * 6) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def rgb_to_grayscale(image: np.ndarray, num_output_channels: int = 1, exact: bool = False) -> np.ndarray:
    """0.2989 R + 0.587 G + 0.114 B, in one channel or repeated in three; `exact` leaves floats unrounded."""
    check_image("rgb_to_grayscale", image, (1, 3))
    if image.shape[0] == 1:
        grey = image.astype(np.float32) if exact and image.dtype == np.uint8 else image
    else:
        mixed = np.tensordot(GREY.astype(image.dtype) if image.dtype == np.float64 else GREY, image.astype(
            np.float32 if image.dtype == np.uint8 else image.dtype, copy=False), 1)[None]  # fmt: skip
        grey = mixed if exact else _like(mixed, image, cut=False)
    return grey if num_output_channels == 1 else np.repeat(grey, num_output_channels, 0)


def gaussian_blur(image: np.ndarray, kernel_size: Sequence[int], sigma: Sequence[float]) -> np.ndarray:
    """Smoothed by a Gaussian of (width, height) taps and deviations (x, y); the image goes on mirrored."""
    row, column = (gaussian_1d(s, k) for s, k in zip(sigma, kernel_size, strict=True))
    h, w = image.shape[-2:]
    mode = "reflect" if h > len(column) // 2 and w > len(row) // 2 else "replicate"  # too small to be mirrored
    return _like(correlate_separable(image, column, row, padding=mode), image, cut=False)


def normalize(image: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """(image - mean) / std, channel by channel; gives floats."""
    x = to_float(image)
    mean, std = (np.asarray(v, x.dtype).reshape(-1, 1, 1) for v in (mean, std))
    for name, v in (("mean", mean), ("std", std)):
        if len(v) not in (1, x.shape[0]):
            raise ArgumentError(f"[normalize] {name} has {len(v)} numbers for an image of {x.shape[0]} channels {image.shape}")
    if not (std > 0).all():
        raise ArgumentError(f"[normalize] std={std.ravel().tolist()}: expected positive numbers")
    return (x - mean) / std


def erase(image: np.ndarray, top: int, left: int, height: int, width: int, value: Any) -> np.ndarray:
    """A copy with a rectangle set to `value` (a number, one a channel, or an array of the rectangle's shape)."""
    out = image.copy()
    value = np.asarray(value, image.dtype)
    out[:, top : top + height, left : left + width] = value.reshape(-1, 1, 1) if value.ndim == 1 else value
    return out


def _fill(fill: Any, image: np.ndarray) -> np.ndarray:
    """One number for each channel, or one for all."""
    shades = np.atleast_1d(np.asarray(fill, np.float64))
    if shades.ndim != 1 or len(shades) not in (1, image.shape[0]):
        raise ArgumentError(f"fill={fill}: expected a number, or {image.shape[0]} for an image of shape {image.shape}")
    if image.dtype == np.uint8 and not ((shades >= 0) & (shades <= 255)).all():
        raise ArgumentError(f"fill={fill}: expected 0 to 255 for a uint8 image")
    return shades


def default_center(size: tuple[int, int]) -> tuple[float, float]:
    return size[1] / 2, size[0] / 2


def expanded(matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """The map moved, and the output enlarged, so that the whole image stays in sight."""
    h, w = size
    corners = matrix @ np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]], float)
    low, high = corners[:2].min(1), corners[:2].max(1)
    width, height = (math.ceil(round(float(d), 3)) for d in high - low)
    centred = np.eye(3)
    centred[:2, 2] = np.array([width, height]) / 2 - (low + high) / 2
    return centred @ matrix, (height, width)
