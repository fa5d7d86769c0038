"""The thirteen cases of the training-step benchmark: a network, its batch, and how to draw one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import networks as n

Batch = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Case(NamedTuple):
    """`build(package)` makes the model; `batch(rng)` draws (input, target) as ndarrays."""

    build: Callable[[Any], Any]
    batch: Batch
    description: str


def images(count: int, *shape: int, classes: int = 10) -> Batch:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(count, *shape)).astype(np.float32), rng.integers(0, classes, count)

    return draw


def masks(count: int, *shape: int) -> Batch:
    """Images with one of two classes for each pixel."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(count, *shape)).astype(np.float32), rng.integers(0, 2, (count, *shape[1:]))

    return draw


def tokens(batch: int, length: int, vocabulary: int) -> Batch:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        text = rng.integers(0, vocabulary, (batch, length + 1))
        return text[:, :-1].copy(), text[:, 1:].reshape(-1).copy()

    return draw


_PHOTO = (3, 224, 224)

CASES = {
    "mlp": Case(n.mlp, images(128, 784), "784-512-512-10, batch 128"),
    "mnist1d": Case(n.mnist1d, images(100, 1, 40), "3 x conv 15, batch 100 x 1 x 40"),
    "lenet5": Case(n.lenet5, images(128, 1, 28, 28), "batch 128 x 1 x 28 x 28"),
    "alexnet": Case(n.alexnet, images(32, *_PHOTO, classes=1000), "batch 32, 224 x 224"),
    "vgg16": Case(n.vgg16, images(8, *_PHOTO, classes=1000), "batch 8, 224 x 224"),
    "resnet18": Case(lambda p: n.residual(p, (2, 2, 2, 2), False), images(16, *_PHOTO, classes=1000), "batch 16, 224 x 224"),
    "resnet50": Case(lambda p: n.residual(p, (3, 4, 6, 3), True), images(8, *_PHOTO, classes=1000), "batch 8, 224 x 224"),
    "googlenet": Case(n.googlenet, images(16, *_PHOTO, classes=1000), "no auxiliary classifiers, batch 16, 224 x 224"),
    "densenet121": Case(n.densenet121, images(8, *_PHOTO, classes=1000), "batch 8, 224 x 224"),
    "unet": Case(n.unet, masks(4, 3, 128, 128), "base 64, batch 4, 128 x 128"),
    "lstm": Case(n.language_model("LSTM"), tokens(32, 64, 5000), "2 x 512, batch 32 x 64 tokens"),
    "gru": Case(n.language_model("GRU"), tokens(32, 64, 5000), "2 x 512, batch 32 x 64 tokens"),
    "transformer": Case(n.transformer, tokens(8, 64, 5000), "width 512, 6 + 6 layers, batch 8 x 64 tokens"),
}
