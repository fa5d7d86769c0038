"""Images: reading and drawing, linear filters, transforms that take boxes, masks and keypoints along."""

from __future__ import annotations

import importlib
from typing import Any

# Imported when first used: examples that only filter need no transforms, and the other way round.
_MODULES = ("draw", "filters", "io", "transforms")
_NAMES = dict.fromkeys(("read_image", "write_image"), "io")
_NAMES |= dict.fromkeys(("draw_boxes", "draw_keypoints", "draw_masks", "draw_text"), "draw")

__all__ = [*_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"pydl.vision.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"pydl.vision.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pydl.vision' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
