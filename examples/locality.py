"""LeCun's five networks for digits of 16 x 16 (1989): fewer connections and shared weights generalise better than free ones.

Digits of MNIST, 13 pixels wide, at one of four horizontal places as in the report: 1000 to train, 1000 to test. The report, on
480 digits drawn with a mouse, has 80.0, 87.0, 88.5, 94.0 and 98.4 % right, from a linear network through a fully and a locally
connected one to convolutions; MNIST's are harder and the differences smaller.
"""

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import nn, optim
from pydl.data import MNIST5k
from pydl.models import LeCun1989

REPORT = (80.0, 87.0, 88.5, 94.0, 98.4)
WHAT = ("linear", "fully connected", "local", "local, first layer shared", "convolutions")


def main() -> None:
    args = options(__doc__, epochs=60, quick_epochs=2, runs={"type": int, "default": 2, "help": "trainings of each (default 2)"})
    train, test = MNIST5k(train=True), MNIST5k(train=False)
    tests = placed(test.data, np.random.default_rng(1)), test.targets
    right = np.zeros((5, 1 if args.quick else args.runs))
    models = [LeCun1989(net) for net in range(1, 6)]
    for i in range(right.shape[1]):
        rng = np.random.default_rng(args.seed + i)
        chosen = rng.permutation(len(train))[: 300 if args.quick else 1000]
        part = placed(train.data[chosen], rng), train.targets[chosen]
        for net in range(1, 6):
            pydl.manual_seed(args.seed + i)
            model = LeCun1989(net)
            right[net - 1, i] = learn(model, part, tests, rng, args.epochs)
        print(f"run {i + 1}: " + ", ".join(f"Net-{n + 1} {r:.1f} %" for n, r in enumerate(right[:, i])))
    mean = right.mean(1)
    parameters = [sum(p.numel() for p in m.parameters()) for m in models]
    draw(models, mean, right, parameters, args)
    finish(args, [
        *(Result(f"Net-{n + 1} ({WHAT[n]}, {parameters[n]} parameters): right, %", mean[n], f"{REPORT[n]} on its digits")
          for n in range(5)),
        Result("Net-5 less the best network without shared weights, %", mean[4] - mean[:3].max(), "above 0",
               mean[4] > mean[:3].max() if not args.quick else None),
    ])  # fmt: skip


def placed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Digits of 28 x 28, less their border, as 16 x 13 at one of four places: (N, 1, 16, 16) from -1 to 1."""
    x = pydl.from_numpy(images.astype(np.float32) / 127.5 - 1)
    digits = pydl.adaptive_avg_pool2d(x[:, :, 3:25, 5:23], (16, 13)).numpy()
    out = np.full((len(digits), 1, 16, 16), -1, np.float32)
    for i, left in enumerate(rng.integers(0, 4, len(digits))):
        out[i, :, :, left : left + 13] = digits[i]
    return out


def learn(model: nn.Module, train, test, rng: np.random.Generator, epochs: int) -> float:
    """Train on all digits in small batches; percent right on those held out."""
    x, y = train
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), 16):
            rows = order[start : start + 16]
            optimizer.zero_grad()
            pydl.cross_entropy(model(pydl.from_numpy(x[rows])), pydl.from_numpy(y[rows])).backward()
            optimizer.step()
    with pydl.no_grad():
        return 100 * float((model(pydl.from_numpy(test[0])).numpy().argmax(1) == test[1]).mean())


def draw(models, mean, right, parameters, args) -> None:
    with picture(args.out / "locality.png", 1, 2, figsize=(9.5, 3.4), sharey=True) as (left, second):
        names = [f"Net-{n + 1}: {w}" for n, w in enumerate(WHAT)]
        bars = left.barh(names, mean, color=["#8a929c", "#d9722e", "#d9722e", "#2f6fb7", "#2f6fb7"])
        left.plot(right.T, np.tile(np.arange(5), (right.shape[1], 1)), "k|", ms=9)
        left.bar_label(bars, fmt="%.1f", padding=6)
        left.set(xlabel="right on held-out digits, %", xlim=(0, 108))
        left.invert_yaxis()
        y = np.arange(5)
        second.barh(y - 0.2, [m.connections() for m in models], height=0.38, color="#c5ccd6", label="connections")
        second.barh(y + 0.2, parameters, height=0.38, color="#3c4856", label="parameters")
        second.legend(frameon=False)
        second.set(xlabel="number")


if __name__ == "__main__":
    main()
