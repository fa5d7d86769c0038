"""The loss around trained networks of 44 layers with and without skips (Li et al. 2018, "Visualizing the Loss Landscape").

The networks of resnet_depth.py on Fashion-MNIST at 14 x 14. From the trained weights w the loss is drawn at w + a d + b e, d and
e random but each filter of them as long as that filter of w, so that networks of different scale can be compared. The paper: the
surface of deep networks without skips is sharp and far from convex, with skips wide and nearly convex around the minimum.
Measured: where the loss bends downwards, on the plane and along lines; how often it falls on the way outwards; how far out it
has risen by 1. The plain network is also trained less well after as many epochs, which is part of the effect, not apart from it.
"""

from typing import Any

import numpy as np
from common import DATA, Result, Standardise, finish, fit, options, picture, small_images

import pydl
from pydl import nn, optim
from pydl.data import DataLoader
from pydl.metrics import Accuracy
from pydl.models.resnet import BasicBlock, ResNet
from pydl.train import Trainer, filter_normalised_directions, loss_surface

COLOURS = {"plain": "#d9722e", "residual": "#2f6fb7"}


def main() -> None:
    args = options(__doc__, epochs=6, quick_epochs=1, depth={"type": int, "default": 44, "help": "layers, 6n + 2 (default 44)"},
                   **DATA)  # fmt: skip
    args.depth = 8 if args.quick else args.depth
    train, test, source = small_images(args.data, 320 if args.quick else 2_000, 200 if args.quick else 1_000, args.download)
    x, y = next(iter(DataLoader(train, batch_size=64 if args.quick else 256, shuffle=True, seed=args.seed)))
    grid = np.linspace(-1, 1, 7 if args.quick else 23)
    line = np.linspace(-1, 1, 11 if args.quick else 41)
    planes, ways, histories = {}, {}, {}
    for kind in COLOURS:
        model, histories[kind] = learn(kind, train, test, source, args)
        model.eval()

        def loss(model: Any = model) -> Any:
            return pydl.cross_entropy(model(x), y)

        planes[kind] = loss_surface(model, loss, filter_normalised_directions(model, 2, args.seed), grid, grid)
        directions = filter_normalised_directions(model, 2 if args.quick else 6, args.seed + 1)
        ways[kind] = np.array([loss_surface(model, loss, [d], line)[:, 0] for d in directions])
        print(f"{kind}: loss {planes[kind].min():.3f} at the least, {np.median(planes[kind]):.3g} in the middle of the plane")
    np.savez(args.out / "surfaces.npz", grid=grid, line=line, **planes, **{f"{k}_lines": w for k, w in ways.items()})
    draw(grid, planes, line, ways, args)
    full = not args.quick
    compared = (
        ("plane that bends downwards, %", saddles, planes, 100),
        ("lines that bend downwards, %", lambda w: (np.diff(w, 2) < 0).mean(), ways, 100),
        ("steps outwards on which the loss falls, %", falls, ways, 100),
    )  # fmt: skip
    reach = {kind: (w < w.min(1, keepdims=True) + 1).mean() for kind, w in ways.items()}
    results = []
    for name, measure, data, unit in compared:
        with_skips, without = (unit * float(measure(data[kind])) for kind in ("residual", "plain"))
        results += [Result(f"residual: {name}", with_skips, "below that of plain", with_skips < without if full else None),
                    Result(f"plain: {name}", without, "")]  # fmt: skip
    finish(args, [
        *(Result(f"{k}-{args.depth}: held-out accuracy, %", 100 * h["valid_accuracy"][-1], "") for k, h in histories.items()),
        *results,
        *(Result(f"{kind}: distance at which the loss is higher by 1", r, "") for kind, r in reach.items()),
    ])  # fmt: skip


def learn(kind: str, train, test, source, args) -> tuple[nn.Module, pydl.train.History]:
    pydl.manual_seed(args.seed)
    network = ResNet(BasicBlock, ((args.depth - 2) // 6,) * 3, len(source.classes), source.data.shape[1], 8, kind == "residual",
                     small_stem=True)  # fmt: skip
    model = nn.Sequential(Standardise(source.data), nn.AvgPool2d(2), network)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    trainer = Trainer(
        model, optimizer, pydl.cross_entropy, {"accuracy": Accuracy()},
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs),
        out=args.out / f"{kind}-{args.depth}", seed=args.seed, plot=False,
    )  # fmt: skip
    loader = DataLoader(train, batch_size=64, shuffle=True, seed=args.seed)
    return model, fit(trainer, loader, DataLoader(test, batch_size=500), args)


def saddles(plane: np.ndarray) -> float:
    """The share of inner points where one of the two curvatures of the plane is negative, from differences of neighbours."""
    a, b = np.diff(plane, 2, 0)[:, 1:-1], np.diff(plane, 2, 1)[1:-1]
    mixed = (plane[2:, 2:] - plane[2:, :-2] - plane[:-2, 2:] + plane[:-2, :-2]) / 4
    least = (a + b) / 2 - np.sqrt((a - b) ** 2 / 4 + mixed**2)
    return float((least < 0).mean())


def falls(lines: np.ndarray) -> float:
    """The share of steps away from the middle on which the loss falls."""
    middle = lines.shape[1] // 2
    outwards = np.concatenate([np.diff(lines[:, middle:]), np.diff(lines[:, middle::-1])])
    return float((outwards < 0).mean())


def draw(grid, planes, line, ways, args) -> None:
    with picture(args.out / "loss_surface.png", 2, 3, figsize=(12.5, 7.4)) as axes:
        for row, (kind, plane) in zip(axes, planes.items(), strict=True):
            low, high = np.log10(min(p.min() for p in planes.values())), 2.0
            height = np.clip(np.log10(plane), low, high)
            steps = np.linspace(low, high, 17)
            row[0].contourf(grid, grid, height.T, levels=steps, cmap="viridis")
            row[0].contour(grid, grid, height.T, levels=steps, colors="white", linewidths=0.4, linestyles="solid")
            row[0].set(title=f"{kind}-{args.depth}", xlabel="a", ylabel="b", aspect="equal")
            figure, place = row[1].figure, row[1].get_subplotspec()
            row[1].remove()
            solid = figure.add_subplot(place, projection="3d")
            solid.plot_surface(*np.meshgrid(grid, grid), height.T, cmap="viridis", vmin=low, vmax=high, rcount=60, ccount=60)
            solid.set(xlabel="a", ylabel="b", zlim=(low, high), zticks=[0, 1, 2], zticklabels=["1", "10", "100"])
            solid.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
            solid.view_init(38, -60)
            for values in ways[kind]:
                row[2].semilogy(line, values, color=COLOURS[kind], lw=1.2, alpha=0.8)
            row[2].set(xlabel="distance in filters' lengths", ylabel="loss", ylim=(10**low / 1.3, 200))
            row[2].set_xticks([-1, -0.5, 0, 0.5, 1])
            row[2].set_title(f"{len(ways[kind])} directions")


if __name__ == "__main__":
    main()
