"""Transforms that change colours, sharpness and noise, and leave all pixels in their places; and erasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.vision.transforms import functional as F
from pydl.vision.transforms.base import ImageTransform, interval, probability

__all__ = [
    "ColorJitter", "Cutout", "GaussianBlur", "GaussianNoise", "Grayscale", "Normalize", "RandomErasing", "RandomGrayscale",
]  # fmt: skip


class ColorJitter(ImageTransform):
    """Brightness, contrast, saturation and hue changed by random factors, in random order.

    Parameters
    ----------
    brightness, contrast, saturation : number or (least, greatest)
        A number b means factors from max(0, 1 - b) to 1 + b.
    hue : number or (least, greatest)
        A number h, at most 0.5, means shifts from -h to h of a turn around the colour circle.
    """

    channels = (1, 3)

    def __init__(self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0) -> None:
        self.brightness, self.contrast, self.saturation = (
            interval("ColorJitter", name, value, centre=1, low=0)
            for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
        )
        self.hue = interval("ColorJitter", "hue", hue, low=-0.5, high=0.5)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        steps = (
            (F.adjust_brightness, self.brightness, 1.0), (F.adjust_contrast, self.contrast, 1.0),
            (F.adjust_saturation, self.saturation, 1.0), (F.adjust_hue, self.hue, 0.0),
        )  # fmt: skip
        for i in rng.permutation(len(steps)):
            function, (low, high), nothing = steps[i]
            if (low, high) != (nothing, nothing):
                image = function(image, float(rng.uniform(low, high)))
        return image


class Grayscale(ImageTransform):
    """Grey, in one channel or repeated in three."""

    channels = (1, 3)

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ArgumentError(f"[Grayscale] num_output_channels={num_output_channels}: expected 1 or 3")
        self.num_output_channels = num_output_channels

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return F.rgb_to_grayscale(image, self.num_output_channels)


class RandomGrayscale(ImageTransform):
    """Grey with probability `p`, in as many channels as before."""

    channels = (1, 3)

    def __init__(self, p: float = 0.1) -> None:
        self.p = probability("RandomGrayscale", p)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return F.rgb_to_grayscale(image, image.shape[0]) if rng.random() < self.p else image


class GaussianNoise(ImageTransform):
    """Random numbers of given mean and deviation added, in units of the whole range of values (1, or 255 in uint8)."""

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        if sigma < 0:
            raise ArgumentError(f"[GaussianNoise] sigma={sigma}: expected a number that is not negative")
        self.mean, self.sigma, self.clip = float(mean), float(sigma), clip

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        kind = np.float64 if image.dtype == np.float64 else np.float32
        noise = rng.standard_normal(image.shape, dtype=kind)
        range_ = 255 if image.dtype == np.uint8 else 1
        noise = image + (noise * kind(self.sigma * range_) + kind(self.mean * range_))
        return F._like(noise, image, cut=self.clip)


class GaussianBlur(ImageTransform):
    """Smoothed by a Gaussian whose deviation is drawn from `sigma`: a number, or (least, greatest).

    Parameters
    ----------
    kernel_size : odd int, or (width, height)
    """

    def __init__(self, kernel_size: Any, sigma: Any = (0.1, 2.0)) -> None:
        sizes = (kernel_size,) * 2 if isinstance(kernel_size, int | np.integer) else tuple(kernel_size)
        if len(sizes) != 2 or any(k < 1 or k % 2 == 0 for k in sizes):
            raise ArgumentError(f"[GaussianBlur] kernel_size={kernel_size}: expected an odd number, or two (width, height)")
        self.kernel_size = sizes
        sigma = (sigma, sigma) if isinstance(sigma, int | float) else sigma
        self.sigma = interval("GaussianBlur", "sigma", sigma, low=1e-6)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return F.gaussian_blur(image, self.kernel_size, [float(rng.uniform(*self.sigma))] * 2)


class Normalize(ImageTransform):
    """(image - mean) / std, channel by channel; uint8 is first brought to 0 to 1."""

    def __init__(self, mean: Sequence[float] | float, std: Sequence[float] | float) -> None:
        self.mean, self.std = mean, std

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return F.normalize(image, self.mean, self.std)


class RandomErasing(ImageTransform):
    """A rectangle of random area and shape is overwritten, with probability `p` (Zhong et al. 2017).

    Parameters
    ----------
    scale : (least, greatest)
        Share of the image's area.
    ratio : (least, greatest)
        Height over width.
    value : number, one a channel, or "random"
        What is written; "random" is normally distributed noise (evenly distributed bytes for uint8).
    """

    def __init__(self, p: float = 0.5, scale: Sequence[float] = (0.02, 0.33), ratio: Sequence[float] = (0.3, 3.3),
                 value: Any = 0) -> None:  # fmt: skip
        self.p, self.value = probability("RandomErasing", p), value
        self.scale = interval("RandomErasing", "scale", scale, low=0, high=1)
        self.ratio = interval("RandomErasing", "ratio", ratio, low=1e-6)
        if isinstance(value, str) and value != "random":
            raise ArgumentError(f"[RandomErasing] value={value!r}: expected a number, one a channel, or 'random'")

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.p:
            return image
        channels, rows, columns = image.shape
        for _ in range(10):
            area = rows * columns * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(*np.log(self.ratio)))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < height < rows and 0 < width < columns:
                top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
                return F.erase(image, top, left, height, width, self._value(image, (channels, height, width), rng))
        return image

    def _value(self, image: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
        if not isinstance(self.value, str):
            return F._fill(self.value, image)
        return rng.integers(0, 256, shape) if image.dtype == np.uint8 else rng.standard_normal(shape)


class Cutout(ImageTransform):
    """`n` squares of `size` pixels around random centres are overwritten; they may stick out (DeVries and Taylor 2017)."""

    def __init__(self, size: int, n: int = 1, value: Any = 0) -> None:
        if size < 1 or n < 0:
            raise ArgumentError(f"[Cutout] size={size}, n={n}: expected a positive size")
        self.size, self.n, self.value = int(size), int(n), value

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows, columns = image.shape[-2:]
        for _ in range(self.n):
            top, left = int(rng.integers(rows)) - self.size // 2, int(rng.integers(columns)) - self.size // 2
            y, x = max(top, 0), max(left, 0)
            image = F.erase(image, y, x, top + self.size - y, left + self.size - x, F._fill(self.value, image))
        return image
