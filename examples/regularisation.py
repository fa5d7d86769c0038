"""Regularisation on few digits: L2, dropout, early stopping, and averages of predictions and of weights (SWA, EMA).

A multilayer perceptron learns 250 digits of 8 x 8 pixels (scikit-learn's), far fewer than its weights. Two statements are checked
as numbers: a step of SGD with weight decay lambda at rate alpha shrinks weights by 1 - alpha * lambda, and the mean of dropout
over masks is its input (Srivastava et al. 2014). Then each method trains from the same five initial weights, with the learning
rate and the strength that have the least loss on 500 other digits; the test set only gives the figures below. Documented: an
ensemble of networks is better than its members (Hansen and Salamon 1990), an average of weights better than the last ones
(Izmailov et al. 2018). Judged by the loss: the standard error of an error of 12 % in 360 digits is 1.7 %.
"""

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, Digits8x8, Standardizer, TensorDataset
from pydl.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn
from pydl.train import EarlyStopping, average_predictions, grid_search

RATES = (0.01, 0.02, 0.05)
GRIDS = {
    "none": {"rate": RATES}, "L2": {"rate": RATES, "weight_decay": (0.003, 0.01)},
    "dropout": {"rate": RATES, "dropout": (0.2, 0.5)},
}  # fmt: skip
SINGLE = ("none", "L2", "dropout", "early stopping", "EMA of weights", "SWA of weights")


def main() -> None:
    args = options(__doc__, epochs=60, quick_epochs=6, runs={"type": int, "default": 5, "help": "networks of each (default 5)"})
    runs = 2 if args.quick else args.runs
    train, dev, test = digits()
    decay, mean = l2_factor(), dropout_mean(args)
    chosen = {name: choose(train, dev, args, 1 if args.quick else 3, grid) for name, grid in GRIDS.items()}
    print(f"chosen on dev: {chosen}")
    errors = {name: [] for name in SINGLE}
    losses = {name: [] for name in SINGLE}
    plain, curves = [], {}
    for run in range(runs):
        models = {}
        last, average, stopped, curves["none"] = learn(train, dev, args, run, **chosen["none"])
        models |= {"none": last, "EMA of weights": average, "early stopping": stopped}
        models["L2"], *_, curves["L2"] = learn(train, dev, args, run, **chosen["L2"])
        models["dropout"], *_, curves["dropout"] = learn(train, dev, args, run, **chosen["dropout"])
        models["SWA of weights"] = learn(train, dev, args, run, **chosen["none"], swa=True)[1]
        plain.append(models["none"])
        for name in SINGLE:
            loss, error = judge([models[name]], test)
            losses[name].append(loss)
            errors[name].append(error)
    ensemble = judge(plain, test)
    means = {name: (np.mean(losses[name]), np.mean(errors[name])) for name in SINGLE} | {"ensemble of predictions": ensemble}
    draw(curves, means, errors, args)
    sure = None if args.quick else True
    none = means["none"]
    finish(args, [
        Result("weights after a step with decay / without gradient: factor", decay[0], "0.95 = 1 - 0.5 * 0.1", decay[1] < 1e-12),
        Result("|mean of dropout over masks - input|, in standard errors", mean, "below 4", mean < 4),
        *(Result(f"{name}: {setting} chosen on dev", value, "") for name, c in chosen.items() for setting, value in c.items()),
        *(Result(f"{name}: held-out error, %", error, "") for name, (_, error) in means.items()),
        *(Result(f"{name}: held-out loss", loss, "below that without" if name != "none" else "", sure and loss < none[0])
          if name != "none" else Result("none: held-out loss", loss, "") for name, (loss, _) in means.items()),
        Result("ensemble less the mean of its members, % wrong", ensemble[1] - none[1], "below 0; 360 digits leave 1.7 open"),
    ])  # fmt: skip


def digits() -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """250 to train, 500 to stop early by, and scikit-learn's last 360, by other hands; scaled by the training set alone."""
    first, last = Digits8x8(train=True), Digits8x8(train=False)
    order = np.random.default_rng(0).permutation(len(first))
    x, y = first.data.reshape(-1, 64).astype(np.float32), first.targets
    scale = Standardizer(axis=(0, 1)).fit(x[order[:250]])
    parts = (x[order[:250]], y[order[:250]]), (x[order[250:750]], y[order[250:750]]), (last.data.reshape(-1, 64), last.targets)
    train, dev, test = (TensorDataset(scale(a.astype(np.float32)), b) for a, b in parts)
    return train, dev, test


def l2_factor() -> tuple[float, float]:
    """The factor of one step of SGD(lr=0.5, weight_decay=0.1), and how far decay is from it under a gradient."""
    start = np.random.default_rng(0).standard_normal(100)
    ends = []
    for gradient, decay in ((0.0, 0.1), (1.0, 0.1), (1.0, 0.0)):
        w = nn.Parameter(start.copy())
        (gradient * (w**3).sum()).backward()
        optim.SGD([w], lr=0.5, weight_decay=decay).step()
        ends.append(w.detach().numpy())
    apart = max(np.abs(ends[0] / start - 0.95).max(), np.abs(ends[1] - ends[2] + 0.05 * start).max())
    return float((ends[0] / start).mean()), float(apart)


def dropout_mean(args) -> float:
    """The largest deviation of the mean over masks from the input, in standard errors of that mean."""
    x, n, p = pydl.linspace(0.5, 2, 16), 2_000 if args.quick else 20_000, 0.5
    mean = pydl.dropout(x.expand(n, 16), p, training=True).numpy().mean(0)
    return float((np.abs(mean - x.numpy()) / (x.numpy() * np.sqrt(p / (1 - p) / n))).max())


def choose(train, dev, args, runs: int, grid: dict) -> dict[str, float]:
    """The rate, and the strength, with which the mean loss on dev after training is least."""

    def several(part, **settings: float) -> list[nn.Module]:
        return [learn(part, dev, args, run, **settings)[0] for run in range(runs)]

    grid = {name: values[-1:] for name, values in grid.items()} if args.quick else grid
    return grid_search(several, grid, train, dev, lambda models, data: np.mean([judge([m], data)[0] for m in models]))[0].options


def learn(train, dev, args, run: int, rate: float, weight_decay: float = 0.0, dropout: float = 0.0, swa: bool = False):
    """(network, average of its weights, network at the least loss on dev, losses on dev after each epoch)."""
    pydl.manual_seed(args.seed + run)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(dropout),
                          nn.Linear(128, 10))  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=weight_decay)
    average = AveragedModel(model, multi_avg_fn=None if swa else get_ema_multi_avg_fn(0.98))
    schedule, start = None, args.epochs // 4
    stopping = EarlyStopping("dev", patience=args.epochs)
    best, curve = AveragedModel(model), []
    for epoch in range(args.epochs):
        model.train()
        if swa and epoch == start:
            schedule = SWALR(optimizer, rate / 2, anneal_epochs=3)
        for x, y in DataLoader(train, batch_size=25, shuffle=True, seed=args.seed + 100 * run + epoch):
            optimizer.zero_grad()
            pydl.cross_entropy(model(x), y).backward()
            optimizer.step()
            if not swa:
                average.update_parameters(model)
        if swa and epoch >= start:
            average.update_parameters(model)
        if schedule is not None:
            schedule.step()
        curve.append(judge([model], dev)[0])
        if stopping.update({"dev": curve[-1], "epoch": epoch}):
            best.module.load_state_dict(model.state_dict())
    return model, average.module, best.module, curve


def judge(models, data: TensorDataset) -> tuple[float, float]:
    """Mean of -log p(right class), and % wrong, of the averaged predictions of the models."""
    x, y = data.arrays
    p = average_predictions(models, pydl.from_numpy(x)).numpy()
    return float(-np.log(p[np.arange(len(y)), y] + 1e-12).mean()), 100 * float((p.argmax(1) != y).mean())


def draw(curves, means, errors, args) -> None:
    with picture(args.out / "regularisation.png", 1, 3, figsize=(13, 3.8)) as (left, middle, right):
        for (name, curve), colour in zip(curves.items(), ("#3c4856", "#2f6fb7", "#d9722e"), strict=True):
            left.plot(range(1, len(curve) + 1), curve, color=colour, label=name)
        stop = int(np.argmin(curves["none"]))
        left.plot(stop + 1, curves["none"][stop], "o", color="#b5403f", label="early stopping")
        least = min(map(min, curves.values()))
        left.set(xlabel="epoch", ylabel="loss on held-out digits", title="One training of each", ylim=(0.9 * least, 2 * least))
        left.legend(frameon=False)
        names = list(means)
        colours = ["#8a929c"] + ["#2f6fb7"] * 3 + ["#3b9151"] * 2 + ["#d9722e"]
        for axis, which, title in ((middle, 0, "test loss"), (right, 1, "test error, %")):
            bars = axis.barh(names, [means[n][which] for n in names], color=colours)
            axis.bar_label(bars, fmt="%.3f" if which == 0 else "%.1f", padding=8 if which == 0 else 26)
            longest = max(max(means[n][which] for n in names), max(map(max, errors.values())) * which)
            axis.set(title=title, xlim=(0, 1.35 * longest))
            axis.invert_yaxis()
        for i, name in enumerate(SINGLE):
            right.plot(errors[name], [i] * len(errors[name]), "k|", ms=7)
        right.set_yticks([])


if __name__ == "__main__":
    main()
