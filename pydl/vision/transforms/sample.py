"""An image with what is known about it, and the geometry that keeps both together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph import TensorCore, wrap

__all__ = ["Move", "Sample", "check_image"]

IMAGE_DTYPES = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))


@dataclass
class Sample:
    """An image and its annotations; transforms change them together.

    Coordinates are (x, y) in pixels from the upper left corner of the image: the pixel in row i and column j covers
    [j, j + 1] x [i, i + 1], its centre is (j + 1/2, i + 1/2).

    Parameters
    ----------
    image : array (C, H, W)
        uint8, or floats from 0 to 1.
    boxes : array (N, 4), optional
        Corners (x1, y1, x2, y2).
    masks : array (N, H, W) or (H, W), optional
        One mask for each object, or a class number for each pixel.
    keypoints : array (N, K, 2) or (N, K, 3), optional
        Points (x, y), and as third number whether they can be seen (0: not).
    labels : any, optional
        One for each object (then it goes when its box goes), or one for the image.
    extra : dict
        Whatever else belongs to the sample: left alone.
    """

    image: Any
    boxes: Any = None
    masks: Any = None
    keypoints: Any = None
    labels: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image = _array(self.image)
        if self.boxes is not None:
            boxes = _floating(_array(self.boxes))
            self.boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
            if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
                raise ShapeError(f"[Sample] boxes must be (N, 4) as (x1, y1, x2, y2), got shape {self.boxes.shape}")
        if self.masks is not None:
            self.masks = _array(self.masks)
            if self.masks.ndim not in (2, 3) or self.masks.shape[-2:] != self.image.shape[-2:]:
                raise ShapeError(
                    f"[Sample] masks must be (N, H, W) or (H, W) with the image's H, W = {self.image.shape[-2:]}, "
                    f"got shape {self.masks.shape}"
                )
        if self.keypoints is not None:
            self.keypoints = _floating(_array(self.keypoints))
            if self.keypoints.ndim != 3 or self.keypoints.shape[2] not in (2, 3):
                raise ShapeError(f"[Sample] keypoints must be (N, K, 2) or (N, K, 3), got shape {self.keypoints.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.image.shape[-2:]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Pairs (name, value) of what is there: ``dict(sample)``."""
        return iter([(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None])

    def replace(self, **changes: Any) -> Sample:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def keep(self, which: np.ndarray) -> Sample:
        """Only the objects that `which` selects (bool or numbers): their boxes, masks, keypoints and labels."""
        n = None if self.boxes is None else len(self.boxes)
        changes: dict[str, Any] = {}
        for name in ("boxes", "masks", "keypoints", "labels"):
            value = getattr(self, name)
            per_object = hasattr(value, "__len__") and not isinstance(value, str) and (n is None or len(value) == n)
            if value is None or not per_object or (name == "masks" and value.ndim == 2):
                continue
            if isinstance(value, np.ndarray):
                changes[name] = value[which]
            elif isinstance(value, TensorCore):
                changes[name] = wrap(value.data[which])
            else:
                numbers = np.flatnonzero(which) if np.asarray(which).dtype == np.bool_ else which
                changes[name] = type(value)(value[int(i)] for i in numbers)
        return self.replace(**changes)


@dataclass
class Move:
    """A change of the geometry: where points go, how large the image becomes, and how its pixels get there."""

    matrix: np.ndarray  # (3, 3), from (x, y, 1) of the input to the output's
    size: tuple[int, int]
    pixels: Callable[[np.ndarray, str, Any], np.ndarray]  # (image, interpolation, fill) -> image

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) -> (..., 2)."""
        mapped = np.concatenate([xy, np.ones_like(xy[..., :1])], -1).astype(np.float64) @ self.matrix.T
        return (mapped[..., :2] / mapped[..., 2:]).astype(xy.dtype)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """The smallest boxes around the moved ones, cut off at the image's border."""
        corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        h, w = self.size
        moved = np.concatenate([corners.min(1), corners.max(1)], 1)
        return np.clip(moved, 0, np.array([w, h, w, h], moved.dtype)).astype(boxes.dtype)

    def keypoints(self, keypoints: np.ndarray) -> np.ndarray:
        """Moved; those that leave the image lose their visibility."""
        moved = keypoints.copy()
        moved[..., :2] = self.points(keypoints[..., :2])
        if keypoints.shape[-1] == 3:
            h, w = self.size
            x, y = moved[..., 0], moved[..., 1]
            moved[..., 2] *= (x >= 0) & (x <= w) & (y >= 0) & (y <= h)
        return moved

    def sample(self, sample: Sample, interpolation: str, fill: Any) -> Sample:
        masks = sample.masks
        if masks is not None:
            masks = self.pixels(masks if masks.ndim == 3 else masks[None], "nearest", 0)
            masks = masks if sample.masks.ndim == 3 else masks[0]
        return sample.replace(
            image=self.pixels(sample.image, interpolation, fill),
            boxes=None if sample.boxes is None else self.boxes(sample.boxes),
            masks=masks,
            keypoints=None if sample.keypoints is None else self.keypoints(sample.keypoints),
        )


def check_image(op: str, image: np.ndarray, channels: tuple[int, ...] | None = None) -> np.ndarray:
    """The image if it is (C, H, W) of a dtype for pixels, else an error that says what to do."""
    if image.ndim != 3 or 0 in image.shape:
        hint = "; put image[None] for a grey one" if image.ndim == 2 else ""
        hint = "; transforms take one image: apply them in the data set, not to a batch" if image.ndim == 4 else hint
        raise ShapeError(f"[{op}] image must be (C, H, W), got shape {image.shape}{hint}")
    if image.dtype not in IMAGE_DTYPES:
        raise DTypeError(f"[{op}] image must be uint8, or float32 or float64 from 0 to 1, got {image.dtype}")
    if channels is not None and image.shape[0] not in channels:
        few = " or ".join(str(c) for c in channels)
        last = "; its last axis looks like channels: use ToArray first, or image.transpose(2, 0, 1)"
        raise ShapeError(
            f"[{op}] image must have {few} channels, got {image.shape[0]} (shape {image.shape})"
            f"{last if image.shape[2] in channels else ''}"
        )
    return image


def _array(value: Any) -> np.ndarray:
    return value.data if isinstance(value, TensorCore) else np.asarray(value)


def _floating(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ArgumentError(f"[Sample] coordinates must be numbers, got {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
