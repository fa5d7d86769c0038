"""Gradient descent seen from above: feature scaling, batch size, momentum, and the Lasso by ISTA and FISTA.

Least squares on two measurements of scikit-learn's diabetes patients: the loss is a bowl whose largest and least curvatures L and
mu are known. With k = L / mu, theory has each step of descent bring the distance to the minimum down by (k - 1) / (k + 1), with
Polyak's momentum (1964) by (sqrt k - 1) / (sqrt k + 1) in the long run, with Nesterov's (2004, section 2.2) by 1 - 1 / sqrt k.
With batches of n at a constant rate the weights end up straying around it by an amount that falls as 1 / sqrt n (Mandt et al.
2017). The Lasso is that of Efron et al. (2004), on ten measurements, their squares and products, 64 columns in all; F - F* falls
at least as 1 / k with ISTA and as 1 / k^2 with FISTA (Beck and Teboulle 2009). An epoch here is 442 patients drawn.
"""

from itertools import combinations

import numpy as np
from common import Result, finish, options, picture
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso

import pydl
from pydl import nn, optim
from pydl.data import Standardizer

BATCHES = {1: "#d9722e", 16: "#3b9151", 442: "#2f6fb7"}
COLOURS = {"descent": "#2f6fb7", "momentum": "#d9722e", "Nesterov": "#3b9151"}
ALPHA = 0.01


def main() -> None:
    args = options(__doc__, epochs=100, quick_epochs=15)
    data = load_diabetes(scaled=False)
    y = Standardizer().fit_transform(data.target)
    column = {name: data.data[:, i] for i, name in enumerate(data.feature_names)}
    pair = np.stack([column["bmi"], column["bp"]], 1)
    alike = Standardizer().fit_transform(np.stack([column["s1"], column["s2"]], 1))  # two cholesterols, correlation 0.9
    raw, scaled = pair - pair.mean(0), Standardizer().fit_transform(pair)

    scaling = {"in their own units": slope(raw, y), "standardised": slope(scaled, y)}
    batches = {n: descend(scaled, y, (-0.6, 0.9), max(args.epochs * (442 // n), 2_000), 0.02, batch=n) for n in BATCHES}
    straying = {n: stray(path, minimum(scaled, y)) for n, path in batches.items()}
    steps, best, k = 60, *curvatures(alike)
    rates = {
        "descent": (2 / (best[0] + best[1]), 0.0), "momentum": (4 / (best[0] ** 0.5 + best[1] ** 0.5) ** 2, momentum(k) ** 2),
        "Nesterov": (1 / best[0], momentum(k)),
    }  # fmt: skip
    paths = {name: descend(alike, y, (-2.2, -1.0), steps, rate, beta, name == "Nesterov") for name, (rate, beta) in rates.items()}
    theory = {"descent": (k - 1) / (k + 1), "momentum": momentum(k), "Nesterov": 1 - 1 / k**0.5}
    distances = {name: np.linalg.norm(path - minimum(alike, y), axis=1) for name, path in paths.items()}
    factors = {name: (d[40] / d[10]) ** (1 / 30) for name, d in distances.items()}
    valley, wall = np.linalg.eigh(alike.T @ alike)[1].T
    start = minimum(alike, y) - 2.5 * valley + 0.7 * wall
    ways = {name: descend(alike, y, start, 50, 0.5 / best[0], beta and 0.8, name == "Nesterov")
            for name, (_, beta) in rates.items()}  # fmt: skip
    lasso = solve_lasso(data.data, y, 300 if args.quick else 3_000)

    with picture(args.out / "descent.png", 2, 3, figsize=(14, 8.4)) as axes:
        for axis, (name, (path, x)) in zip(axes[0], scaling.items(), strict=False):
            bowl(axis, x, y, {"": (path, "#b5403f")}, f"features {name}: {len(path) - 1} steps", equal=True)
        some = {f"batches of {n}" if n < 442 else "all 442": (path[:500], BATCHES[n]) for n, path in batches.items()}
        bowl(axes[0, 2], scaled, y, some, "batch size: 500 steps at one rate", marker="")
        for axis in axes[0]:
            axis.set(xlabel="weight of the body-mass index", ylabel="weight of the blood pressure")
        some = {name: (path, COLOURS[name]) for name, path in ways.items()}
        bowl(axes[1, 0], alike, y, some, "50 steps at one rate, momentum 0.8")
        axes[1, 0].set(xlabel="weight of all cholesterol", ylabel="weight of LDL cholesterol")
        for name, d in distances.items():
            axes[1, 1].semilogy(d, color=COLOURS[name], label=name)
            axes[1, 1].semilogy(d[0] * theory[name] ** np.arange(steps + 1), ":", color=COLOURS[name])
        axes[1, 1].set(xlabel="step", ylabel="distance to the minimum", ylim=(1e-9, 20))
        axes[1, 1].set_title("each at its best rate; dotted: theory")
        axes[1, 1].legend(frameon=False)
        draw_lasso(axes[1, 2], lasso)
    pace = lasso["steps to 1e-4"]
    finish(args, [
        *(Result(f"features {name}: steps to 1 % of the distance", len(path) - 1, f"at most {needed(x):.0f}",
                 len(path) - 1 <= needed(x)) for name, (path, x) in scaling.items()),
        *(Result(f"{name}: factor of a step", factors[name], f"{theory[name]:.3f}", abs(factors[name] - theory[name]) < 0.04)
          for name in factors),
        Result("straying, batches of 1 / of 16", straying[1] / straying[16], "4 = sqrt 16, 3.2 to 5",
               None if args.quick else 3.2 < straying[1] / straying[16] < 5),
        Result("straying of all 442 at once", straying[442], "0", straying[442] < 1e-4),
        Result("ISTA: largest (F - F*) / bound", lasso["ISTA"][1], "at most 1", lasso["ISTA"][1] <= 1),
        Result("FISTA: largest (F - F*) / bound", lasso["FISTA"][1], "at most 1", lasso["FISTA"][1] <= 1),
        Result("steps to F - F* = 1e-4, ISTA / FISTA", pace[0] / pace[1], "above 1", pace[0] > pace[1]),
        Result("FISTA: largest difference to scikit-learn's weights", lasso["apart"], "below 1e-3",
               None if args.quick else lasso["apart"] < 1e-3),
        Result("weights that are not 0, of 64", lasso["kept"], f"{lasso['expected']} of scikit-learn",
               None if args.quick else lasso["kept"] == lasso["expected"]),
    ])  # fmt: skip


def descend(x, y, start, steps: int, rate: float, beta: float = 0.0, nesterov: bool = False, batch: int = 0) -> np.ndarray:
    """The weights after each step on |xw - y|^2 / 2n, of all patients or of batches drawn with replacement: (steps + 1, 2)."""
    rng = np.random.default_rng(0)
    w = nn.Parameter(np.array(start, np.float64))
    optimizer = optim.SGD([w], lr=rate, momentum=beta, nesterov=nesterov)
    inputs, targets = pydl.from_numpy(x), pydl.from_numpy(y)
    path = [w.detach().numpy().copy()]
    for _ in range(steps):
        if batch and batch < len(x):
            chosen = rng.integers(len(x), size=batch)
            inputs, targets = pydl.from_numpy(x[chosen]), pydl.from_numpy(y[chosen])
        optimizer.zero_grad()
        (((inputs @ w - targets) ** 2).mean() / 2).backward()
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def minimum(x, y) -> np.ndarray:
    return np.linalg.lstsq(x, y, rcond=None)[0]


def curvatures(x) -> tuple[tuple[float, float], float]:
    """(L, mu), the largest and the least curvature of the bowl, and L / mu."""
    low, *_, high = np.linalg.eigvalsh(x.T @ x / len(x))
    return (float(high), float(low)), float(high / low)


def momentum(k: float) -> float:
    return (k**0.5 - 1) / (k**0.5 + 1)


def slope(x, y) -> tuple[np.ndarray, np.ndarray]:
    """The path of descent at its best rate until 1 % of the distance is left, and x."""
    (high, low), _ = curvatures(x)
    end, size = minimum(x, y), 1 / np.sqrt(np.diag(x.T @ x / len(x)))  # as far in both, in units of the standardised ones
    start = end + size * np.array([-1.0, 0.5])
    path = descend(x, y, start, 200, 2 / (high + low))
    left = np.linalg.norm((path - end) / size, axis=1)
    return path[: np.argmax(left < 0.01 * left[0]) + 1], x


def needed(x) -> float:
    """Steps to 1 % at the best rate; the distances count in standardised units, which may stretch them by the units' ratio."""
    sizes, (_, k) = np.sqrt(np.diag(x.T @ x)), curvatures(x)
    return np.ceil(np.log(100 * sizes.max() / sizes.min()) / np.log((k + 1) / (k - 1)))


def stray(path: np.ndarray, end: np.ndarray) -> float:
    """The root of the mean squared distance to the minimum in the second half."""
    return float(np.sqrt(((path[len(path) // 2 :] - end) ** 2).sum(1).mean()))


def solve_lasso(x, y, steps: int) -> dict:
    """ISTA and FISTA on |xw - y|^2 / 2n + alpha |w|_1: gaps to scikit-learn's minimum, and the bounds."""
    scale = Standardizer()
    z = scale.fit_transform(x)
    squares = [z[:, i] ** 2 for i in range(10) if i != 1]  # the square of sex says nothing new
    z = Standardizer().fit_transform(np.column_stack([z, *squares, *(z[:, i] * z[:, j] for i, j in combinations(range(10), 2))]))
    expected = Lasso(ALPHA, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(z, y).coef_
    a, b, n = pydl.from_numpy(z), pydl.from_numpy(y), len(y)
    high, start = float(np.linalg.eigvalsh(z.T @ z / n)[-1]), pydl.from_numpy(np.zeros(z.shape[1]))
    least = ((z @ expected - y) ** 2).sum() / (2 * n) + ALPHA * np.abs(expected).sum()
    count, distance = np.arange(1, steps + 1), high * (expected**2).sum()
    out = {}
    bounds = {"ISTA": distance / (2 * count), "FISTA": 2 * distance / (count + 1) ** 2}
    for (name, bound), method in zip(bounds.items(), (optim.ista, optim.fista), strict=True):
        w, values = method(lambda v: ((a @ v - b) ** 2).sum() / (2 * n), start, 1 / high, ALPHA, steps)
        gap = np.array(values[1:]) - least
        out[name] = gap, float((gap / bound).max()), bound
    out["steps to 1e-4"] = [int(np.argmax(out[name][0] < 1e-4)) + 1 for name in ("ISTA", "FISTA")]
    return out | {"apart": float(np.abs(w.numpy() - expected).max()), "kept": int((w.numpy() != 0).sum()),
                  "expected": int((expected != 0).sum())}  # fmt: skip


def draw_lasso(axis, lasso: dict) -> None:
    for name, colour, rate in (("ISTA", "#2f6fb7", "1 / k"), ("FISTA", "#d9722e", "1 / k²")):
        gap, _, bound = lasso[name]
        count = np.arange(1, len(gap) + 1)
        axis.loglog(count, np.maximum(gap, 1e-13), color=colour, label=name)
        axis.loglog(count, bound, ":", color=colour, label=f"bound {rate}")
    axis.set(xlabel="step k", ylabel="F − F*", title=f"Lasso: {lasso['kept']} of 64 weights are not 0", ylim=(1e-12, None))
    axis.legend(frameon=False, loc="lower left")


def bowl(axis, x, y, paths: dict, title: str, equal: bool = False, marker: str = ".") -> None:
    """Contours of the loss in the plane of both weights, with the ways down."""
    end = minimum(x, y)
    points = np.concatenate([path for path, _ in paths.values()])
    reach = 1.15 * np.abs(points - end).max(0)
    reach = np.full(2, reach.max()) if equal else reach
    u, v = (np.linspace(e - r, e + r, 160) for e, r in zip(end, reach, strict=True))
    w = np.stack(np.meshgrid(u, v), -1) - end
    height = np.einsum("...i,ij,...j", w, x.T @ x / len(x), w) / 2
    axis.contourf(u, v, height, levels=height.max() * np.linspace(0, 1, 13) ** 2, cmap="Blues", alpha=0.55)
    for label, (path, colour) in paths.items():
        axis.plot(*path.T, marker=marker, ms=4, lw=1, color=colour, label=label)
    axis.plot(*end, "k*", ms=9)
    axis.set(title=title)
    if any(paths):
        axis.legend(frameon=True, framealpha=0.8, edgecolor="none", fontsize=8)


if __name__ == "__main__":
    main()
