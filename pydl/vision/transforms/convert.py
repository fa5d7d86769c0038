"""Between files' pixels, arrays and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.data.collate import default_collate
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph import TensorCore, wrap
from pydl.vision.transforms import functional as F
from pydl.vision.transforms.base import Transform
from pydl.vision.transforms.sample import Sample

__all__ = ["ConvertImageDtype", "ToArray", "ToTensor", "collate_samples"]


class ToArray(Transform):
    """A Pillow image, or an array with channels last (H, W, C) or none (H, W), as an array (C, H, W) of the same dtype."""

    def __call__(self, item: Any) -> Any:
        if isinstance(item, Sample):
            return item.replace(image=_channels_first(item.image))
        if type(item).__module__.partition(".")[0] == "PIL":
            from pydl.vision.io import from_pillow

            return from_pillow(item)
        return _channels_first(np.asarray(item))

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self(sample)


class ToTensor(Transform):
    """The end of a chain: a tensor (C, H, W) of float32 from 0 to 1.

    Takes what the other transforms give, arrays (C, H, W), as well as what `ToArray` takes: Pillow images, and uint8 arrays
    (H, W, C) or (H, W), as in torchvision. An array with 1, 3 or 4 channels on its last axis and not on its first counts as
    (H, W, C). A `Sample` keeps an array, which a loader stacks just as well.
    """

    def __call__(self, item: Any) -> Any:
        if isinstance(item, Sample):
            return self.apply(item, None)
        if isinstance(item, TensorCore):
            return wrap(self._convert(item.data))
        if type(item).__module__.partition(".")[0] == "PIL":
            return wrap(self._convert(ToArray()(item)))
        return wrap(self._convert(np.asarray(item)))

    def apply(self, sample: Sample, rng: Any) -> Sample:
        return sample.replace(image=self._convert(sample.image))

    @staticmethod
    def _convert(image: np.ndarray) -> np.ndarray:
        if image.dtype.kind not in "uf" or (image.dtype.kind == "u" and image.dtype != np.uint8):
            raise DTypeError(f"[ToTensor] image must be uint8 or floats, got {image.dtype}")
        if image.ndim == 2 or (image.ndim == 3 and image.shape[0] not in (1, 3, 4) and image.shape[2] in (1, 3, 4)):
            image = _channels_first(image)
        if image.ndim != 3:
            raise ShapeError(f"[ToTensor] image must be (C, H, W), (H, W, C) or (H, W), got shape {image.shape}")
        return np.ascontiguousarray(F.to_float(image), np.float32)


class ConvertImageDtype(Transform):
    """Pixels as another dtype, their range with them: uint8 0 to 255, floats 0 to 1."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.uint8, np.float32, np.float64):
            raise ArgumentError(f"[ConvertImageDtype] dtype={dtype}: expected uint8, float32 or float64")

    def apply(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample.image
        if image.dtype == self.dtype:
            return sample
        if image.dtype == np.uint8:
            image = (image / self.dtype.type(255)).astype(self.dtype)
        elif self.dtype == np.uint8:
            image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
        else:
            image = image.astype(self.dtype)
        return sample.replace(image=image)


def collate_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Join samples whose numbers of objects differ: one tensor of images (N, C, H, W), lists with an entry for each of all else.

    For ``DataLoader(..., collate_fn=collate_samples)``. Boxes, masks and keypoints become tensors.

    Raises
    ------
    ShapeError
        If the images differ in size: a transform must bring them to one.
    """
    batch: dict[str, Any] = {"image": default_collate([s.image for s in samples])}
    for name in ("boxes", "masks", "keypoints", "labels", "extra"):
        values = [getattr(s, name) for s in samples]
        if any(v is not None and not (name == "extra" and not v) for v in values):
            batch[name] = [wrap(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v for v in values]
    return batch


def _channels_first(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        return image[None]
    if image.ndim != 3:
        raise ShapeError(f"[ToArray] image must be (H, W, C) or (H, W), got shape {image.shape}")
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))
