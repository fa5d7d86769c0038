"""Linear filters on a photograph: what each does, that they are linear and shift-equivariant, and what separating saves.

A kernel of k x k elements costs k^2 products a pixel; if it is an outer product, two passes cost 2k: k^2 / 2k = k/2 times
less. A convolution is a product with a Toeplitz matrix. Photograph: a temple, from scikit-learn.
"""

import time

import numpy as np
from common import Result, finish, options, picture
from sklearn.datasets import load_sample_image

from pydl.vision import filters as f

KERNELS = {
    "identity": f.identity(), "shift by 20": f.shift(0, 20), "box 9 x 9": f.box(9), "binomial 9 x 9": f.binomial(9),
    "Gaussian, sigma 3": f.gaussian(3), "sharpen": f.sharpen(3.0, 5), "Sobel, to the right": f.sobel(1),
    "Prewitt, down": f.prewitt(0), "1st derivative": f.derivative(1, 1), "2nd derivative": f.derivative(2, 1),
    "Laplacian": f.laplacian(), "Laplacian of Gaussian, 2": f.laplacian_of_gaussian(2),
}  # fmt: skip
SMOOTH = 5  # so many kernels from the start keep grey as grey; so does sharpening


def quickest(functions: list, repeats: int) -> np.ndarray:
    """The least processor time of each in seconds; they take turns, and what else the machine does is not counted."""
    times = np.full(len(functions), np.inf)
    for _ in range(repeats):
        for i, function in enumerate(functions):
            start = time.process_time()
            function()
            times[i] = min(times[i], time.process_time() - start)
    return times


def saving(image: np.ndarray, sizes: list[int], repeats: int) -> list[float]:
    """How many times quicker two passes are than one, for square Gaussian kernels of these sizes."""
    rows = [f.gaussian_1d(size / 6, size) for size in sizes]
    at_once = [lambda r=r: f.correlate2d(image, np.outer(r, r), "valid") for r in rows]
    in_two = [lambda r=r: f.correlate_separable(image, r, r, "valid") for r in rows]
    times = quickest(at_once + in_two, repeats)
    return list(times[: len(sizes)] / times[len(sizes) :])


def properties(image: np.ndarray) -> tuple[float, float, float]:
    """The largest errors of linearity, shift-equivariance and the Toeplitz matrix over all kernels, in float64."""
    x, y = image[:60, :60].astype(np.float64), image[100:160, 200:260].astype(np.float64)
    linear = shifted = matrix = 0.0
    for kernel in KERNELS.values():
        of = f.convolve2d(2 * x - 3 * y, kernel) - (2 * f.convolve2d(x, kernel) - 3 * f.convolve2d(y, kernel))
        around = f.convolve2d(x, kernel, padding="circular")
        moved = f.convolve2d(np.roll(x, (7, -11), (0, 1)), kernel, padding="circular") - np.roll(around, (7, -11), (0, 1))
        small = x[:20, :24]
        product = f.toeplitz2d(kernel, small.shape, "full") @ small.ravel()
        linear, shifted = max(linear, np.abs(of).max()), max(shifted, np.abs(moved).max())
        matrix = max(matrix, np.abs(product - f.convolve2d(small, kernel, "full").ravel()).max())
    return linear, shifted, matrix


def main() -> None:
    args = options(__doc__, epochs=1, quick_epochs=1)
    grey = load_sample_image("china.jpg").mean(2, dtype=np.float32) / 255
    with picture(args.out / "filters.png", 3, 4, figsize=(13, 6.8)) as axes:
        for i, (axis, (name, kernel)) in enumerate(zip(axes.flat, KERNELS.items(), strict=True)):
            result = (f.convolve2d if i <= SMOOTH else f.correlate2d)(grey, kernel, padding="replicate")
            limit = 1 if i <= SMOOTH else np.quantile(np.abs(result), 0.99)
            axis.imshow(result, cmap="gray", vmin=0 if i <= SMOOTH else -limit, vmax=limit)
            axis.set_title(name, fontsize=10)
            axis.axis("off")
    down, right = f.gradient(grey)
    with picture(args.out / "edges.png", 1, 3, figsize=(13, 3.1)) as axes:
        shown = {"length of the gradient": np.hypot(down, right), "its direction": np.arctan2(down, right),
                 "edges (Canny)": f.canny(grey, 0.02, 0.05)}  # fmt: skip
        for axis, (name, value) in zip(axes, shown.items(), strict=True):
            axis.imshow(value, cmap="hsv" if "direction" in name else "magma" if "length" in name else "gray_r")
            axis.set_title(name, fontsize=10)
            axis.axis("off")
    with picture(args.out / "toeplitz.png", 1, 3, figsize=(11, 3.6)) as axes:
        row = np.array([1, 4, 9, 4, 2], np.float32)
        shown = {"Toeplitz: zeros outside": f.toeplitz(row, 20, "full"), "circulant: the other end outside": f.circulant(row, 20),
                 "of an image of 6 x 6: Toeplitz blocks": f.toeplitz2d(f.binomial(3), (6, 6), "same")}  # fmt: skip
        for axis, (name, value) in zip(axes, shown.items(), strict=True):
            axis.imshow(value, cmap="Blues")
            axis.set_title(name, fontsize=10)
            axis.axis("off")
    sizes, repeats = ([5, 15, 25], 3) if args.quick else ([3, 5, 7, 9, 11, 15, 21, 25, 31, 41], 15)
    large = np.tile(grey, (1 if args.quick else 2, 1 if args.quick else 2))
    ratios = saving(large, sizes, repeats)
    with picture(args.out / "separable.png", figsize=(6, 4)) as axis:
        axis.plot(sizes, ratios, "o-", label="measured")
        axis.plot(sizes, [k / 2 for k in sizes], "--", color="gray", label="k² / 2k, by counting products")
        axis.set(xlabel="size k of the kernel", ylabel="times quicker in two passes", title="Separable filters")
        axis.legend()
    print("   ".join(f"k={k}: {r:.1f}" for k, r in zip(sizes, ratios, strict=True)))
    linear, shifted, matrix = properties(grey)
    finish(args, [
        Result("error of linearity", linear, "0, rounded: below 1e-12", linear < 1e-12),
        Result("error of shift-equivariance", shifted, "0, rounded: below 1e-12", shifted < 1e-12),
        Result("Toeplitz matrix against convolution", matrix, "0, rounded: below 1e-12", matrix < 1e-12),
        Result(f"two passes, times quicker at k={sizes[-1]}", ratios[-1], f"k/2 = {sizes[-1] / 2} by counting products",
               None if args.quick else ratios[-1] > sizes[-1] / 8),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
