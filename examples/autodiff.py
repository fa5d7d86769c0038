"""Automatic differentiation: a computation graph, its gradients, second derivatives, and a walk downhill.

1. J = 3 (a + b c): backward walks the graph from J to the leaves and multiplies derivatives (chain rule). At a = 5, b = 3,
   c = 2 it must give dJ/da = 3, dJ/db = 3 c = 6, dJ/dc = 3 b = 9.
2. Central differences (f(x + h) - f(x - h)) / 2h confirm gradients of any function; `pydl.autograd.gradcheck` does that.
3. Gradients are tensors with a graph of their own: d/dx and d2/dx2 of x^4 / 4 are x^3 and 3 x^2.
4. Gradient descent, with and without momentum, on Rosenbrock's valley (1 - x)^2 + 100 (y - x^2)^2, minimum at (1, 1).
"""

from collections.abc import Callable

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import optim
from pydl.viz import graph


def chain_rule(args) -> list[Result]:
    a, b, c = (pydl.tensor(v, requires_grad=True) for v in (5.0, 3.0, 2.0))
    j = 3 * (a + b * c)
    j.backward()
    print(f"J = 3(a + bc) = {j.item():g} at a = 5, b = 3, c = 2")
    drawing = graph(j, params={"a": a, "b": b, "c": c})
    print(f"picture: {drawing.save(args.out / 'graph.svg')}")
    expected = {"a": (a, 3.0), "b": (b, 6.0), "c": (c, 9.0)}
    return [Result(f"dJ/d{name}", t.grad.item(), f"{g:g}", t.grad.item() == g) for name, (t, g) in expected.items()]


def numerical_check() -> Result:
    """The largest difference between backward and central differences, for a function with many kinds of operations."""

    def f(x: pydl.Tensor) -> pydl.Tensor:
        return (pydl.sigmoid(x @ x.t()) * pydl.exp(-(x**2).sum(1))).sum()

    x = pydl.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    f(x).backward()
    h, worst = 1e-6, 0.0
    for i in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[i] = h
        with pydl.no_grad():
            difference = (f(x + pydl.from_numpy(step)) - f(x - pydl.from_numpy(step))).item() / (2 * h)
        worst = max(worst, abs(difference - x.grad[i].item()))
    return Result("largest difference to central differences", worst, "rounding: below 1e-8", worst < 1e-8)


def second_derivative() -> list[Result]:
    x = pydl.tensor(3.0, requires_grad=True)
    (first,) = pydl.autograd.grad(x**4 / 4, x, create_graph=True)
    (second,) = pydl.autograd.grad(first, x)
    return [
        Result("d/dx x^4 / 4 at 3", first.item(), "27", first.item() == 27),
        Result("d2/dx2 x^4 / 4 at 3", second.item(), "27", second.item() == 27),
    ]


def rosenbrock(p: pydl.Tensor) -> pydl.Tensor:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def descend(make_optimizer: Callable[[list], optim.Optimizer], steps: int, file, resume: bool) -> np.ndarray:
    """The path of the point; saved at the end, so that --resume with more --epochs walks on."""
    point = pydl.tensor([-1.2, 1.0], dtype=pydl.float64, requires_grad=True)
    optimizer = make_optimizer([point])
    path = [point.tolist()]
    if resume and file.exists():
        saved = pydl.load(file)
        path = saved["path"].tolist()
        optimizer.load_state_dict(saved["optimizer"])
        with pydl.no_grad():
            point.copy_(pydl.tensor(path[-1], dtype=pydl.float64))
    while len(path) <= steps:
        optimizer.zero_grad()
        rosenbrock(point).backward()
        optimizer.step()
        path.append(point.tolist())
    pydl.save({"path": np.array(path), "optimizer": optimizer.state_dict()}, file)
    return np.array(path)


def main() -> None:
    args = options(__doc__, epochs=3000, quick_epochs=3000)
    results = [*chain_rule(args), numerical_check(), *second_derivative()]
    optimizers = {
        "gradient descent": lambda p: optim.SGD(p, lr=1e-3),
        "momentum 0.9": lambda p: optim.SGD(p, lr=1e-3, momentum=0.9),
        "Adam": lambda p: optim.Adam(p, lr=2e-2),
    }
    x, y = np.meshgrid(np.linspace(-1.6, 1.6, 200), np.linspace(-0.6, 1.8, 200))
    with picture(args.out / "descent.png", figsize=(8, 5)) as axes:
        axes.contour(x, y, (1 - x) ** 2 + 100 * (y - x**2) ** 2, levels=np.logspace(-1, 3.3, 18), cmap="Greys_r", linewidths=0.6)
        for name, make in optimizers.items():
            path = descend(make, args.epochs, args.out / f"{name.replace(' ', '_')}.safetensors", args.resume)
            axes.plot(*path.T, label=f"{name}: {len(path) - 1} steps", linewidth=1.2)
            distance = float(np.hypot(*(path[-1] - 1)))
            results.append(Result(f"distance to the minimum, {name}", distance, "0", None))
        axes.plot(1, 1, "k*", markersize=12)
        axes.set(xlabel="x", ylabel="y", title="Rosenbrock's valley")
        axes.legend(loc="lower left")
    finish(args, results)


if __name__ == "__main__":
    main()
