"""What all transforms share, and ways to combine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydl.data.context import sample_generator
from pydl.errors import ArgumentError
from pydl.graph import TensorCore, wrap
from pydl.vision.transforms.sample import Move, Sample, check_image

__all__ = [
    "Compose", "GeometricTransform", "ImageTransform", "Lambda", "RandomApply", "RandomChoice", "RandomOrder", "Transform",
]  # fmt: skip


class Transform:
    """Base: called with an image (array or tensor (C, H, W), or a Pillow image) or a `Sample`, it returns the same kind.

    A Pillow image comes back as an array. Random numbers are those of `pydl.data.sample_generator`: in a `DataLoader` they
    depend on its seed, the epoch and the sample's number alone, outside of one on `pydl.manual_seed`.
    A subclass defines `apply`, or is an `ImageTransform` or `GeometricTransform`.
    """

    def __call__(self, item: Any) -> Any:
        if isinstance(item, Sample):
            return self.apply(item, sample_generator())
        if type(item).__module__.partition(".")[0] == "PIL":
            from pydl.vision.io import from_pillow

            item = from_pillow(item)
        image = self.apply(Sample(item), sample_generator()).image
        return wrap(image) if isinstance(item, TensorCore) and isinstance(image, np.ndarray) else image

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; random decisions from `rng`."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({settings})"


class ImageTransform(Transform):
    """Changes the pixels and leaves them in their places: a subclass defines `change`."""

    channels: tuple[int, ...] | None = None  # numbers of channels it takes

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        check_image(type(self).__name__, sample.image, self.channels)
        return sample.replace(image=self.change(sample.image, rng))

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define change")


class GeometricTransform(Transform):
    """Moves pixels, boxes, masks and keypoints together: a subclass defines `move`. Masks always take the nearest pixel."""

    interpolation: str = "nearest"
    fill: Any = 0

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        check_image(type(self).__name__, sample.image)
        move = self.move(sample.size, rng)
        return sample if move is None else move.sample(sample, self.interpolation, self.fill)

    def move(self, size: tuple[int, int], rng: np.random.Generator) -> Move | None:
        """What to do with an image of size (H, W); None for nothing."""
        raise NotImplementedError(f"{type(self).__name__} must define move")


class Lambda(Transform):
    """Any callable as a transform of the image; what it returns is the new image.

    Parameters
    ----------
    function : callable
    layout : {"CHW", "HWC", "pillow"}
        What the callable takes and gives: arrays with channels first, as in pydl, or last, as in OpenCV, scikit-image and
        albumentations; or Pillow images, as in older torchvision transforms.
    whole : bool
        Give it the `Sample` instead of the image, to change annotations too.
    """

    def __init__(self, function: Callable[[Any], Any], layout: str = "CHW", whole: bool = False) -> None:
        if not callable(function):
            raise ArgumentError(f"[Lambda] expected a callable, got {type(function).__name__}")
        if layout not in ("CHW", "HWC", "pillow"):
            raise ArgumentError(f"[Lambda] layout={layout!r}; expected CHW, HWC or pillow")
        self.function, self.layout, self.whole = function, layout, whole

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.whole:
            return self.function(sample)
        return sample.replace(image=self._call(sample.image))

    def _call(self, image: np.ndarray) -> np.ndarray:
        if self.layout == "CHW":
            return _plain(self.function(image))
        if self.layout == "HWC":
            result = _plain(self.function(np.ascontiguousarray(np.moveaxis(image, 0, -1))))
            return np.ascontiguousarray(np.moveaxis(result[..., None] if result.ndim == 2 else result, -1, 0))
        from pydl.vision.io import from_pillow, to_pillow

        result = self.function(to_pillow(image))
        return from_pillow(result) if hasattr(result, "getbands") else _plain(result)


def _plain(value: Any) -> np.ndarray:
    return value.data if isinstance(value, TensorCore) else np.asarray(value)


def as_transform(function: Any) -> Transform:
    """A transform, or a callable on images as one."""
    return function if isinstance(function, Transform) else Lambda(function)


class _Several(Transform):
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)
        self._made = [as_transform(t) for t in self.transforms]

    def __repr__(self) -> str:
        inside = "".join(f"\n    {t!r}," for t in self.transforms)
        return f"{type(self).__name__}([{inside}\n])"


class Compose(_Several):
    """One after the other. Members may be any callables: they are given the image (see `Lambda` for other conventions)."""

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self._made:
            sample = transform.apply(sample, rng)
        return sample


class RandomApply(_Several):
    """All of them, one after the other, with probability `p`; else none."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> None:
        super().__init__(transforms)
        self.p = probability("RandomApply", p)

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        for transform in self._made:
            sample = transform.apply(sample, rng)
        return sample


class RandomChoice(_Several):
    """One of them, drawn with probabilities `p` (equal by default)."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: Sequence[float] | None = None) -> None:
        super().__init__(transforms)
        if not self.transforms or (p is not None and len(p) != len(self.transforms)):
            raise ArgumentError(f"[RandomChoice] {len(self.transforms)} transforms and p={p}: expected one number for each")
        weights = np.ones(len(self.transforms)) if p is None else np.asarray(p, float)
        if (weights < 0).any() or not weights.sum() > 0:
            raise ArgumentError(f"[RandomChoice] p={p}: expected numbers that are not negative, not all zero")
        self.p = weights / weights.sum()

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self._made[int(rng.choice(len(self._made), p=self.p))].apply(sample, rng)


class RandomOrder(_Several):
    """All of them, in random order."""

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for i in rng.permutation(len(self._made)):
            sample = self._made[i].apply(sample, rng)
        return sample


def probability(op: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"[{op}] p={p}: expected a probability from 0 to 1")
    return float(p)


def interval(
    op: str, name: str, value: Any, centre: float = 0.0, low: float = -np.inf, high: float = np.inf
) -> tuple[float, float]:
    """(least, greatest) from such a pair, or from a number that is the distance to `centre` on both sides."""
    if isinstance(value, int | float | np.number):
        if value < 0:
            raise ArgumentError(f"[{op}] {name}={value}: a single number must not be negative")
        pair = max(centre - value, low) if centre else -value, centre + value
    else:
        pair = tuple(float(v) for v in value)  # type: ignore[assignment]
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise ArgumentError(f"[{op}] {name}={value}: expected a number or (least, greatest) within [{low}, {high}]")
    return float(pair[0]), float(pair[1])
