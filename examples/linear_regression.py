"""Linear regression on the diabetes data: gradient descent against the normal equations, with and without scaling.

1. The normal equations X^T X w = X^T y give the exact minimum; gradient descent must arrive at it.
2. Its speed depends on the condition number of the features: standardising them (by the training set's mean and deviation)
   turns thousands of steps into dozens.
3. Polynomial features of the body-mass index, fitted to only 30 patients, show over-fitting: the training error always
   falls with the degree, the error on held-out patients does not.

Data: 442 patients, ten measurements, disease progression after a year (Efron et al. 2004), shipped with scikit-learn.
"""

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, TensorDataset
from pydl.train import Trainer


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training x, training y, held-out x, held-out y) with a quarter held out; x in the original units."""
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        raise SystemExit("the diabetes data come with scikit-learn: pip install 'pydl[examples]'") from None
    x, y = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[len(x) // 4 :], order[: len(x) // 4]
    return x[train], y[train], x[test], y[test]


def scaler(x: np.ndarray):
    """Standardisation fitted on the training set alone; the same numbers then transform any other set."""
    mean, deviation = x.mean(0), x.std(0)
    return lambda a: (a - mean) / deviation


def normal_equations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weights, and the bias as the last one."""
    design = np.column_stack([x, np.ones(len(x))])
    return np.linalg.lstsq(design, y, rcond=None)[0]


def predict(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x @ weights[:-1] + weights[-1]


def gradient_descent(name: str, x: np.ndarray, y: np.ndarray, args) -> tuple[np.ndarray, list[float]]:
    """Full-batch descent on the mean squared error; returns (weights, the loss of each epoch).

    The rate is 1 / L with L the largest eigenvalue of the Hessian 2/n X^T X: the largest step that is sure to converge.
    """
    design = np.column_stack([x, np.ones(len(x))])
    rate = 1 / np.linalg.eigvalsh(2 / len(x) * design.T @ design).max()
    model = nn.Linear(x.shape[1], 1).double()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    data = DataLoader(TensorDataset(x, y[:, None]), batch_size=len(x))
    trainer = Trainer(
        model, optim.SGD(model.parameters(), lr=rate), pydl.mse_loss, out=args.out / name, seed=args.seed, progress=False,
        plot=False, checkpoint_epochs=500,
    )
    history = fit(trainer, data, None, args)
    weights = np.append(model.weight.detach().numpy()[0], model.bias.detach().numpy())
    return weights, history["train_loss"]


def polynomial_errors(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, degrees: range):
    """Root-mean-square error on (training, held-out) data for polynomials of the scaled body-mass index."""
    scale = scaler(x[:, 2:3])
    for degree in degrees:
        powers = [scale(part[:, 2:3]) ** np.arange(1, degree + 1) for part in (x, x_test)]
        weights = normal_equations(powers[0], y)
        yield tuple(np.sqrt(np.mean((predict(weights, p) - t) ** 2)) for p, t in zip(powers, (y, y_test), strict=True))


def main() -> None:
    args = options(__doc__, epochs=2000, quick_epochs=300)
    x, y, x_test, y_test = load(args.seed)
    scale = scaler(x)
    exact = normal_equations(scale(x), y)
    floor = np.mean((predict(exact, scale(x)) - y) ** 2)
    scaled, scaled_losses = gradient_descent("scaled", scale(x), y, args)
    _, raw_losses = gradient_descent("raw", x, y, args)
    within = [next((i + 1 for i, v in enumerate(losses) if v < 1.1 * floor), None) for losses in (scaled_losses, raw_losses)]
    print(f"epochs until the loss is within 10 % of its minimum: {within[0]} scaled, {within[1] or 'not reached'} unscaled")

    degrees = range(1, 11)
    errors = list(polynomial_errors(x[:30], y[:30], x_test, y_test, degrees))
    with picture(args.out / "linear_regression.png", 1, 2, figsize=(11, 4)) as (left, right):
        left.loglog(scaled_losses, label="standardised features")
        left.loglog(raw_losses, label="features in their own units")
        left.axhline(floor, color="black", linestyle=":", label="normal equations")
        left.set(xlabel="epoch", ylabel="mean squared error", title="gradient descent")
        left.legend()
        right.plot(degrees, [e[0] for e in errors], marker="o", label="training")
        right.plot(degrees, [e[1] for e in errors], marker="o", label="held-out")
        right.set(xlabel="degree of the polynomial in body-mass index", ylabel="RMS error", title="under- and over-fitting")
        right.set_ylim(0, 3 * errors[0][1])
        right.legend()
    difference = float(np.abs(predict(scaled, scale(x)) - predict(exact, scale(x))).max())
    variance = np.mean((y_test - y_test.mean()) ** 2)
    r2 = float(1 - np.mean((predict(scaled, scale(x_test)) - y_test) ** 2) / variance)
    training, held_out = zip(*errors, strict=True)
    finish(args, [
        Result("largest difference of predictions to the normal equations", difference, "below 1 of 25 to 346",
               None if args.quick else difference < 1),
        Result("epochs to within 10 % of the minimum, standardised", within[0] or args.epochs, "dozens", within[0] is not None),
        Result("loss after all epochs / minimum, unscaled", raw_losses[-1] / floor, "above 1.1", raw_losses[-1] / floor > 1.1),
        Result("R2 on held-out patients", r2, "about 0.3 to 0.6 (scikit-learn's own split: 0.48)", 0.3 < r2 < 0.6),
        Result("training error, degree 10 / degree 1", training[-1] / training[0], "below 1", training[-1] < training[0]),
        Result("held-out error, degree 10 / best degree", held_out[-1] / min(held_out), "above 1", held_out[-1] > min(held_out)),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
