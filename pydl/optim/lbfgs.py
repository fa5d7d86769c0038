"""L-BFGS: a quasi-Newton method that remembers a few steps (Nocedal and Wright 2006, chapters 3 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import wrap
from pydl.graph.modes import enable_grad
from pydl.optim.optimizer import Optimizer

__all__ = ["LBFGS"]

Point = tuple[float, float, np.ndarray, float]  # how far along the direction, loss, gradient, slope along the direction


class LBFGS(Optimizer):
    """Minimises a function of all parameters as one vector; each `step` takes up to `max_iter` steps.

    Give `step` a closure that forgets the gradients, computes the loss, calls backward and returns the loss. For whole
    batches: it takes the loss for a function without noise.

    Parameters
    ----------
    lr : float
        Length of a step along the quasi-Newton direction; with a line search, of the first attempt.
    max_iter, max_eval : int
        Steps and evaluations of the closure within one `step`; by default 1.25 evaluations a step.
    tolerance_grad, tolerance_change : float
        It ends when the largest element of the gradient, or of the change, is no larger.
    history_size : int
        Steps that are remembered.
    line_search_fn : {None, "strong_wolfe"}
        Search along the direction for a point that satisfies the strong Wolfe conditions.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100, line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ArgumentError(f"LBFGS: line_search_fn={line_search_fn!r}; expected None or 'strong_wolfe'")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        })
        if len(self.param_groups) != 1:
            raise ArgumentError("LBFGS: takes one group of parameters; options of their own are not possible")
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []  # of the gradient
        self._count = 0

    # ------------------------------------------------------------------ the parameters as one vector
    def _gradient(self) -> np.ndarray:
        parts = [np.zeros(p.data.size) if p.grad is None else p.grad.data.ravel() for p in self.param_groups[0]["params"]]
        return np.concatenate(parts).astype(np.float64)

    def _position(self) -> np.ndarray:
        return np.concatenate([p.data.ravel() for p in self.param_groups[0]["params"]]).astype(np.float64)

    def _move_to(self, x: np.ndarray) -> None:
        start = 0
        for p in self.param_groups[0]["params"]:
            p.data[...] = x[start : start + p.data.size].reshape(p.data.shape)
            p.bump_version()
            start += p.data.size

    # ------------------------------------------------------------------ directions
    def _direction(self, g: np.ndarray) -> np.ndarray:
        """-H g by the two-loop recursion; without a history, -g."""
        d, factors = -g, []
        pairs = list(zip(self._steps, self._changes, strict=True))
        for s, y in reversed(pairs):
            a = s @ d / (y @ s)
            factors.append(a)
            d = d - a * y
        if pairs:
            s, y = pairs[-1]
            d = d * (s @ y / (y @ y))
        for (s, y), a in zip(pairs, reversed(factors), strict=True):
            d = d + s * (a - y @ d / (y @ s))
        return d

    def _remember(self, s: np.ndarray, y: np.ndarray, size: int) -> None:
        if y @ s > 1e-10:
            self._steps, self._changes = [*self._steps, s][-size:], [*self._changes, y][-size:]

    # ------------------------------------------------------------------ the step
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Several steps; returns the loss before the first one."""
        if closure is None:
            raise ArgumentError("LBFGS: step needs a closure that computes the loss and its gradients and returns the loss")
        group = self.param_groups[0]

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            self._move_to(x)
            with enable_grad():
                loss = float(closure())
            return loss, self._gradient()

        with enable_grad():
            first = closure()
        x, loss, g = self._position(), float(first), self._gradient()
        evaluations = 1
        for _ in range(group["max_iter"]):
            if np.abs(g).max(initial=0) <= group["tolerance_grad"] or evaluations >= group["max_eval"]:
                break
            d = self._direction(g)
            slope = g @ d
            if slope > -group["tolerance_change"]:
                break
            self._count += 1
            length = min(1.0, 1 / np.abs(g).sum()) * group["lr"] if self._count == 1 else group["lr"]
            if group["line_search_fn"]:
                length, new_loss, new_g, used = _strong_wolfe(evaluate, x, length, d, loss, g, slope)
            else:
                (new_loss, new_g), used = evaluate(x + length * d), 1
            self._move_to(x + length * d)
            evaluations += used
            self._remember(length * d, new_g - g, group["history_size"])
            small = np.abs(length * d).max() <= group["tolerance_change"] or abs(new_loss - loss) < group["tolerance_change"]
            x, loss, g = x + length * d, new_loss, new_g
            if small:
                break
        return first

    def state_dict(self) -> dict[str, Any]:
        history = {"steps": [wrap(a) for a in self._steps], "changes": [wrap(a) for a in self._changes], "count": self._count}
        return super().state_dict() | {"history": history}

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        history = state_dict["history"]
        self._steps, self._changes = ([np.array(t.data, np.float64) for t in history[k]] for k in ("steps", "changes"))
        self._count = history["count"]


def _cubic(a: Point, b: Point) -> float:
    """The minimum of the cubic through two points with their slopes, within the middle 80 % of the interval."""
    (x1, f1, _, s1), (x2, f2, _, s2) = (a, b) if a[0] <= b[0] else (b, a)
    low, high = x1 + 0.1 * (x2 - x1), x2 - 0.1 * (x2 - x1)
    d1 = s1 + s2 - 3 * (f1 - f2) / (x1 - x2)
    inside = d1 * d1 - s1 * s2
    if not inside >= 0:
        return (x1 + x2) / 2
    d2 = inside**0.5
    found = x2 - (x2 - x1) * ((s2 + d2 - d1) / (s2 - s1 + 2 * d2))
    return min(max(found, low), high)


def _strong_wolfe(
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]], x: np.ndarray, length: float, d: np.ndarray, loss: float,
    g: np.ndarray, slope: float, c1: float = 1e-4, c2: float = 0.9, most: int = 25,
) -> tuple[float, float, np.ndarray, int]:
    """A length with loss <= loss_0 + c1 length slope_0 and |slope| <= c2 |slope_0| (Nocedal and Wright, algorithm 3.5).

    Returns the length, loss and gradient there, and how many evaluations it took; if none is found, the best point seen.
    """
    used = 0

    def at(t: float) -> Point:
        nonlocal used
        used += 1
        f, gradient = evaluate(x + t * d)
        return t, f, gradient, float(gradient @ d)

    def high(p: Point) -> bool:
        return not p[1] <= loss + c1 * p[0] * slope

    start = before = (0.0, loss, g, slope)
    best, bracket = start, None
    t = length
    while used < most:  # outwards, until the interval holds a good point
        here = at(t)
        best = here if here[1] < best[1] else best
        if high(here) or (used > 1 and here[1] >= before[1]):
            bracket = (before, here)
            break
        if abs(here[3]) <= -c2 * slope:
            return here[0], here[1], here[2], used
        if here[3] >= 0:
            bracket = (here, before)
            break
        before, t = here, 2.5 * t
    while bracket is not None and used < most and abs(bracket[1][0] - bracket[0][0]) * np.abs(d).max() > 1e-9:  # inwards
        good, other = bracket  # `good` is the lower end
        here = at(_cubic(good, other))
        best = here if here[1] < best[1] else best
        if high(here) or here[1] >= good[1]:
            bracket = (good, here)
            continue
        if abs(here[3]) <= -c2 * slope:
            return here[0], here[1], here[2], used
        bracket = (here, good) if here[3] * (other[0] - good[0]) >= 0 else (here, other)
    return best[0], best[1], best[2], used
