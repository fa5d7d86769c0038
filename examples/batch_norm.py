"""Batch normalisation on and off (Ioffe and Szegedy 2015): with it a network learns faster, and at rates at which it else fails.

Nine convolutions of 3 x 3 in the manner of VGG, with He's initialisation, on 4,000 images of Fashion-MNIST at 14 x 14, by SGD at
three learning rates. The paper: "much higher learning rates", the same accuracy in a fraction of the steps.
"""

import numpy as np
from common import DATA, Result, Standardise, finish, options, picture, small_images

import pydl
from pydl import nn, optim
from pydl.data import DataLoader
from pydl.metrics import accuracy

RATES = (0.02, 0.2, 1.0)


def main() -> None:
    args = options(__doc__, epochs=2, quick_epochs=1, **DATA)
    train, test, source = small_images(args.data, 512 if args.quick else 4_000, 300 if args.quick else 2_000, args.download)
    rates = RATES[1:2] if args.quick else RATES
    runs = {(norm, rate): run(norm, rate, train, test, source, args) for norm in (False, True) for rate in rates}
    draw(runs, args)
    best = {norm: max(runs[norm, r][1] for r in rates) for norm in (False, True)}
    fast = runs[True, rates[-1]][1], runs[False, rates[-1]][1]
    finish(args, [
        Result("held-out accuracy with batch norm, best rate, %", best[True], "not below that without",
               best[True] >= best[False] - 1 if not args.quick else None),
        Result("held-out accuracy without, best rate, %", best[False], ""),
        Result(f"held-out accuracy with batch norm, rate {rates[-1]}, %", fast[0], "far above that without",
               fast[0] > fast[1] + 10 if not args.quick else None),
        Result(f"held-out accuracy without, rate {rates[-1]}, %", fast[1], "10 is chance"),
    ])  # fmt: skip


def run(norm: bool, rate: float, train, test, source, args) -> tuple[np.ndarray, float]:
    """The losses of all steps and the held-out accuracy; training ends at the first loss that is not finite."""
    pydl.manual_seed(args.seed)
    layers: list[nn.Module] = [Standardise(source.data), nn.AvgPool2d(2)]
    inputs = source.data.shape[1]
    for maps in (16, 16, 16, 32, 32, 32, 64, 64, 64):
        stride = 2 if maps == 2 * inputs else 1
        conv = nn.Conv2d(inputs, maps, 3, stride, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(maps), nn.ReLU()] if norm else [conv, nn.ReLU()]
        inputs = maps
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, len(source.classes)))
    optimizer = optim.SGD(model.parameters(), lr=rate)
    losses = []
    for _ in range(args.epochs):
        for x, y in DataLoader(train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            loss = pydl.cross_entropy(model(x), y)
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                break
            loss.backward()
            optimizer.step()
    model.eval()
    right = 0.0
    if np.isfinite(losses[-1]):
        with pydl.no_grad():
            right = sum(accuracy(model(x), y) * len(y) for x, y in DataLoader(test, batch_size=500)) / len(test)
    kind = "with" if norm else "without"
    print(f"{kind} batch norm, rate {rate}: loss {np.mean(losses[-20:]):.3f}, held-out {100 * right:.1f} %")
    return np.array(losses), 100 * right


def draw(runs, args) -> None:
    rates = sorted({r for _, r in runs})
    size = (3.6 * len(rates) + 0.4, 3.6)
    with picture(args.out / "batch_norm.png", 1, len(rates), figsize=size, sharey=True, squeeze=False) as axes:
        for axis, rate in zip(axes[0], rates, strict=True):
            for norm, colour in ((False, "#d9722e"), (True, "#2f6fb7")):
                losses, right = runs[norm, rate]
                width = min(15, len(losses))
                smooth = np.convolve(losses, np.ones(width) / width, "valid")
                label = f"{'with' if norm else 'without'}: {right:.1f} % held-out"
                axis.plot(np.arange(len(smooth)) + width, smooth, color=colour, label=label)
            axis.set(xlabel="step", title=f"learning rate {rate}", ylim=(0, 2.6))
            axis.legend(frameon=False)
        axes[0, 0].set_ylabel("training loss")


if __name__ == "__main__":
    main()
