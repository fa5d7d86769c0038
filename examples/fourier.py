"""The convolution theorem: a convolution is a product of spectra; from some kernel size on, the detour is quicker.

Direct convolution costs k^2 products a pixel, the fast Fourier transform about log(H W) for any k. A circular convolution's
matrix has the Fourier modes as eigenvectors. Photograph: a flower, from scikit-learn.
"""

import numpy as np
from common import Result, finish, options, picture
from filters import quickest
from sklearn.datasets import load_sample_image

from pydl.vision import filters as f


def eigenvectors(length: int = 32) -> float:
    """How far the Fourier modes are from being eigenvectors of a circulant matrix, with the kernel's spectrum as eigenvalues."""
    kernel = f.gaussian_1d(1.5).astype(np.float64)
    modes = np.exp(2j * np.pi * np.outer(np.arange(length), np.arange(length)) / length)
    return float(np.abs(f.circulant(kernel, length) @ modes - modes * np.fft.fft(kernel, length)).max())


def spectrum(image: np.ndarray) -> np.ndarray:
    return np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(image - image.mean()))))


def main() -> None:
    args = options(__doc__, epochs=1, quick_epochs=1)
    grey = load_sample_image("flower.jpg").mean(2, dtype=np.float32) / 255
    kernels = {"photograph": f.identity(), "box 15 x 15": f.box(15), "Gaussian, sigma 4": f.gaussian(4),
               "Laplacian of Gaussian, 2": f.laplacian_of_gaussian(2)}  # fmt: skip
    with picture(args.out / "spectra.png", 3, 4, figsize=(13, 7)) as axes:
        for column, (name, kernel) in zip(axes.T, kernels.items(), strict=True):
            result = f.fft_convolve2d(np.pad(grey, 30, mode="reflect"), kernel)[30:-30, 30:-30]
            limit = np.quantile(np.abs(result), 0.995)
            column[0].imshow(result, cmap="gray", vmin=-limit if result.mean() < 0.05 else 0, vmax=limit)
            padded = np.zeros(grey.shape)
            padded[: len(kernel), : len(kernel)] = kernel
            column[1].imshow(np.abs(np.fft.fftshift(np.fft.fft2(padded))), cmap="viridis", vmin=0)
            column[2].imshow(spectrum(result), cmap="magma")
            column[0].set_title(name, fontsize=10)
            for axis, label in zip(column, ("image", "|spectrum| of the kernel", "log |spectrum| of the image"), strict=True):
                axis.set(xticks=[], yticks=[], ylabel=label if name == "photograph" else "")
    sizes = [3, 15, 31] if args.quick else [3, 7, 11, 15, 21, 31, 41, 51, 63, 75, 91]
    rng = np.random.default_rng(args.seed)
    kernels = [rng.normal(size=(k, k)).astype(np.float32) for k in sizes]
    rows = [f.gaussian_1d(k / 6, k) for k in sizes]
    ways = [lambda w=w: f.convolve2d(grey, w) for w in kernels]
    ways += [lambda w=w: f.fft_convolve2d(grey, w) for w in kernels]
    ways += [lambda r=r: f.correlate_separable(grey, r, r) for r in rows]
    direct, fast, separable = quickest(ways, 2 if args.quick else 20).reshape(3, -1)
    for k, *times in zip(sizes, direct, fast, separable, strict=True):
        print("k={:3d}   direct {:7.2f} ms   FFT {:7.2f} ms   separable {:7.2f} ms".format(k, *(1e3 * t for t in times)))
    wide, exact = [k.astype(np.float64) for k in kernels], grey.astype(np.float64)
    error = max(np.abs(f.fft_convolve2d(exact, w) - f.convolve2d(exact, w)).max() for w in wide)
    crossing = next((k for k, a, b in zip(sizes, direct, fast, strict=True) if a > b), np.inf)
    with picture(args.out / "timing.png", figsize=(6.2, 4)) as axis:
        for times, name in ((direct, "direct"), (fast, "through the FFT"), (separable, "direct, separable kernel")):
            axis.plot(sizes, 1e3 * times, "o-", label=name)
        axis.set(xlabel="size k of the kernel", ylabel="milliseconds", yscale="log", title="Convolution of 427 x 640 pixels")
        axis.legend()
    large = slice(-7, None)
    growth = np.polyfit(np.log(sizes[large]), np.log(direct[large]), 1)[0]
    finish(args, [
        Result("FFT against direct, largest difference", error, "0, rounded: below 1e-10", error < 1e-10),
        Result("modes of a circulant matrix, error", eigenvectors(), "0, rounded: below 1e-12", eigenvectors() < 1e-12),
        Result("exponent of direct time over k", growth, "2", None if args.quick else abs(growth - 2) < 0.5),
        Result("the FFT is quicker from k =", crossing, "some size: it does not grow with k",
               None if args.quick else bool(np.isfinite(crossing))),
        Result("time of the FFT at the largest k over the smallest", fast[-1] / fast[0], "near 1 (the image grows by k - 1)",
               None if args.quick else fast[-1] / fast[0] < 2.5),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
