"""Boxes, masks, keypoints and texts on images: what detectors, segmenters and classifiers say, to look at.

Images are (C, H, W) or (H, W), grey or RGB, uint8 or floats from 0 to 1; the result is a new uint8 image (3, H, W). Boxes are
(x1, y1, x2, y2) in pixels from the upper left corner, where pixel (row i, column j) covers [j, j + 1] x [i, i + 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.errors import ArgumentError, ShapeError
from pydl.graph import TensorCore
from pydl.vision.io import from_pillow, to_pillow

__all__ = ["PALETTE", "draw_boxes", "draw_keypoints", "draw_masks", "draw_text"]

PALETTE = (
    (230, 60, 60), (50, 130, 220), (60, 170, 75), (240, 150, 30), (145, 80, 190), (20, 175, 180), (225, 90, 170), (150, 110, 60),
    (110, 120, 130), (160, 170, 30),
)  # fmt: skip
Colour = tuple[int, int, int]
Colours = Colour | Sequence[Colour] | None


def draw_boxes(
    image: Any, boxes: Any, labels: Sequence[Any] | None = None, scores: Any = None, colors: Colours = None,
    width: int | None = None, font_size: int | None = None,
) -> np.ndarray:  # fmt: skip
    """Draw boxes (N, 4), each with its label and score above it.

    Parameters
    ----------
    labels : sequence, optional
        Texts or numbers, one for each box; equal labels get equal colours.
    scores : sequence of float, optional
        Written as percentages.
    colors : one (red, green, blue), or one for each box, optional
    width, font_size : int, optional
        In pixels; by default as fits the image.
    """
    canvas = _rgb(image)
    corners = _array(boxes).astype(np.float64)
    if corners.size == 0:
        return from_pillow(canvas)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ShapeError(f"[draw_boxes] boxes must be (N, 4), got shape {corners.shape}")
    _count("draw_boxes", "labels", labels, len(corners))
    _count("draw_boxes", "scores", scores, len(corners))
    texts = _texts(labels, scores, len(corners))
    shades = _colours("draw_boxes", colors, labels, len(corners))
    width = width or max(1, round(min(canvas.size) / 160))
    pen, font = _pen(canvas), _font(font_size or max(9, round(min(canvas.size) / 26)))
    for (x1, y1, x2, y2), text, colour in zip(corners, texts, shades, strict=True):
        if x2 < x1 or y2 < y1:
            raise ArgumentError(f"[draw_boxes] box {(x1, y1, x2, y2)} has a negative size; expected (x1, y1, x2, y2)")
        # A box that ends at x2 has x2 - 1 as its last pixel.
        pen.rectangle((round(x1), round(y1), max(round(x2) - 1, round(x1)), max(round(y2) - 1, round(y1))), None, colour, width)
        if text:
            _tag(pen, (round(x1), round(y1)), text, colour, font, canvas.size)
    return from_pillow(canvas)


def draw_masks(
    image: Any, masks: Any, alpha: float = 0.5, colors: Colours = None, labels: Sequence[Any] | None = None
) -> np.ndarray:
    """Tint the pixels of each mask, (N, H, W) bool (or (H, W): one mask, or class numbers from 0, which stays clear)."""
    pixels = from_pillow(_rgb(image)).astype(np.float32)
    masks = _array(masks)
    if masks.ndim == 2 and masks.dtype.kind in "iu" and masks.max(initial=0) > 1:
        masks = np.stack([masks == c for c in range(1, int(masks.max()) + 1)])
    masks = (masks[None] if masks.ndim == 2 else masks) > 0
    if masks.ndim != 3 or masks.shape[1:] != pixels.shape[1:]:
        raise ShapeError(f"[draw_masks] masks must be (N, {pixels.shape[1]}, {pixels.shape[2]}) as the image, got {masks.shape}")
    for mask, colour in zip(masks, _colours("draw_masks", colors, labels, len(masks)), strict=True):
        pixels[:, mask] += alpha * (np.array(colour, np.float32)[:, None] - pixels[:, mask])
    return (pixels + 0.5).astype(np.uint8)


def draw_keypoints(image: Any, keypoints: Any, colors: Colours = None, radius: int | None = None,
                   connect: Sequence[tuple[int, int]] = ()) -> np.ndarray:  # fmt: skip
    """Dots at keypoints (N, K, 2) or (K, 2) as (x, y); a third column of 0 hides one. `connect` lists pairs to join by lines."""
    canvas = _rgb(image)
    points = _array(keypoints).astype(np.float64)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[2] not in (2, 3):
        raise ShapeError(f"[draw_keypoints] keypoints must be (N, K, 2), (N, K, 3) or (K, 2), got shape {points.shape}")
    pen, r = _pen(canvas), radius or max(2, round(min(canvas.size) / 120))
    for instance, colour in zip(points, _colours("draw_keypoints", colors, None, len(points)), strict=True):
        seen = instance[:, 2] > 0 if instance.shape[1] == 3 else np.ones(len(instance), bool)
        for a, b in connect:
            if seen[a] and seen[b]:
                pen.line([*instance[a, :2], *instance[b, :2]], fill=colour, width=max(1, r // 2))
        for x, y in instance[seen, :2]:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=(255, 255, 255))
    return from_pillow(canvas)


def draw_text(
    image: Any, lines: str | Sequence[str], font_size: int | None = None, color: Colour = (255, 255, 255)
) -> np.ndarray:
    """Lines of text in a dark band at the lower edge, such as the classes that a network is surest of."""
    canvas = _rgb(image)
    lines = [lines] if isinstance(lines, str) else list(lines)
    font = _font(font_size or max(9, round(min(canvas.size) / 22)))
    step = max(font.getbbox(line or "x")[3] for line in [*lines, "Ag"]) + 3
    top = max(canvas.size[1] - step * len(lines) - 6, 0)
    pixels = from_pillow(canvas)
    pixels[:, top:] = (pixels[:, top:] * 0.35).astype(np.uint8)
    canvas = to_pillow(pixels)
    pen = _pen(canvas)
    for i, line in enumerate(lines):
        pen.text((6, top + 3 + i * step), line, fill=color, font=font)
    return from_pillow(canvas)


def _tag(pen: Any, corner: tuple[int, int], text: str, colour: Colour, font: Any, size: tuple[int, int]) -> None:
    """The label on a coloured ground: above the box, or inside where there is no room above."""
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    y = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 150
    pen.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)


def _rgb(image: Any) -> Any:
    return to_pillow(image).convert("RGB")


def _pen(canvas: Any) -> Any:
    return require("PIL.ImageDraw", "vision", "drawing").Draw(canvas)


def _font(size: int) -> Any:
    return require("PIL.ImageFont", "vision", "drawing").load_default(size)


def _array(value: Any) -> np.ndarray:
    return value.data if isinstance(value, TensorCore) else np.asarray(value)


def _count(op: str, name: str, values: Any, n: int) -> None:
    if values is not None and len(values) != n:
        raise ArgumentError(f"[{op}] {len(values)} {name} for {n} boxes")


def _texts(labels: Sequence[Any] | None, scores: Any, n: int) -> list[str]:
    names = [""] * n if labels is None else [str(label) for label in _plain(labels)]
    if scores is None:
        return names
    return [f"{name} {100 * float(s):.0f}%".strip() for name, s in zip(names, _array(scores), strict=True)]


def _plain(values: Any) -> list[Any]:
    return values.data.tolist() if isinstance(values, TensorCore) else list(values)


def _colours(op: str, colours: Any, labels: Any, n: int) -> list[Colour]:
    if colours is None:
        known: dict[Any, int] = {}
        kinds = range(n) if labels is None else [known.setdefault(label, len(known)) for label in _plain(labels)]
        return [PALETTE[k % len(PALETTE)] for k in kinds]
    one = len(colours) == 3 and all(isinstance(c, int | np.integer) for c in colours)
    result = [tuple(colours)] * n if one else [tuple(c) for c in colours]
    if len(result) != n:
        raise ArgumentError(f"[{op}] {len(result)} colors for {n}")
    return result
