"""Images: warps, changes of size and filters beside PyTorch and Pillow; results are compared before they are timed.

Times are medians of runs in turns, in milliseconds: pydl, the other, ratio. Images have 3 channels; filters take one grey plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import agree, medians
from pydl.vision import filters
from pydl.vision.transforms import functional as F

SIZE = 224
TURN = F.affine_matrix(20, (3, 4), 1.1, (5, 0), (SIZE / 2, SIZE / 2))


def warps(torch: Any) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    from PIL import Image

    rng = np.random.default_rng(0)
    image = rng.random((3, SIZE, SIZE), np.float32)
    places = np.einsum("ij,jhw->ihw", TURN, np.stack([*np.meshgrid(*[np.arange(SIZE) + 0.5] * 2), np.ones((SIZE, SIZE))]))
    grid = torch.from_numpy((2 * places[:2] / SIZE - 1).transpose(1, 2, 0)[None].astype(np.float32))
    x = torch.from_numpy(image[None])
    photo, large = (rng.integers(0, 256, (3, *s)).astype(np.uint8) for s in ((SIZE, SIZE), (480, 640)))
    pil, pil_large = (Image.fromarray(p.transpose(1, 2, 0)) for p in (photo, large))
    sample, resize = torch.nn.functional.grid_sample, torch.nn.functional.interpolate
    wide = torch.from_numpy(large[None] / np.float32(255))
    wide_array = wide[0].numpy()
    numbers, small = TURN.ravel()[:6].tolist(), (SIZE, SIZE)

    def pillow(result: Any) -> np.ndarray:
        return np.asarray(result).transpose(2, 0, 1)

    return {
        "warp float32 | PyTorch, grid given": (lambda: F.warp(image, TURN), lambda: sample(x, grid, align_corners=False)[0]),
        "warp uint8 | Pillow": (
            lambda: F.warp(photo, TURN),
            lambda: pillow(pil.transform(small, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)),
        ),
        "480 x 640 to 224 float32 | PyTorch": (
            lambda: F.resize(wide_array, small), lambda: resize(wide, small, mode="bilinear", antialias=True)[0]
        ),
        "480 x 640 to 224 uint8 | Pillow": (
            lambda: F.resize(large, small), lambda: pillow(pil_large.resize(small, Image.Resampling.BILINEAR))
        ),
    }  # fmt: skip


def planes(torch: Any) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    rng = np.random.default_rng(0)
    image = rng.random((480, 640), np.float32)
    x = torch.from_numpy(image[None, None])
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for k in (3, 5, 9, 15, 31):
        kernel = rng.random((k, k), np.float32)
        w = torch.from_numpy(kernel[None, None])
        cases[f"filter {k} x {k} | PyTorch conv2d"] = (
            lambda kernel=kernel: filters.correlate2d(image, kernel, "valid"),
            lambda w=w: torch.nn.functional.conv2d(x, w)[0, 0],
        )
    return cases


def run(rounds: int) -> None:
    import torch

    for name, (ours, theirs) in {**warps(torch), **planes(torch)}.items():
        # Pillow rounds between the two axes, and cuts off what lies less than half a pixel outside.
        agree(ours().astype(np.float64), np.asarray(theirs(), np.float64), name, 0.1 if "Pillow" in name else 1e-4)
        a, b = medians([ours, theirs], rounds)
        print(f"{name:36} {a:8.3f} {b:8.3f} {b / a:6.2f}x", flush=True)
