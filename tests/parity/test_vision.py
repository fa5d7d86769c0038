"""Transforms beside PyTorch's samplers, Pillow, and torchvision where it can be imported."""

import numpy as np
import pytest

from pydl.vision.transforms import functional as F

rng = np.random.default_rng(0)
IMAGE = rng.random((3, 37, 53)).astype(np.float32)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(("border", "theirs"), [("constant", "zeros"), ("edge", "border"), ("reflect", "reflection")])
def test_warp_as_grid_sample(interpolation, border, theirs):
    torch = pytest.importorskip("torch")
    matrix = F.affine_matrix(23, (4, -7), 0.8, (5, -3), (20, 18))
    y, x = np.mgrid[:40, :50] + 0.5
    u, v, _ = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    if border == "reflect":  # torch mirrors about pixel centres only with aligned corners
        grid, aligned = np.stack([2 * (u - 0.5) / 52 - 1, 2 * (v - 0.5) / 36 - 1], -1), True
    else:
        grid, aligned = np.stack([2 * u / 53 - 1, 2 * v / 37 - 1], -1), False
    image = IMAGE.astype(np.float64)
    places = torch.from_numpy(grid[None])
    x = torch.from_numpy(image[None])
    expected = torch.nn.functional.grid_sample(x, places, interpolation, theirs, align_corners=aligned)
    np.testing.assert_allclose(F.warp(image, matrix, (40, 50), interpolation, border=border), expected[0].numpy(), atol=1e-9)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 17), (74, 60), (37, 12)])
def test_resize_as_pillow(interpolation, size):
    """Pillow always weighs all pixels when shrinking; its bytes are rounded between the axes."""
    pil = pytest.importorskip("PIL.Image")
    image = (IMAGE * 255).astype(np.uint8)
    kind = {"bilinear": pil.Resampling.BILINEAR, "bicubic": pil.Resampling.BICUBIC}[interpolation]
    theirs = np.asarray(pil.fromarray(image.transpose(1, 2, 0)).resize(size[::-1], kind)).transpose(2, 0, 1)
    ours = F.resize(image, size, interpolation)
    if interpolation == "bilinear" or size == (20, 17):  # enlarging, torch (as we) and Pillow have different cubic kernels
        assert np.abs(ours.astype(int) - theirs).max() <= 2 if size != (74, 60) else 3


@pytest.fixture(scope="module")
def tv():
    try:
        import torchvision.transforms.v2.functional as tv
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another version of torch
        pytest.skip(f"torchvision: {error}")
    return tv


CASES = {
    "brightness": lambda f: (F.adjust_brightness(IMAGE, 1.3), lambda t, x: t.adjust_brightness(x, 1.3)),
    "contrast": lambda f: (F.adjust_contrast(IMAGE, 0.6), lambda t, x: t.adjust_contrast(x, 0.6)),
    "saturation": lambda f: (F.adjust_saturation(IMAGE, 1.7), lambda t, x: t.adjust_saturation(x, 1.7)),
    "hue": lambda f: (F.adjust_hue(IMAGE, -0.3), lambda t, x: t.adjust_hue(x, -0.3)),
    "grey": lambda f: (F.rgb_to_grayscale(IMAGE), lambda t, x: t.rgb_to_grayscale(x)),
    "blur": lambda f: (F.gaussian_blur(IMAGE, (5, 7), (1.1, 2.0)), lambda t, x: t.gaussian_blur(x, [5, 7], [1.1, 2.0])),
    "resize": lambda f: (F.resize(IMAGE, (20, 60)), lambda t, x: t.resize(x, [20, 60], antialias=True)),
    "normalize": lambda f: (F.normalize(IMAGE, (0.5, 0.4, 0.3), 0.2), lambda t, x: t.normalize(x, [0.5, 0.4, 0.3], [0.2] * 3)),
    "affine": lambda f: (
        F.warp(IMAGE, np.linalg.inv(F.affine_matrix(20, (3, -5), 1.2, (7, -4), (53 / 2, 37 / 2))), interpolation="bilinear"),
        lambda t, x: t.affine(x, 20, [3, -5], 1.2, [7, -4], interpolation=2),
    ),
    "rotate": lambda f: (
        F.warp(IMAGE, np.linalg.inv(F.affine_matrix(-30, (0, 0), 1, (0, 0), (53 / 2, 37 / 2)))),
        lambda t, x: t.rotate(x, 30, interpolation=2),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_as_torchvision(tv, name):
    torch = pytest.importorskip("torch")
    ours, call = CASES[name](F)
    theirs = call(tv, torch.from_numpy(IMAGE)).numpy()
    if name in ("affine", "rotate"):  # torchvision mixes the border in another way
        inside = np.abs(ours - theirs) < 1e-3
        assert inside.mean() > 0.98
    else:
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
