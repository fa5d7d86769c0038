"""k-means: a photograph in few colours, and the kinds of handwritten digits found without labels.

Each colour of the photograph (a temple, from scikit-learn) is replaced by the nearest of K means: with 64 of 96,000 colours
it is hard to tell from the original. Clusters of 8 x 8 digits, each named after its most frequent digit, classify 79 % right
(VanderPlas, "Python Data Science Handbook", 2016).
"""

import numpy as np
from common import Result, finish, options, picture
from sklearn.datasets import load_digits, load_sample_image

from pydl.cluster import KMeans

COLOURS = (2, 4, 8, 16, 32, 64)


def decibels(image: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of values from 0 to 1."""
    return float(-10 * np.log10(((image - other) ** 2).mean()))


def quantise(image: np.ndarray, args) -> dict[int, tuple[float, float]]:
    """For each number of colours, the quality with means and with as many random pixels' colours."""
    pixels = image.reshape(-1, 3)
    rng = np.random.default_rng(args.seed)
    some = pixels[rng.choice(len(pixels), 2_000 if args.quick else 20_000, replace=False)]
    quality, shown = {}, {}
    for k in COLOURS:
        means = KMeans(k, seed=args.seed, max_iter=args.epochs).fit(some)
        drawn = KMeans(k, rng.choice(pixels, k, replace=False), max_iter=1, tol=np.inf)
        drawn.cluster_centers_ = drawn.init
        shown[k] = means.cluster_centers_[means.predict(pixels)].reshape(image.shape)
        random = drawn.cluster_centers_[drawn.predict(pixels)].reshape(image.shape)
        quality[k] = decibels(image, shown[k]), decibels(image, random)
        print(f"{k:3d} colours: {quality[k][0]:.1f} dB with means, {quality[k][1]:.1f} dB with random ones")
    with picture(args.out / "colours.png", 2, 4, figsize=(14, 5.2)) as axes:
        axes[0, 0].imshow(image)
        axes[0, 0].set_title(f"{len(np.unique(pixels, axis=0)):,} colours", fontsize=10)
        for axis, (k, result) in zip(axes.flat[1:], shown.items(), strict=False):
            axis.imshow(result)
            axis.set_title(f"{k} colours, {quality[k][0]:.1f} dB", fontsize=10)
        for axis in axes.flat[:7]:
            axis.axis("off")
        axes[1, 3].plot(COLOURS, [q[0] for q in quality.values()], "o-", label="k-means")
        axes[1, 3].plot(COLOURS, [q[1] for q in quality.values()], "o--", label="random pixels")
        axes[1, 3].set(xscale="log", xticks=COLOURS, xticklabels=COLOURS, ylabel="dB", xlabel="colours")
        axes[1, 3].minorticks_off()
        axes[1, 3].legend()
    return quality


def digits(args) -> tuple[float, float]:
    """Share of digits that belong to the most frequent digit of their cluster, in percent, with K = 10 and with K = 30."""
    data = load_digits()
    right = []
    for k in (10, 30):
        found = KMeans(k, n_init=1 if args.quick else 10, seed=args.seed, max_iter=args.epochs).fit(data.data)
        table = np.zeros((k, 10), int)
        np.add.at(table, (found.labels_, data.target), 1)
        right.append(100 * table.max(1).sum() / len(data.target))
        order = np.argsort(table.argmax(1), kind="stable")
        with picture(args.out / f"digits_{k}.png", k // 10, 10, figsize=(12, 1.5 * k // 10 + 0.3)) as axes:
            for axis, cluster in zip(axes.flat, order, strict=True):
                axis.imshow(found.cluster_centers_[cluster].reshape(8, 8), cmap="gray_r")
                name, share = table[cluster].argmax(), table[cluster].max() / table[cluster].sum()
                axis.set_title(f"{name}: {share:.0%} of {table[cluster].sum()}", fontsize=8)
                axis.axis("off")
    return right[0], right[1]


def main() -> None:
    args = options(__doc__, epochs=100, quick_epochs=10)
    image = load_sample_image("china.jpg").astype(np.float32) / 255
    quality = quantise(image, args)
    ten, thirty = digits(args)
    finish(args, [
        Result("64 colours, dB", quality[64][0], "over 30: hard to see", None if args.quick else quality[64][0] > 30),
        Result("64 random pixels' colours, dB", quality[64][1], "worse than means", quality[64][1] < quality[64][0]),
        Result("digits in 10 clusters, % right", ten, "79", None if args.quick else 74 < ten < 84),
        Result("digits in 30 clusters, % right", thirty, "more: a digit is written in several ways", thirty > ten),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
