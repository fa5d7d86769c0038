"""Schedules that are a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from pydl.errors import ArgumentError
from pydl.optim.lr_scheduler.base import LRScheduler, positive
from pydl.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LambdaLR", "LinearLR", "MultiStepLR",
    "MultiplicativeLR", "NoamLR", "PolynomialLR", "StepLR", "WarmupCosine",
]


def _functions(name: str, given: Callable[[int], float] | Sequence[Callable[[int], float]], optimizer: Optimizer) -> list:
    groups = len(optimizer.param_groups)
    functions = [given] * groups if callable(given) else list(given)
    if len(functions) != groups:
        raise ArgumentError(f"{name}: {len(functions)} functions for {groups} groups of parameters")
    return functions


class LambdaLR(LRScheduler):
    """rate = initial rate * lr_lambda(step), with one function or one for each group. The functions are not saved."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas = _functions("LambdaLR", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(LRScheduler):
    """The rate times lr_lambda(step) at each step, with one function or one for each group. The functions are not saved."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas = _functions("MultiplicativeLR", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self._scaled(1.0)
        return [rate * f(self.last_epoch) for rate, f in zip(self._current(), self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """The rate times gamma every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = positive("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return self._scaled(self.gamma if due else 1.0)


class MultiStepLR(LRScheduler):
    """The rate times gamma at each milestone (a step number; one that is listed twice counts twice)."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(int(m) for m in milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._scaled(self.gamma ** self.milestones.count(self.last_epoch))


class ExponentialLR(LRScheduler):
    """The rate times gamma at each step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._scaled(self.gamma if self.last_epoch > 0 else 1.0)


class ConstantLR(LRScheduler):
    """The rate times `factor` for the first `total_iters` steps, then the whole rate."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 < factor <= 1:
            raise ArgumentError(f"ConstantLR: factor must be in (0, 1], got {factor}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self._scaled(self.factor)
        return self._scaled(1.0 / self.factor if self.last_epoch == self.total_iters else 1.0)


class LinearLR(LRScheduler):
    """A factor that goes in a line from `start_factor` to `end_factor` over `total_iters` steps, and stays there."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ArgumentError("LinearLR: start_factor must be in (0, 1] and end_factor in [0, 1], got "
                                f"{start_factor} and {end_factor}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * t / self.total_iters

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t == 0:
            return self._scaled(self.start_factor)
        return self._scaled(1.0 if t > self.total_iters else self._factor(t) / self._factor(t - 1))


class PolynomialLR(LRScheduler):
    """The factor (1 - step / total_iters)^power, and 0 from there on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = positive("PolynomialLR", "total_iters", total_iters), power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t == 0 or t > self.total_iters:
            return self._scaled(1.0)
        return self._scaled(((self.total_iters - t) / (self.total_iters - t + 1)) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (initial rate - eta_min) (1 + cos(pi step / T_max)) / 2 (Loshchilov and Hutter 2016).

    After T_max steps the rate rises again along the same curve.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = positive("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, rates = self.last_epoch, self._current()
        if t == 0:
            return rates
        height = 1 + math.cos(math.pi * t / self.T_max)
        if (t - 1) % (2 * self.T_max) == self.T_max:  # at the bottom there is nothing left to multiply
            return [r + (base - self.eta_min) * height / 2 for r, base in zip(rates, self.base_lrs, strict=True)]
        before = 1 + math.cos(math.pi * (t - 1) / self.T_max)
        return [self.eta_min + (r - self.eta_min) * height / before for r in rates]


class CosineAnnealingWarmRestarts(LRScheduler):
    """A cosine from the initial rate to eta_min over T_0 steps, again over T_0 * T_mult, and so on (SGDR).

    A function of the step alone: it overwrites what others did to the rate. Source: Loshchilov and Hutter 2016.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_0 = positive("CosineAnnealingWarmRestarts", "T_0", T_0)
        self.T_mult = positive("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        self.eta_min = eta_min
        self.T_i, self.T_cur = T_0, 0.0
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Go one step on, or to `epoch`, which may be a fraction: ``epoch + batch / batches``."""
        if epoch is not None and epoch < 0:
            raise ArgumentError(f"CosineAnnealingWarmRestarts: epoch must not be negative, got {epoch}")
        position = self.last_epoch + 1 if epoch is None else epoch
        self.last_epoch = math.floor(position)
        self.T_i = self.T_0
        if self.T_mult == 1:
            position %= self.T_0
        while position >= self.T_i:
            position -= self.T_i
            self.T_i *= self.T_mult
        self.T_cur = position
        self._write(self.get_lr())

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class WarmupCosine(LRScheduler):
    """A line from start_factor * rate up to the rate over `warmup_steps`, then a cosine down to eta_min at `total_steps`.

    The schedule that most transformers are trained with; at eta_min it stays. The same numbers as `SequentialLR` of
    `LinearLR` and `CosineAnnealingLR`, as one function of the step.
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, total_steps: int, eta_min: float = 0.0, start_factor: float = 0.01,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ArgumentError(f"WarmupCosine: warmup_steps={warmup_steps} must be in [0, total_steps={total_steps})")
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.eta_min, self.start_factor = eta_min, start_factor
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, w = self.last_epoch, self.warmup_steps
        if t < w:
            factor = self.start_factor + (1 - self.start_factor) * t / w
            return [base * factor for base in self.base_lrs]
        share = (1 + math.cos(math.pi * min((t - w) / (self.total_steps - w), 1.0))) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class NoamLR(LRScheduler):
    """The Transformer's schedule: up in a line over `warmup_steps`, then down with the root of the step.

    At step t (from 1): rate * d_model^-0.5 * min(t^-0.5, t * warmup_steps^-1.5). The optimizer's rate is a factor, 1 in the
    paper; step it after every batch. Source: Vaswani et al. 2017, equation 3.
    """

    def __init__(self, optimizer: Optimizer, d_model: int, warmup_steps: int = 4000, last_epoch: int = -1) -> None:
        self.d_model = positive("NoamLR", "d_model", d_model)
        self.warmup_steps = positive("NoamLR", "warmup_steps", warmup_steps)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch + 1
        factor = self.d_model**-0.5 * min(t**-0.5, t * self.warmup_steps**-1.5)
        return [base * factor for base in self.base_lrs]
