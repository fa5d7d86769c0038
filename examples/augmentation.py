"""Augmentation: every transform on a photograph with box, mask and keypoints, and what it is worth where images are few.

Shifting, turning and stretching digits a little makes new ones; Simard, Steinkraus and Platt (2003) brought the error on
all of MNIST from 1.6 to 1.1 % that way (affine maps). With 20 digits of each kind, it removes more than half of them.
"""

import numpy as np
from common import Result, finish, fit, options, picture
from sklearn.datasets import load_sample_image

import pydl
from pydl import optim
from pydl.data import DataLoader, ImageArrays, MNIST5k, Subset
from pydl.metrics import Accuracy
from pydl.models import LeNet5
from pydl.train import Trainer
from pydl.vision import draw_boxes, draw_keypoints, draw_masks, filters
from pydl.vision import transforms as T

SHOWN = {
    "photograph": T.Compose([]),
    "RandomHorizontalFlip": T.RandomHorizontalFlip(1.0),
    "RandomVerticalFlip": T.RandomVerticalFlip(1.0),
    "RandomCrop": T.RandomCrop((300, 400)),
    "RandomResizedCrop": T.RandomResizedCrop((427, 640), (0.2, 0.5)),
    "CenterCrop": T.CenterCrop((300, 480)),
    "Resize": T.Resize((200, 500)),
    "Pad, mirrored": T.Pad(70, padding_mode="reflect"),
    "RandomRotation": T.RandomRotation((25, 35), "bilinear"),
    "RandomRotation, expand": T.RandomRotation((25, 35), "bilinear", expand=True),
    "RandomAffine": T.RandomAffine(25, (0.1, 0.1), (0.6, 0.9), 20, "bilinear", fill=128),
    "RandomPerspective": T.RandomPerspective(0.6, 1.0),
    "ColorJitter": T.ColorJitter(0.5, 0.5, 0.5),
    "ColorJitter, hue": T.ColorJitter(hue=(0.3, 0.5)),
    "Grayscale": T.Grayscale(3),
    "GaussianNoise": T.GaussianNoise(sigma=0.15),
    "GaussianBlur": T.GaussianBlur(31, (6.0, 8.0)),
    "RandomErasing": T.RandomErasing(1.0, (0.05, 0.2), value="random"),
    "Cutout": T.Cutout(120, 2),
    "all together": T.Compose([
        T.RandomResizedCrop((427, 640), (0.4, 0.9)), T.RandomHorizontalFlip(), T.RandomAffine(15, shear=10),
        T.ColorJitter(0.3, 0.3, 0.3),
    ]),
}  # fmt: skip

MOVES = T.RandomAffine(12, (0.08, 0.08), (0.85, 1.15), 8, "bilinear")
WAYS = {
    "as they are": {},
    "moved": {"transform": MOVES},
    "moved and erased": {"transform": T.Compose([MOVES, T.RandomErasing(0.5, (0.02, 0.1))])},
    "mixed up": {"mixing": T.MixUp(0.4, 10)},
    "moved and mixed up": {"transform": MOVES, "mixing": T.MixUp(0.4, 10)},
}


class SoftAccuracy(Accuracy):
    """For mixed labels, the class with the largest share counts."""

    def update(self, output, target) -> None:
        super().update(output, target.argmax(1) if target.ndim == 2 else target)


def flower() -> T.Sample:
    """The photograph; the flower's mask from its brightness, box and keypoints from the mask."""
    image = np.ascontiguousarray(load_sample_image("flower.jpg").transpose(2, 0, 1))
    bright = filters.correlate_separable(image[0], filters.gaussian_1d(8), filters.gaussian_1d(8)) > 110
    bright[372:] = False  # another flower
    ys, xs = np.nonzero(bright)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    ends = [(xs[i], ys[i]) for i in (ys.argmin(), xs.argmin(), xs.argmax())]
    points = np.array([(xs.mean(), ys.mean()), *ends])  # the middle, the top, the ends to the left and to the right
    return T.Sample(image, [box], bright[None], points[None], ["flower"])


def drawn(sample: T.Sample) -> np.ndarray:
    image = draw_masks(sample.image, sample.masks, alpha=0.45, colors=(60, 120, 255))
    image = draw_boxes(image, sample.boxes, sample.labels, width=4, font_size=30)
    return draw_keypoints(image, sample.keypoints, radius=8, colors=(255, 220, 0)).transpose(1, 2, 0)


def train(way: dict, name: str, digits: MNIST5k, held_out: MNIST5k, count: int, args) -> float:
    """Error in percent on the held-out digits, after training with `count` digits of each kind."""
    some = [400 * c + i for c in range(10) for i in range(count)]  # they come class by class
    data = Subset(ImageArrays(digits.data, digits.targets, way.get("transform")), some)
    mixing = {"collate_fn": way["mixing"].collate} if "mixing" in way else {}
    loader = DataLoader(data, batch_size=50, shuffle=True, seed=args.seed, **mixing)
    pydl.manual_seed(args.seed)
    model = LeNet5()
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = args.epochs * len(loader)
    trainer = Trainer(
        model, optimizer, pydl.cross_entropy, {"accuracy": SoftAccuracy()},
        scheduler=optim.lr_scheduler.WarmupCosine(optimizer, steps // 20, steps), scheduler_per_step=True,
        out=args.out / name.replace(" ", "_"), seed=args.seed, checkpoint_epochs=max(args.epochs // 5, 1),
        progress=False, plot=False,
    )  # fmt: skip
    history = fit(trainer, loader, DataLoader(held_out, batch_size=500), args)
    return 100 * (1 - history["valid_accuracy"][-1])


def main() -> None:
    args = options(__doc__, epochs=200, quick_epochs=3)
    sample = flower()
    with picture(args.out / "transforms.png", 4, 5, figsize=(14, 8.6)) as axes:
        for axis, (name, transform) in zip(axes.flat, SHOWN.items(), strict=True):
            pydl.manual_seed(args.seed + 3)
            axis.imshow(drawn(transform(sample)))
            axis.set_title(name, fontsize=10)
            axis.axis("off")
    digits, held_out = MNIST5k(train=True), MNIST5k(train=False)
    with picture(args.out / "digits.png", 5, 12, figsize=(12, 5.2)) as axes:
        for row, (name, way) in zip(axes, WAYS.items(), strict=True):
            three = Subset(ImageArrays(digits.data, digits.targets, way.get("transform")), [400 * (i % 3) for i in range(12)])
            mixing = {"collate_fn": way["mixing"].collate} if "mixing" in way else {}
            loader = DataLoader(three, batch_size=12, seed=args.seed, **mixing)
            for axis, image in zip(row, next(iter(loader))[0].numpy(), strict=True):
                axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[])
            row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    count = 10 if args.quick else 20
    errors = {}
    for name, way in WAYS.items():
        errors[name] = train(way, name, digits, held_out, count, args)
        print(f"{10 * count} digits {name}: {errors[name]:.1f} % of {len(held_out)} others wrong")
    with picture(args.out / "errors.png", figsize=(6.5, 3)) as axis:
        bars = axis.barh(list(errors), list(errors.values()), color="tab:blue")
        axis.bar_label(bars, fmt="%.1f %%", padding=3)
        axis.invert_yaxis()
        axis.set(xlabel="error on held-out digits, %", title=f"LeNet-5 from {count} digits of each kind")
        axis.margins(x=0.15)
    plain, moved = errors["as they are"], errors["moved"]
    finish(args, [
        Result(f"error from {10 * count} digits, %", plain, "10 to 25", None if args.quick else 10 < plain < 25),
        Result("error with moved digits, %", moved, "less than half", None if args.quick else moved < plain / 2),
        *(Result(f"error, {name}, %", errors[name], "less than as they are", None if args.quick else errors[name] < plain)
          for name in list(WAYS)[2:]),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
