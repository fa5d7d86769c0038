"""Logistic regression on iris flowers: a straight boundary, and a curved one from polynomial features.

Virginica against the rest by petal length and width. The model is sigmoid(w . x + b), trained on the cross-entropy
-t log p - (1 - t) log(1 - p) plus an L2 penalty; this loss is convex, so gradient descent must arrive at the same weights
as any other solver: scikit-learn's is the check.

Data: 150 flowers (Fisher 1936), shipped with scikit-learn.
"""

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, TensorDataset
from pydl.train import Trainer

PENALTY = 0.01  # lambda of lambda / 2 |w|^2, beside the mean cross-entropy


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training x, training t, held-out x, held-out t), a third held out; x is petal length and width in cm."""
    try:
        from sklearn.datasets import load_iris
    except ImportError:
        raise SystemExit("the iris data come with scikit-learn: pip install 'pydl[examples]'") from None
    x, species = load_iris(return_X_y=True)
    x, t = x[:, 2:], (species == 2).astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[50:], order[:50]
    return x[train], t[train], x[test], t[test]


def features(degree: int, x_train: np.ndarray):
    """All products of powers up to `degree`, standardised by the training set."""

    def powers(x: np.ndarray) -> np.ndarray:
        return np.column_stack([x[:, 0] ** i * x[:, 1] ** j for i in range(degree + 1) for j in range(degree + 1 - i) if i + j])

    mean, deviation = powers(x_train).mean(0), powers(x_train).std(0)
    return lambda x: (powers(x) - mean) / deviation


def train(name: str, x: np.ndarray, t: np.ndarray, args) -> nn.Module:
    """Full-batch descent with momentum; weight decay is the penalty's gradient (the bias is left free)."""
    model = nn.Linear(x.shape[1], 1).double()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    groups = [{"params": [model.weight], "weight_decay": PENALTY}, {"params": [model.bias]}]
    optimizer = optim.SGD(groups, lr=0.5, momentum=0.9)
    data = DataLoader(TensorDataset(x, t[:, None]), batch_size=len(x))
    trainer = Trainer(
        model, optimizer, pydl.binary_cross_entropy_with_logits, out=args.out / name, seed=args.seed, progress=False,
        plot=False, checkpoint_epochs=500,
    )
    fit(trainer, data, None, args)
    return model


def probability(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with pydl.no_grad():
        return pydl.sigmoid(model(pydl.from_numpy(x))).numpy()[:, 0]


def reference(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """scikit-learn's weights and bias; its C multiplies the sum over samples, so C = 1 / (n lambda)."""
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=1 / (len(x) * PENALTY), tol=1e-10, max_iter=10_000).fit(x, t)
    return np.append(solver.coef_[0], solver.intercept_)


def main() -> None:
    args = options(__doc__, epochs=1000, quick_epochs=1000)
    x, t, x_test, t_test = load(args.seed)
    results, panels = [], []
    for name, degree in (("linear", 1), ("cubic", 3)):
        transform = features(degree, x)
        model = train(name, transform(x), t, args)
        right = float(np.mean((probability(model, transform(x_test)) > 0.5) == t_test))
        panels.append((f"{name}: {100 * right:.0f} % right", lambda a, m=model, f=transform: probability(m, f(a))))
        weights = np.append(model.weight.detach().numpy()[0], model.bias.detach().numpy())
        distance = float(np.abs(weights - reference(transform(x), t)).max())
        results += [
            Result(f"{name}: largest difference to scikit-learn's weights", distance, "0 (below 0.001)", distance < 1e-3),
            Result(f"{name}: right on held-out flowers, %", 100 * right, "about 94 or more", right >= 0.92),
        ]

    length, width = np.meshgrid(np.linspace(0.8, 7.2, 200), np.linspace(0, 2.7, 200))
    plane = np.column_stack([length.ravel(), width.ravel()])
    with picture(args.out / "boundary.png", 1, 2, figsize=(11, 4.2)) as axes:
        for axis, (title, p) in zip(axes, panels, strict=True):
            shown = axis.contourf(length, width, p(plane).reshape(length.shape), levels=np.linspace(0, 1, 11), cmap="RdBu_r")
            axis.contour(length, width, p(plane).reshape(length.shape), levels=[0.5], colors="black")
            for marker, (points, classes) in (("o", (x, t)), ("s", (x_test, t_test))):
                axis.scatter(*points.T, c=classes, cmap="RdBu_r", edgecolors="black", marker=marker, s=30)
            axis.set(title=title, xlabel="petal length, cm", ylabel="petal width, cm")
        axes[0].figure.colorbar(shown, ax=axes, label="probability of virginica (squares: held-out)")
    finish(args, results)


if __name__ == "__main__":
    main()
