"""Transforms that move pixels, and boxes, masks and keypoints with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.vision.transforms import functional as F
from pydl.vision.transforms.base import GeometricTransform, Transform, interval, probability
from pydl.vision.transforms.sample import Move, Sample

__all__ = [
    "CenterCrop", "Pad", "RandomAffine", "RandomCrop", "RandomHorizontalFlip", "RandomPerspective", "RandomResizedCrop",
    "RandomRotation", "RandomVerticalFlip", "Resize", "SanitizeBoundingBoxes",
]  # fmt: skip


# --------------------------------------------------------------------------- moves


def cropped(top: int, left: int, height: int, width: int) -> Move:
    matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], float)
    return Move(matrix, (height, width), lambda x, _, fill: F.crop(x, top, left, height, width, fill))


def resized(size: tuple[int, int], to: tuple[int, int], antialias: bool = True) -> Move:
    matrix = np.diag([to[1] / size[1], to[0] / size[0], 1.0])
    return Move(matrix, to, lambda x, interpolation, _: F.resize(x, to, interpolation, antialias))


def warped(matrix: np.ndarray, size: tuple[int, int]) -> Move:
    inverse = np.linalg.inv(matrix)
    return Move(matrix, size, lambda x, interpolation, fill: F.warp(x, inverse, size, interpolation, fill))


def chained(first: Move, second: Move) -> Move:
    return Move(
        second.matrix @ first.matrix, second.size,
        lambda x, interpolation, fill: second.pixels(first.pixels(x, interpolation, fill), interpolation, fill),
    )  # fmt: skip


def _pair(op: str, size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2 or any(int(n) != n or n < 1 for n in pair):
        raise ArgumentError(f"[{op}] size={size}: expected a positive whole number, or (H, W)")
    return int(pair[0]), int(pair[1])


def _padding(op: str, padding: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) from one number, (left and right, top and bottom), or all four."""
    values = [padding] if isinstance(padding, int | np.integer) else list(padding)
    values = {1: values * 4, 2: values * 2, 4: values}.get(len(values), [])
    if not values or any(int(v) != v for v in values):
        raise ArgumentError(f"[{op}] padding={padding}: expected 1, 2 (left/right, top/bottom) or 4 whole numbers")
    left, top, right, bottom = (int(v) for v in values)
    return left, top, right, bottom


# --------------------------------------------------------------------------- crops and sizes


class Pad(GeometricTransform):
    """A border of `padding` pixels: one number, (left/right, top/bottom), or (left, top, right, bottom).

    Parameters
    ----------
    fill : number, or one a channel
    padding_mode : {"constant", "edge", "reflect", "symmetric"}
        Masks get 0 under "constant", and what the image gets otherwise.
    """

    def __init__(self, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> None:
        self.padding, self.fill, self.padding_mode = _padding("Pad", padding), fill, padding_mode

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move:
        left, top, right, bottom = self.padding
        matrix = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]], float)
        to = size[0] + top + bottom, size[1] + left + right
        if min(to) < 1:
            raise ArgumentError(f"[Pad] padding={self.padding} leaves nothing of an image of size {size}")
        return Move(matrix, to, lambda x, _, fill: F.pad(x, self.padding, fill, self.padding_mode))


class CenterCrop(GeometricTransform):
    """The middle, of `size` (one number, or (H, W)); `fill` (0) where the image is smaller."""

    def __init__(self, size: Any) -> None:
        self.size = _pair("CenterCrop", size)

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move:
        top, left = (round((n - m) / 2) for n, m in zip(size, self.size, strict=True))
        return cropped(top, left, *self.size)


class RandomCrop(GeometricTransform):
    """A rectangle of `size` somewhere in the image, which may be padded before.

    Parameters
    ----------
    size : int or (H, W)
    padding : optional
        As for `Pad`.
    pad_if_needed : bool
        Pad an image that is smaller than `size`; otherwise it is an error.
    """

    def __init__(self, size: Any, padding: Any = None, pad_if_needed: bool = False, fill: Any = 0,
                 padding_mode: str = "constant") -> None:  # fmt: skip
        self.size, self.padding = _pair("RandomCrop", size), None if padding is None else _padding("RandomCrop", padding)
        self.pad_if_needed, self.fill, self.padding_mode = pad_if_needed, fill, padding_mode

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move:
        left, top, right, bottom = self.padding or (0, 0, 0, 0)
        height, width = self.size
        if self.pad_if_needed:
            tall, wide = max(height - size[0] - top - bottom, 0), max(width - size[1] - left - right, 0)
            left, top, right, bottom = left + wide, top + tall, right + wide, bottom + tall
        rows, columns = size[0] + top + bottom - height, size[1] + left + right - width
        if rows < 0 or columns < 0:
            raise ArgumentError(
                f"[RandomCrop] size={self.size} is larger than the image {size}"
                f"{f' with padding {self.padding}' if self.padding else ''}; use pad_if_needed=True, or Resize before"
            )
        part = cropped(int(rng.integers(rows + 1)), int(rng.integers(columns + 1)), height, width)
        if not (left or top or right or bottom):
            return part
        return chained(Pad((left, top, right, bottom), self.fill, self.padding_mode).move(size, rng), part)


class Resize(GeometricTransform):
    """To `size`: (H, W), or one number for the shorter edge, the longer one in proportion.

    Parameters
    ----------
    interpolation : {"bilinear", "bicubic", "nearest"}
    max_size : int, optional
        For one number: the longer edge is at most this, the shorter then smaller than asked for.
    antialias : bool
        When shrinking, weigh all pixels that an output pixel covers.
    """

    def __init__(self, size: Any, interpolation: str = "bilinear", max_size: int | None = None, antialias: bool = True) -> None:
        single = isinstance(size, int | np.integer) or len(size) == 1
        pair = _pair("Resize", size)
        self.size: Any = pair[0] if single else pair
        if max_size is not None and (not single or max_size < pair[0]):
            raise ArgumentError(f"[Resize] max_size={max_size} with size={size}: for one number, and at least that number")
        self.interpolation, self.max_size, self.antialias = interpolation, max_size, antialias

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move | None:
        to = self.size
        if isinstance(to, int):
            short, long = min(size), max(size)
            a, b = to, int(to * long / short)
            if self.max_size is not None and b > self.max_size:
                a, b = max(int(self.max_size * a / b), 1), self.max_size
            to = (a, b) if size[0] <= size[1] else (b, a)
        return None if tuple(to) == tuple(size) else resized(size, to, self.antialias)


class RandomResizedCrop(GeometricTransform):
    """A part of random area and shape, brought to `size`: how networks for ImageNet are trained (Szegedy et al. 2014).

    Parameters
    ----------
    size : int or (H, W)
    scale : (least, greatest)
        Share of the image's area.
    ratio : (least, greatest)
        Width over height, drawn evenly on a logarithmic scale.
    """

    def __init__(self, size: Any, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3),
                 interpolation: str = "bilinear", antialias: bool = True) -> None:  # fmt: skip
        self.size = _pair("RandomResizedCrop", size)
        self.scale, self.ratio = (
            interval("RandomResizedCrop", "scale", scale, low=1e-6), interval("RandomResizedCrop", "ratio", ratio, low=1e-6)
        )  # fmt: skip
        self.interpolation, self.antialias = interpolation, antialias

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move:
        part = cropped(*self._part(size, rng))
        return part if part.size == self.size else chained(part, resized(part.size, self.size, self.antialias))

    def _part(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        rows, columns = size
        for _ in range(10):
            area = rows * columns * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(*np.log(self.ratio)))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= columns and 0 < height <= rows:
                return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1)), height, width
        # None fits into this image: its middle, with the nearest allowed shape.
        width = min(columns, max(round(rows * self.ratio[1]), 1))
        height = min(rows, max(round(width / self.ratio[0]), 1))
        return (rows - height) // 2, (columns - width) // 2, height, width


# --------------------------------------------------------------------------- flips


class RandomHorizontalFlip(GeometricTransform):
    """Left and right exchanged, with probability `p`.

    Parameters
    ----------
    keypoint_pairs : sequence of (int, int)
        Keypoints that exchange their names, such as the left and the right eye.
    """

    def __init__(self, p: float = 0.5, keypoint_pairs: Sequence[tuple[int, int]] = ()) -> None:
        self.p, self.keypoint_pairs = probability(type(self).__name__, p), tuple(keypoint_pairs)

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        result = super().apply(sample, rng)
        if result is sample or result.keypoints is None or not self.keypoint_pairs:
            return result
        order = np.arange(result.keypoints.shape[1])
        for a, b in self.keypoint_pairs:
            order[[a, b]] = order[[b, a]]
        return result.replace(keypoints=result.keypoints[:, order])

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move | None:
        if rng.random() >= self.p:
            return None
        return Move(np.array([[-1, 0, size[1]], [0, 1, 0], [0, 0, 1]], float), size, lambda x, _, fill: F.hflip(x))


class RandomVerticalFlip(GeometricTransform):
    """Upside down, with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("RandomVerticalFlip", p)

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move | None:
        if rng.random() >= self.p:
            return None
        return Move(np.array([[1, 0, 0], [0, -1, size[0]], [0, 0, 1]], float), size, lambda x, _, fill: F.vflip(x))


# --------------------------------------------------------------------------- projective maps


class RandomRotation(GeometricTransform):
    """A turn by an angle drawn from `degrees`: (least, greatest), or a number for both sides; positive is counter-clockwise.

    Boxes become the boxes around the turned ones, larger than the objects.

    Parameters
    ----------
    interpolation : {"nearest", "bilinear"}
    expand : bool
        Enlarge the image so that all of it stays in sight.
    center : (x, y), optional
        Default: the middle.
    fill : number, or one a channel
    """

    def __init__(self, degrees: Any, interpolation: str = "nearest", expand: bool = False,
                 center: Sequence[float] | None = None, fill: Any = 0) -> None:  # fmt: skip
        self.degrees = interval("RandomRotation", "degrees", degrees)
        self.interpolation, self.expand, self.center, self.fill = interpolation, expand, center, fill

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move:
        angle = rng.uniform(*self.degrees)
        matrix = F.affine_matrix(-angle, (0, 0), 1, (0, 0), self.center or F.default_center(size))
        if self.expand:
            matrix, size = F.expanded(matrix, size)
        return warped(matrix, size)


class RandomAffine(GeometricTransform):
    """A turn (positive is clockwise), a shift, a scale and a shear about the centre.

    Parameters
    ----------
    degrees : number or (least, greatest)
    translate : (a, b), optional
        At most this share of width and height, to either side.
    scale : (least, greatest), optional
    shear : number, (least, greatest) along x, or both pairs in one, optional
        In degrees.
    interpolation, fill, center
        As of `RandomRotation`.
    """

    def __init__(
        self, degrees: Any, translate: Sequence[float] | None = None, scale: Sequence[float] | None = None, shear: Any = None,
        interpolation: str = "nearest", fill: Any = 0, center: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        op = "RandomAffine"
        self.degrees = interval(op, "degrees", degrees)
        self.translate = None if translate is None else tuple(translate)
        if self.translate is not None and (len(self.translate) != 2 or not all(0 <= t <= 1 for t in self.translate)):
            raise ArgumentError(f"[{op}] translate={translate}: expected two shares from 0 to 1, of the width and the height")
        self.scale = (1.0, 1.0) if scale is None else interval(op, "scale", scale, low=1e-6)
        four = not isinstance(shear, int | float | None) and len(shear) == 4
        self.shear_x = (0.0, 0.0) if shear is None else interval(op, "shear", shear[:2] if four else shear, low=-89, high=89)
        self.shear_y = interval(op, "shear", shear[2:], low=-89, high=89) if four else (0.0, 0.0)
        self.interpolation, self.fill, self.center = interpolation, fill, center

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move:
        shift = (0.0, 0.0)
        if self.translate is not None:
            reach = self.translate[0] * size[1], self.translate[1] * size[0]
            shift = rng.uniform(-reach[0], reach[0]), rng.uniform(-reach[1], reach[1])
        angle, scale = rng.uniform(*self.degrees), rng.uniform(*self.scale)
        shear = rng.uniform(*self.shear_x), rng.uniform(*self.shear_y)
        return warped(F.affine_matrix(angle, shift, scale, shear, self.center or F.default_center(size)), size)


class RandomPerspective(GeometricTransform):
    """Each corner moves inwards by up to `distortion_scale` of half the image, with probability `p`."""

    def __init__(self, distortion_scale: float = 0.5, p: float = 0.5, interpolation: str = "bilinear", fill: Any = 0) -> None:
        if not 0 <= distortion_scale <= 1:
            raise ArgumentError(f"[RandomPerspective] distortion_scale={distortion_scale}: expected 0 to 1")
        self.distortion_scale, self.p = float(distortion_scale), probability("RandomPerspective", p)
        self.interpolation, self.fill = interpolation, fill

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move | None:
        if rng.random() >= self.p:
            return None
        h, w = size
        corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], float)
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        reach = 0.98 * self.distortion_scale / 2 * np.array([w, h])  # all four may not meet in the middle
        return warped(F.homography(corners, corners + inwards * rng.uniform(0, 1, (4, 2)) * reach), size)


class SanitizeBoundingBoxes(Transform):
    """Objects whose box is narrower than `min_size` or smaller than `min_area` go, with masks, keypoints and labels.

    Crops and turns leave boxes of no size of what has left the image: put this after them.
    """

    def __init__(self, min_size: float = 1.0, min_area: float = 1.0) -> None:
        self.min_size, self.min_area = float(min_size), float(min_area)

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.boxes is None:
            return sample
        width, height = (sample.boxes[:, 2:] - sample.boxes[:, :2]).T
        which = (width >= self.min_size) & (height >= self.min_size) & (width * height >= self.min_area)
        return sample if which.all() else sample.keep(which)
