"""Augmentation and preparation of images, with torchvision's names; boxes, masks and keypoints come along.

A transform takes an image (C, H, W), array or tensor, or a `Sample`. In a `DataLoader`, what it draws depends on the seed,
the epoch and the sample's number alone, whatever the number of workers.

>>> import numpy as np
>>> from pydl.vision import transforms as T
>>> crop = T.Compose([T.RandomHorizontalFlip(p=1.0), T.CenterCrop(4)])
>>> crop(T.Sample(np.zeros((3, 6, 8), np.uint8), boxes=[[0, 1, 3, 4]])).boxes
array([[3., 0., 4., 3.]], dtype=float32)
"""

from pydl.vision.transforms import functional
from pydl.vision.transforms.base import (
    Compose,
    GeometricTransform,
    ImageTransform,
    Lambda,
    RandomApply,
    RandomChoice,
    RandomOrder,
    Transform,
)
from pydl.vision.transforms.color import (
    ColorJitter,
    Cutout,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Normalize,
    RandomErasing,
    RandomGrayscale,
)
from pydl.vision.transforms.convert import ConvertImageDtype, ToArray, ToTensor, collate_samples
from pydl.vision.transforms.geometric import (
    CenterCrop,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    SanitizeBoundingBoxes,
)
from pydl.vision.transforms.mixing import CutMix, MixUp
from pydl.vision.transforms.sample import Move, Sample

__all__ = [
    "CenterCrop", "ColorJitter", "Compose", "ConvertImageDtype", "CutMix", "Cutout", "GaussianBlur", "GaussianNoise",
    "GeometricTransform", "Grayscale", "ImageTransform", "Lambda", "MixUp", "Move", "Normalize", "Pad", "RandomAffine",
    "RandomApply", "RandomChoice", "RandomCrop", "RandomErasing", "RandomGrayscale", "RandomHorizontalFlip", "RandomOrder",
    "RandomPerspective", "RandomResizedCrop", "RandomRotation", "RandomVerticalFlip", "Resize", "Sample",
    "SanitizeBoundingBoxes", "ToArray", "ToTensor", "Transform", "collate_samples", "functional",
]  # fmt: skip
