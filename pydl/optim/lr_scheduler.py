"""Learning-rate schedules with PyTorch's names, arguments and numbers.

A schedule writes ``group["lr"]`` of its optimizer: once when it is made (step 0) and at each `step()`. Most schedules
multiply the rate that they find, so that several on one optimizer multiply; the others say so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from pydl.errors import ArgumentError
from pydl.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR",
    "MultiStepLR", "NoamLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR", "WarmupCosine",
]


def _plain(value: Any) -> Any:
    """Lists and dictionaries copied, so that a saved state does not change with its schedule."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


class LRScheduler:
    """Base of all schedules: subclasses define `get_lr`.

    Parameters
    ----------
    optimizer : Optimizer
    last_epoch : int
        Number of the last step done; -1 starts anew and keeps each group's rate as ``group["initial_lr"]``. Any other
        number goes on from there, and expects that key in every group.
    """

    _unsaved: ClassVar[tuple[str, ...]] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{name}: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(f"{name}: last_epoch={last_epoch} goes on with a schedule, but group {i} has no "
                                    "'initial_lr'; load the optimizer's state first, or start with last_epoch=-1")
        self.base_lrs = [float(g["initial_lr"]) for g in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr = [float(g["lr"]) for g in optimizer.param_groups]
        self.step()

    def get_lr(self) -> list[float]:
        """The rate of each group at step `last_epoch`; the groups still hold the rates of the step before."""
        raise NotImplementedError

    def step(self) -> None:
        """Go one step on: once an epoch, or once a batch, after ``optimizer.step()``."""
        self.last_epoch += 1
        self._write(self.get_lr())

    def _write(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = [float(r) for r in rates]

    def _restart(self) -> None:
        """Back to step 0 (`SequentialLR` does this when the schedule's turn comes)."""
        self._write(self.base_lrs)
        self.last_epoch = -1
        self.step()

    def get_last_lr(self) -> list[float]:
        """The rate of each group as last set here."""
        return list(self._last_lr)

    def _current(self) -> list[float]:
        return [float(g["lr"]) for g in self.optimizer.param_groups]

    def _scaled(self, ratio: float) -> list[float]:
        return [rate * ratio for rate in self._current()]

    # ------------------------------------------------------------------ saving
    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer and functions, as numbers, texts, lists and dictionaries.

        The rates themselves are in the optimizer's state: save and load both.
        """
        return {k: _plain(v) for k, v in self.__dict__.items() if k not in self._unsaved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the schedule stood that gave this state."""
        own = self.state_dict()
        if set(state_dict) != set(own):
            missing, unexpected = sorted(set(own) - set(state_dict)), sorted(set(state_dict) - set(own))
            raise ArgumentError(f"{type(self).__name__}: state of another schedule: missing {missing}, unexpected {unexpected}")
        saved, groups = len(state_dict["_last_lr"]), len(self.optimizer.param_groups)
        if saved != groups:
            raise ArgumentError(f"{type(self).__name__}: state for {saved} groups, the optimizer has {groups}")
        self.__dict__.update({k: _plain(v) for k, v in state_dict.items()})

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.__dict__.items() if k not in (*self._unsaved, "base_lrs", "_last_lr")}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in shown.items())})"


def _positive(name: str, argument: str, value: Any) -> int:
    """A whole number of steps, at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}: {argument} must be a whole number of at least 1, got {value!r}")
    return value


def _for_each_group(name: str, argument: str, value: Any, groups: int) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)] * groups
    if len(values) != groups:
        raise ArgumentError(f"{name}: {argument} holds {len(values)} numbers for {groups} groups of parameters")
    return values


# --------------------------------------------------------------------------- schedules by a formula


class LambdaLR(LRScheduler):
    """rate = initial rate * lr_lambda(step), with one function or one for each group. The functions are not saved."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ArgumentError(f"LambdaLR: {len(self.lr_lambdas)} functions for {groups} groups of parameters")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """The rate times gamma every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = _positive("StepLR", "step_size", step_size), gamma
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
        self.total_iters, self.power = _positive("PolynomialLR", "total_iters", total_iters), power
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
        self.T_max, self.eta_min = _positive("CosineAnnealingLR", "T_max", T_max), eta_min
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
        self.T_0 = _positive("CosineAnnealingWarmRestarts", "T_0", T_0)
        self.T_mult = _positive("CosineAnnealingWarmRestarts", "T_mult", T_mult)
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
        self.d_model = _positive("NoamLR", "d_model", d_model)
        self.warmup_steps = _positive("NoamLR", "warmup_steps", warmup_steps)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch + 1
        factor = self.d_model**-0.5 * min(t**-0.5, t * self.warmup_steps**-1.5)
        return [base * factor for base in self.base_lrs]


# --------------------------------------------------------------------------- one cycle


class OneCycleLR(LRScheduler):
    """Up to `max_lr` and down to almost nothing, momentum the other way round (Smith and Topin 2017, "Super-convergence").

    A function of the step alone; `step()` belongs after every batch.

    Parameters
    ----------
    max_lr : float or list of float
        The highest rate, or one for each group.
    total_steps : int, optional
        Length of the cycle; or give `epochs` and `steps_per_epoch`.
    pct_start : float
        Share of the cycle that goes up.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool
        Move ``momentum`` (or the first of ``betas``) from `max_momentum` down to `base_momentum` and back.
    div_factor, final_div_factor : float
        It starts at max_lr / div_factor and ends at that / final_div_factor.
    three_phase : bool
        Down to the initial rate as fast as it rose, then on to the end; otherwise down in one piece.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float | list[float], total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85, max_momentum: float | list[float] = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
            total_steps = _positive("OneCycleLR", "epochs", epochs) * _positive("OneCycleLR", "steps_per_epoch", steps_per_epoch)
        self.total_steps = _positive("OneCycleLR", "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ArgumentError(f"OneCycleLR: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"OneCycleLR: anneal_strategy={anneal_strategy!r}; expected 'cos' or 'linear'")
        self.pct_start, self.anneal_strategy, self.three_phase = pct_start, anneal_strategy, three_phase
        self.cycle_momentum = cycle_momentum
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ArgumentError(f"OneCycleLR: {type(optimizer).__name__} has no momentum to cycle; use cycle_momentum=False")
        groups = len(optimizer.param_groups)
        self.max_lrs = _for_each_group("OneCycleLR", "max_lr", max_lr, groups)
        self.base_momentums = _for_each_group("OneCycleLR", "base_momentum", base_momentum, groups)
        self.max_momentums = _for_each_group("OneCycleLR", "max_momentum", max_momentum, groups)
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        if last_epoch == -1:
            for group, top in zip(optimizer.param_groups, self.max_lrs, strict=True):
                group["initial_lr"] = top / div_factor
        super().__init__(optimizer, last_epoch)

    def _phase(self) -> tuple[int, float]:
        """Which part of the cycle the step is in, and how far through it."""
        rise = self.pct_start * self.total_steps - 1
        ends = [rise, 2 * rise, self.total_steps - 1] if self.three_phase else [rise, self.total_steps - 1]
        start = 0.0
        for i, end in enumerate(ends):
            if self.last_epoch <= end or i == len(ends) - 1:
                return i, min((self.last_epoch - start) / (end - start), 1.0) if end > start else 1.0
            start = end
        raise AssertionError("unreachable")

    def _between(self, corners: Sequence[float]) -> float:
        phase, share = self._phase()
        a, b = corners[phase], corners[phase + 1]
        if self.anneal_strategy == "cos":
            share = (1 - math.cos(math.pi * share)) / 2
        return a + (b - a) * share

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ArgumentError(f"OneCycleLR: step {self.last_epoch} of a cycle of {self.total_steps}; step() once a batch")
        rates = []
        for group, start, top, low, high in zip(
            self.optimizer.param_groups, self.base_lrs, self.max_lrs, self.base_momentums, self.max_momentums, strict=True
        ):
            last = start / self.final_div_factor
            rates.append(self._between([start, top, start, last] if self.three_phase else [start, top, last]))
            if self.cycle_momentum:
                momentum = self._between([high, low, high, high])
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return rates


# --------------------------------------------------------------------------- schedules that watch or combine


class ReduceLROnPlateau(LRScheduler):
    """The rate times `factor` when a metric has not improved for more than `patience` steps: ``step(validation_loss)``.

    Parameters
    ----------
    mode : {"min", "max"}
        Whether smaller or larger is better.
    threshold, threshold_mode : float, {"rel", "abs"}
        What counts as better: by this share of the best so far, or by this much.
    cooldown : int
        Steps after a reduction in which nothing is counted.
    min_lr : float or list of float
        Lower bound, or one for each group.
    eps : float
        A change of the rate smaller than this is left out.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
        threshold_mode: str = "rel", cooldown: int = 0, min_lr: float | list[float] = 0.0, eps: float = 1e-8,
    ) -> None:
        if not 0 < factor < 1:
            raise ArgumentError(f"ReduceLROnPlateau: factor must be between 0 and 1, got {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(f"ReduceLROnPlateau: mode={mode!r}, threshold_mode={threshold_mode!r}; expected 'min' or 'max', "
                                "'rel' or 'abs'")
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"ReduceLROnPlateau: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.min_lrs = _for_each_group("ReduceLROnPlateau", "min_lr", min_lr, len(optimizer.param_groups))
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = self._current()

    def step(self, metrics: Any) -> None:  # type: ignore[override]  # a different kind of step, as in PyTorch
        """Tell the schedule the metric (a number or a one-element tensor). NaN never counts as better."""
        current = float(metrics)
        self.last_epoch += 1
        if self.is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            lower = [max(r * self.factor, least) for r, least in zip(self._current(), self.min_lrs, strict=True)]
            self._write([new if old - new > self.eps else old for old, new in zip(self._current(), lower, strict=True)])
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._current()

    def is_better(self, value: float) -> bool:
        """Whether the value beats the best so far by the threshold."""
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "abs" or math.isinf(self.best):
            return sign * value > sign * self.best + self.threshold
        return sign * value > sign * self.best * (1 + sign * self.threshold)


class SequentialLR(LRScheduler):
    """Schedules one after the other: schedule i + 1 starts from its step 0 when the step reaches ``milestones[i]``."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise ArgumentError(f"SequentialLR: {len(schedulers)} schedules need {max(len(schedulers) - 1, 0)} milestones, "
                                f"got {len(milestones)}")
        if any(b <= a for a, b in pairwise(milestones)):
            raise ArgumentError(f"SequentialLR: milestones must rise, got {list(milestones)}")
        for i, s in enumerate(schedulers):
            waits = isinstance(s, ReduceLROnPlateau)
            if waits or s.optimizer is not optimizer:
                raise ArgumentError(f"SequentialLR: schedulers[{i}] ({type(s).__name__}) "
                                    + ("waits for a metric" if waits else "belongs to another optimizer"))
        self.optimizer, self.schedulers, self.milestones = optimizer, list(schedulers), [int(m) for m in milestones]
        self._restart()
        self.last_epoch = last_epoch + 1

    def _restart(self) -> None:
        self.last_epoch = 0
        self.schedulers[0]._restart()
        self._last_lr = self.schedulers[0].get_last_lr()

    def step(self) -> None:
        self.last_epoch += 1
        turn = bisect_right(self.milestones, self.last_epoch)
        active = self.schedulers[turn]
        if turn and self.milestones[turn - 1] == self.last_epoch:
            active._restart()
        else:
            active.step()
        self._last_lr = active.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "milestones": list(self.milestones), "_last_lr": list(self._last_lr),
                "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        own = self.state_dict()
        if set(state_dict) != set(own) or len(state_dict["schedulers"]) != len(self.schedulers):
            raise ArgumentError(f"SequentialLR: expected a state with {sorted(own)} and {len(self.schedulers)} schedulers")
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)
        for name in ("last_epoch", "milestones", "_last_lr"):
            setattr(self, name, _plain(state_dict[name]))
