"""What is in a picture: scores of a trained network as named classes with probabilities."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.models.pretrained import Preprocessing
from pydl.nn.module import Module

__all__ = ["Class", "Predictor"]


class Class(NamedTuple):
    """One class that a network sees in a picture."""

    number: int
    name: str
    probability: float


class Predictor:
    """Classifies pictures.

    Parameters
    ----------
    model : Module
        With trained weights; put into evaluation.
    preprocessing : Preprocessing
        What the network wants. If its first convolution takes another number of channels, the picture is converted.
    names : sequence of str, optional
        Of the classes; default "class 0" and so on.
    """

    def __init__(self, model: Module, preprocessing: Preprocessing, names: Sequence[str] | None = None) -> None:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        if first is not None and first.in_channels != preprocessing.channels:
            if first.in_channels not in (1, 3, 4):
                raise ArgumentError(f"{type(model).__name__} takes images of {first.in_channels} channels; a picture has 1 "
                                    "(grey), 3 (colour) or 4 (colour and transparency)")
            alike = dataclasses.replace(preprocessing, channels=first.in_channels)
            preprocessing = dataclasses.replace(alike, mean=_average(alike.mean), std=_average(alike.std))
        self.model, self.preprocessing, self.names = model.eval(), preprocessing, names

    def __call__(self, picture: str | os.PathLike[str], top: int = 5) -> list[Class]:
        """The likeliest classes of the picture in a file, the likeliest first.

        Raises
        ------
        PydlError
            For a file that is missing, damaged or no picture.
        ShapeError
            If the picture is too small for the network, naming file and layer.
        """
        if top < 1:
            raise ArgumentError(f"predict: top={top}; expected 1 or more")
        input = self.preprocessing(picture)
        try:
            with pydl.no_grad():
                scores = self.model(input)
        except ShapeError as error:
            size = " x ".join(map(str, input.shape[2:]))
            raise ShapeError(f"{picture}, brought to {size}, does not go through {type(self.model).__name__}: {error}") from None
        if scores.ndim != 2:
            raise ShapeError(f"{type(self.model).__name__} makes {scores.shape} of a picture; expected scores (1, classes)")
        probability = pydl.softmax(scores, 1).numpy()[0]
        if self.names is not None and len(self.names) != len(probability):
            raise ArgumentError(f"{len(self.names)} names for the {len(probability)} classes of {type(self.model).__name__}")
        order = np.argsort(-probability, kind="stable")[:top]
        return [Class(int(i), self.names[i] if self.names is not None else f"class {i}", float(probability[i])) for i in order]

    def annotate(self, picture: str | os.PathLike[str], found: Sequence[Class], out: str | os.PathLike[str]) -> Path:
        """Save the picture with what was found beside it."""
        from pydl.viz import prediction

        pixels = np.asarray(self.preprocessing.open(picture).copy())
        step = max(1, max(pixels.shape[:2]) // 1000)  # photographs have more pixels than the figure
        title = f"{type(self.model).__name__}: {Path(picture).name}"
        return Path(prediction(pixels[::step, ::step], [c.name for c in found], [c.probability for c in found], out, title))


def _average(value: Any) -> float:
    return float(np.mean(value))
