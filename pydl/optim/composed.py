"""More update rules, written as operations on tensors: each step is a few native calls for each parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import note_object, wrap
from pydl.graph.modes import enable_grad, no_grad
from pydl.optim.optimizer import Optimizer

__all__ = ["ASGD", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop"]


class ComposedOptimizer(Optimizer):
    """Base: `update` moves one parameter by its gradient; the arrays of its state are made when first needed."""

    arrays: ClassVar[tuple[str, ...]] = ()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        note_object(self)
        with no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._one(p, group)
        return loss

    def _one(self, p: Any, group: dict[str, Any]) -> None:
        if p.grad.shape != p.shape:
            raise ShapeError(f"{type(self).__name__}: gradient {p.grad.shape} for a parameter {p.shape}")
        state = self.state.setdefault(p, {"step": 0})
        for name in self.arrays:
            if name not in state:
                state[name] = ops.zeros_like(p).detach()
        if state["step"] == 0:
            self.start(p, state, group)
        state["step"] += 1
        g = ops.neg(p.grad) if group["maximize"] else p.grad.detach()
        if decay := group.get("weight_decay", 0):
            if group.get("decoupled_weight_decay", False):
                p.mul_(1 - group["lr"] * decay)
            else:
                g = ops.add(g, p.detach(), alpha=decay)
        self.update(p, g, state, group)

    def start(self, p: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Numbers in a new state."""

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move `p`; `g` is the gradient with sign and weight decay applied, ``state["step"]`` counts from 1."""
        raise NotImplementedError


def _mean(average: Any, g: Any, beta: float) -> Any:
    """The running mean beta average + (1 - beta) g, in place."""
    return average.mul_(beta).add_(g, alpha=1 - beta)


class Adadelta(ComposedOptimizer):
    """Adadelta (Zeiler 2012): steps in the ratio of the root mean squares of past steps and of gradients."""

    arrays = ("square_avg", "acc_delta")

    def __init__(
        self, params: Iterable[Any], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0, *,
        maximize: bool = False,
    ) -> None:
        if not 0 <= rho <= 1:
            raise ArgumentError(f"Adadelta: rho must be from 0 to 1, got {rho}")
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        rho, eps = group["rho"], group["eps"]
        _mean(state["square_avg"], g * g, rho)
        delta = ops.sqrt(state["acc_delta"] + eps) / ops.sqrt(state["square_avg"] + eps) * g
        _mean(state["acc_delta"], delta * delta, rho)
        p.sub_(delta, alpha=group["lr"])


class Adamax(ComposedOptimizer):
    """Adam with the running maximum of the magnitudes in the place of the root of squares (Kingma and Ba 2014, section 7)."""

    arrays = ("exp_avg", "exp_inf")

    def __init__(
        self, params: Iterable[Any], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize})

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        _mean(state["exp_avg"], g, beta1)
        state["exp_inf"].copy_(ops.maximum(state["exp_inf"] * beta2, ops.abs(g) + group["eps"]))
        p.sub_(state["exp_avg"] / state["exp_inf"], alpha=group["lr"] / (1 - beta1 ** state["step"]))


class NAdam(ComposedOptimizer):
    """Adam with Nesterov's momentum (Dozat 2016), whose schedule is mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)."""

    arrays = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, params: Iterable[Any], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
                                  "maximize": maximize})

    def start(self, p: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["mu_product"] = 1.0

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        t = state["step"]
        mu, after = (beta1 * (1 - 0.5 * 0.96 ** (s * group["momentum_decay"])) for s in (t, t + 1))
        state["mu_product"] *= mu
        _mean(state["exp_avg"], g, beta1)
        _mean(state["exp_avg_sq"], g * g, beta2)
        root = ops.sqrt(state["exp_avg_sq"] / (1 - beta2**t)) + group["eps"]
        p.sub_(g / root, alpha=group["lr"] * (1 - mu) / (1 - state["mu_product"]))
        p.sub_(state["exp_avg"] / root, alpha=group["lr"] * after / (1 - state["mu_product"] * after))


class RAdam(ComposedOptimizer):
    """Adam whose first steps, while the variance is not known well, leave the root out (Liu et al. 2019)."""

    arrays = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, decoupled_weight_decay: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize})

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        t = state["step"]
        _mean(state["exp_avg"], g, beta1)
        _mean(state["exp_avg_sq"], g * g, beta2)
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        rate = group["lr"] / (1 - beta1**t)
        if length <= 5:
            p.sub_(state["exp_avg"], alpha=rate)
            return
        known = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        root = ops.sqrt(state["exp_avg_sq"]) + group["eps"]
        p.sub_(state["exp_avg"] / root, alpha=rate * known * math.sqrt(1 - beta2**t))


class Rprop(ComposedOptimizer):
    """Resilient backpropagation (Riedmiller and Braun 1993): each weight has a step of its own, and only signs count.

    The step grows by etas[1] while the gradient keeps its sign, and shrinks by etas[0], without a move, when it turns. For
    whole batches: the signs of small ones are noise.
    """

    arrays = ("prev", "step_size")

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50), *, maximize: bool = False,
    ) -> None:
        if not 0 < etas[0] < 1 < etas[1]:
            raise ArgumentError(f"Rprop: etas={etas}; expected one factor below 1 and one above")
        super().__init__(params, {"lr": lr, "etas": tuple(etas), "step_sizes": tuple(step_sizes), "maximize": maximize})

    def start(self, p: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["step_size"].fill_(group["lr"])

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        turn = (g * state["prev"]).data
        down, up = group["etas"]
        factor = wrap(np.where(turn > 0, up, np.where(turn < 0, down, 1.0)).astype(p.dtype))
        state["step_size"].mul_(factor).clamp_(*group["step_sizes"])
        g = ops.masked_fill(g, wrap(turn < 0), 0.0)
        p.sub_(ops.sign(g) * state["step_size"])
        state["prev"].copy_(g)


class ASGD(ComposedOptimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992): ``state[p]["ax"]`` is the mean of p from step t0 on.

    The rate falls as lr / (1 + lambd lr t)^alpha, and weights decay by lambd.
    """

    arrays = ("ax",)

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
        weight_decay: float = 0, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
                                  "maximize": maximize})

    def start(self, p: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["eta"], state["mu"] = group["lr"], 1.0

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        t = state["step"]
        p.mul_(1 - group["lambd"] * state["eta"])
        p.sub_(g, alpha=state["eta"])
        if state["mu"] == 1:
            state["ax"].copy_(p.detach())
        else:
            state["ax"].add_(p.detach() - state["ax"], alpha=state["mu"])
        state["eta"] = group["lr"] / (1 + group["lambd"] * group["lr"] * t) ** group["alpha"]
        state["mu"] = 1 / max(1, t - group["t0"])
