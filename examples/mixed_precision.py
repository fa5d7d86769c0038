"""Mixed precision: three networks learn as well from products in bfloat16 as from products in float32.

A bfloat16 is the upper half of a float32: 8 significant bits instead of 24, but the same exponents. Inside of
`pydl.autocast("bfloat16")` both factors of a matrix product are rounded to it, and the products are summed in float32. Weights,
gradients and the optimizer's state stay float32 (master weights: in 8 bits a step of a thousandth of a weight is lost). Float16,
with 5 bits of exponent, also needs its loss scaled up, so that small gradients do not become 0 (Micikevicius et al. 2018,
arXiv:1710.03740); bfloat16 reaches as far down as float32, so nothing is scaled.

A residual network on Fashion-MNIST at 14 x 14 (all convolutions but the first, of one channel, are wide enough for bfloat16), an
LSTM and a Transformer that read Shakespeare by the character: each in both precisions, from the same seeds, at the same learning
rates. Documented (Kalamkar et al. 2019, arXiv:1905.12322): what float32 reaches, in as many steps. Here that holds if bfloat16
loses, seed against the same seed, in the mean of three no more than twice the deviation among seeds (of both precisions, pooled).
Without any difference one comparison in 28 would fail by chance, and fewer where runs from one seed stay alike; with the range of
three float32 seeds for a yardstick one in 7 would. Either finds a loss of three deviations in 17 of 20 trials; to see a smaller
one takes more seeds. The seconds are no part of the verdict.

Measured (seeds 0 to 2, ten minutes of one core), float32 and bfloat16, mean and deviation: ResNet 86.96 and 86.98 % (0.19, 0.18);
LSTM 2.804 and 2.804 bits per character (0.015, 0.016); Transformer 3.170 and 3.176 (0.016, 0.024). Runs from one seed ended at
most 0.03 %, 0.001 and 0.018 bits apart: ResNets and LSTMs much nearer to each other than seeds are, Transformers not. The fastest
epochs on a busy machine: ResNet 13.2 and 10.5 s, LSTM 1.9 and 1.3 s, Transformer 2.3 and 1.7 s.
"""

import time

import numpy as np
from common import DATA, Result, Standardise, finish, fit, options, picture, small_images

import pydl
from pydl import nn
from pydl.data import DataLoader, Shakespeare
from pydl.metrics import Accuracy
from pydl.models import RNNLanguageModel, TransformerLanguageModel
from pydl.models.resnet import BasicBlock, ResNet
from pydl.optim import AdamW
from pydl.optim.lr_scheduler import WarmupCosine
from pydl.text import BitsPerToken, BPTTBatches, CharTokenizer, LanguageModelTrainer
from pydl.train import Callback, Trainer

COLOURS = {"float32": "#2f6fb7", "bfloat16": "#d9722e"}
UNITS = {"ResNet": "right, %", "LSTM": "bits per character", "Transformer": "bits per character"}


class Seconds(Callback):
    """Notes how long the steps of each epoch took, validation apart."""

    def on_epoch_start(self, trainer):
        self.started = self.ended = time.perf_counter()

    def on_step_end(self, trainer, loss):
        self.ended = time.perf_counter()

    def on_epoch_end(self, trainer, row):
        row["seconds"] = self.ended - self.started


def main() -> None:
    args = options(__doc__, epochs=5, quick_epochs=2, **DATA)
    try:
        pydl.autocast("bfloat16")
    except pydl.errors.ArgumentError as error:  # this CPU cannot
        raise SystemExit(f"nothing to compare: {error}") from None
    images = small_images(args.data, *((320, 200) if args.quick else (10_000, 4_000)), args.download)
    plays = Shakespeare(download=args.download, names=["hamlet", "twelfth_night", "macbeth"] if args.quick else None)
    train, held_out, _ = plays.split()
    tokenizer = CharTokenizer.train([train], specials=("<unk>",))
    text = tokenizer.encode(train), tokenizer.encode(held_out[: 4_000 if args.quick else 40_000]), len(tokenizer)
    curves: dict[str, dict[str, np.ndarray]] = {}  # (seeds, epochs)
    results = []
    for name, unit in UNITS.items():
        runs: dict[str, list] = {precision: [] for precision in COLOURS}  # a list of what `run` returns
        for seed in range(args.seed, args.seed + (2 if args.quick else 3)):
            for precision, done in runs.items():  # in turns, so that both meet the same load of the machine
                print(f"{name}, {precision}, seed {seed}")
                done.append(run(name, precision, seed, images if name == "ResNet" else text, args))
        curves[name] = {precision: np.array([values for values, _ in done]) for precision, done in runs.items()}
        high, low = (curves[name][precision][:, -1] for precision in COLOURS)
        loss = (high - low if name == "ResNet" else low - high).mean()
        bound = 2 * np.sqrt((high.var(ddof=1) + low.var(ddof=1)) / 2)
        results += [
            Result(f"{name}, float32: {unit}", high.mean(), ""),
            Result(f"{name}, bfloat16: {unit}", low.mean(), f"{high.mean():.4g}"),
            Result(f"{name}: bfloat16 loses", loss, f"at most {bound:.2g}, 2 deviations", None if args.quick else loss <= bound),
        ]
        for precision, done in runs.items():
            results.append(Result(f"{name}, {precision}: seconds, fastest epoch", np.min([seconds for _, seconds in done]), ""))
    draw(curves, args)
    finish(args, results)


def run(name: str, precision: str, seed: int, data, args) -> tuple[list[float], list[float]]:
    """Train one network: the figure on held-out data after each epoch, and the seconds of its steps."""
    pydl.manual_seed(seed)
    common = {"grad_clip": 1.0, "seed": seed, "scheduler_per_step": True, "callbacks": [Seconds()], "plot": False,
              "out": args.out / name.lower() / f"{precision}-{seed}"}  # fmt: skip
    if name == "ResNet":
        images, held_out, source = data
        network = ResNet(BasicBlock, (1, 1), len(source.classes), source.data.shape[1], 64 if args.quick else 96, small_stem=True)
        model, metric = nn.Sequential(Standardise(source.data), nn.AvgPool2d(2), network), "accuracy"
        train, held_out = DataLoader(images, batch_size=64, shuffle=True), DataLoader(held_out, batch_size=500)
    else:
        if name == "LSTM":
            model = RNNLanguageModel(data[2], 64, 64 if args.quick else 256, cell="lstm")
        else:
            model = TransformerLanguageModel(data[2], *((32, 2, 1) if args.quick else (96, 4, 3)), max_len=64, dropout=0.0)
        metric = "bits"  # an epoch is some 120,000 characters, always new ones
        train, held_out = BPTTBatches(data[0], 16, 64, pieces=24 if args.quick else 40), BPTTBatches(data[1], 16, 64)
    optimizer = AdamW(model.parameters(), lr=2e-3 if name == "ResNet" else 3e-3, weight_decay=1e-2)
    steps = args.epochs * len(train)
    schedule = WarmupCosine(optimizer, steps // 20 + 1, steps)
    if name == "ResNet":
        trainer = Trainer(model, optimizer, pydl.cross_entropy, {metric: Accuracy()}, schedule, **common)
    else:
        carry = name == "LSTM"
        trainer = LanguageModelTrainer(model, optimizer, {metric: BitsPerToken()}, carry=carry, scheduler=schedule, **common)
    with pydl.autocast("bfloat16", enabled=precision == "bfloat16"):  # validation too
        history = fit(trainer, train, held_out, args)
    return [(100 if name == "ResNet" else 1) * v for v in history[f"valid_{metric}"]], history["seconds"]


def draw(curves: dict[str, dict[str, np.ndarray]], args) -> None:
    """Above: mean and range of the seeds while training; below: where each seed ends in either precision."""
    with picture(args.out / "mixed_precision.png", 2, 3, figsize=(11, 6), height_ratios=[3, 2]) as axes:
        for (above, below), (name, both) in zip(axes.T, curves.items(), strict=True):
            epochs = np.arange(1, args.epochs + 1)
            for (precision, values), line in zip(both.items(), ("o-", "s--"), strict=True):
                colour = COLOURS[precision]
                above.plot(epochs, values.mean(0), line, color=colour, markersize=4, label=precision)
                above.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)
            above.set(title=name, xlabel="epoch", ylabel=f"{UNITS[name]} (held out)")
            ends = np.array([values[:, -1] for values in both.values()])
            below.plot([0, 1], ends, color="grey", linewidth=1)
            for i, colour in enumerate(COLOURS.values()):
                below.plot(np.full(ends.shape[1], i), ends[i], "o", color=colour)
                below.plot([i - 0.12, i + 0.12], [ends[i].mean()] * 2, color=colour, linewidth=3)
            below.set(xlim=(-0.5, 1.5), xticks=[0, 1], xticklabels=list(COLOURS), ylabel=UNITS[name])
            below.margins(y=0.2)
        axes[0, 0].legend(frameon=False)
        axes[1, 1].set_title("at the end, seed by seed; bars: means", fontsize=10)


if __name__ == "__main__":
    main()
