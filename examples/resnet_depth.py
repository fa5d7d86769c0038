"""Residual and plain networks by depth (He et al. 2015, figures 1 and 6): deeper plain ones fit even their training data worse.

The networks are the paper's for CIFAR, 6n + 2 layers in three stages, with 8 maps at first, on Fashion-MNIST at 14 x 14, from
2,000 images. The paper: plain-56 has a higher training error than plain-20, while ResNets gain from depth.
"""

import numpy as np
from common import DATA, Result, Standardise, finish, fit, options, picture, small_images

import pydl
from pydl import nn, optim
from pydl.data import DataLoader
from pydl.metrics import Accuracy
from pydl.models.resnet import BasicBlock, ResNet
from pydl.train import Trainer


def main() -> None:
    args = options(__doc__, epochs=6, quick_epochs=1, **DATA)
    depths = (8, 14) if args.quick else (8, 20, 44)
    train, test, source = small_images(args.data, 320 if args.quick else 2_000, 200 if args.quick else 1_000, args.download)
    rows: dict[str, dict[int, dict[str, float]]] = {"plain": {}, "residual": {}}
    curves = {}
    for kind, results in rows.items():
        for depth in depths:
            print(f"{kind}-{depth}")
            history = run(kind == "residual", depth, train, test, source, args)
            results[depth] = {"train": 100 * history["train_accuracy"][-1], "test": 100 * history["valid_accuracy"][-1]}
            curves[kind, depth] = np.array(history["train_loss"])
    draw(curves, rows, args)
    shallow, deep = depths[-2], depths[-1]
    lost = rows["plain"][deep]["train"] - rows["plain"][shallow]["train"]
    ahead = rows["residual"][deep]["train"] - rows["plain"][deep]["train"]
    tested = rows["residual"][deep]["test"] - rows["plain"][deep]["test"]
    full = not args.quick
    finish(args, [
        *(Result(f"{kind}-{d}: held-out accuracy, %", r["test"], "") for kind, part in rows.items() for d, r in part.items()),
        Result(f"plain-{deep} less plain-{shallow}: training accuracy, %", lost, "below 0", lost < 0 if full else None),
        Result(f"residual-{deep} less plain-{deep}: training accuracy, %", ahead, "above 0", ahead > 0 if full else None),
        Result(f"residual-{deep} less plain-{deep}: held-out accuracy, %", tested, "above 0", tested > 0 if full else None),
    ])  # fmt: skip


def run(skip: bool, depth: int, train, test, source, args) -> pydl.train.History:
    """Train one network, every one from the same seed and in the same order of images."""
    pydl.manual_seed(args.seed)
    network = ResNet(BasicBlock, ((depth - 2) // 6,) * 3, len(source.classes), source.data.shape[1], 8, skip, small_stem=True)
    model = nn.Sequential(Standardise(source.data), nn.AvgPool2d(2), network)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    trainer = Trainer(
        model, optimizer, pydl.cross_entropy, {"accuracy": Accuracy()},
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs),
        out=args.out / f"{'residual' if skip else 'plain'}-{depth}", seed=args.seed, plot=False,
    )  # fmt: skip
    return fit(trainer, DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=500), args)


def draw(curves, rows, args) -> None:
    colours = {"plain": "#d9722e", "residual": "#2f6fb7"}
    with picture(args.out / "depth.png", 1, 2, figsize=(9.5, 3.8)) as (left, right):
        depths = sorted({d for _, d in curves})
        for (kind, depth), losses in curves.items():
            i = depths.index(depth)
            style = {"lw": 1 + 0.8 * i, "ls": (":", "--", "-")[i + 3 - len(depths)]}
            left.plot(np.arange(1, len(losses) + 1), losses, color=colours[kind], label=f"{kind}-{depth}", **style)
        left.set(xlabel="epoch", ylabel="training loss", title="training")
        left.legend(frameon=False, ncols=2)
        for kind, results in rows.items():
            for part, label, line in (("test", "held-out", "o-"), ("train", "training", "o:")):
                values = [r[part] for r in results.values()]
                right.plot(list(results), values, line, color=colours[kind], label=f"{kind}, {label}")
        right.set(xlabel="layers", ylabel="right, %", title="accuracy after training", xticks=depths)
        right.legend(frameon=False)


if __name__ == "__main__":
    main()
