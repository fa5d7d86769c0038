"""Schedules that go up and down, with the momentum the other way round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pydl.errors import ArgumentError
from pydl.optim.lr_scheduler.base import LRScheduler, for_each_group, positive
from pydl.optim.optimizer import Optimizer

__all__ = ["CyclicLR", "OneCycleLR"]


def _check_momentum(name: str, optimizer: Optimizer) -> None:
    if not {"momentum", "betas"} & set(optimizer.defaults):
        raise ArgumentError(f"{name}: {type(optimizer).__name__} has no momentum to cycle; use cycle_momentum=False")


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


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
            total_steps = positive("OneCycleLR", "epochs", epochs) * positive("OneCycleLR", "steps_per_epoch", steps_per_epoch)
        self.total_steps = positive("OneCycleLR", "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ArgumentError(f"OneCycleLR: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"OneCycleLR: anneal_strategy={anneal_strategy!r}; expected 'cos' or 'linear'")
        self.pct_start, self.anneal_strategy, self.three_phase = pct_start, anneal_strategy, three_phase
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            _check_momentum("OneCycleLR", optimizer)
        groups = len(optimizer.param_groups)
        self.max_lrs = for_each_group("OneCycleLR", "max_lr", max_lr, groups)
        self.base_momentums = for_each_group("OneCycleLR", "base_momentum", base_momentum, groups)
        self.max_momentums = for_each_group("OneCycleLR", "max_momentum", max_momentum, groups)
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
                _set_momentum(group, self._between([high, low, high, high]))
        return rates


class CyclicLR(LRScheduler):
    """Up from `base_lr` to `max_lr` in a line and down again, over and over (Smith 2015); `step()` belongs after every batch.

    A function of the step alone.

    Parameters
    ----------
    base_lr, max_lr : float or list of float
        Lowest and highest rate, or one for each group.
    step_size_up, step_size_down : int
        Steps of the rise and of the fall (default: the same).
    mode : {"triangular", "triangular2", "exp_range"}
        All cycles alike, each half as high as the one before, or shrinking as gamma^step.
    scale_fn, scale_mode : callable, {"cycle", "iterations"}
        Instead of `mode`: a factor for the height from the number of the cycle (from 1) or of the step. It is not saved.
    cycle_momentum : bool
        Move ``momentum`` (or the first of ``betas``) from `max_momentum` down to `base_momentum` and back.
    """

    _unsaved = ("optimizer", "scale_fn")

    def __init__(
        self, optimizer: Optimizer, base_lr: float | list[float], max_lr: float | list[float], step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle", cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8, max_momentum: float | list[float] = 0.9, last_epoch: int = -1,
    ) -> None:
        if mode not in ("triangular", "triangular2", "exp_range") or scale_mode not in ("cycle", "iterations"):
            raise ArgumentError(f"CyclicLR: mode={mode!r}, scale_mode={scale_mode!r}; expected 'triangular', 'triangular2' or "
                                "'exp_range', 'cycle' or 'iterations'")
        if cycle_momentum:
            _check_momentum("CyclicLR", optimizer)
        groups = len(optimizer.param_groups)
        self.step_size_up = positive("CyclicLR", "step_size_up", step_size_up)
        self.total_size = step_size_up + (step_size_up if step_size_down is None else step_size_down)
        self.mode, self.gamma, self.scale_fn, self.scale_mode = mode, gamma, scale_fn, scale_mode
        self.max_lrs = for_each_group("CyclicLR", "max_lr", max_lr, groups)
        self.cycle_momentum = cycle_momentum
        self.base_momentums = for_each_group("CyclicLR", "base_momentum", base_momentum, groups)
        self.max_momentums = for_each_group("CyclicLR", "max_momentum", max_momentum, groups)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, for_each_group("CyclicLR", "base_lr", base_lr, groups), strict=True):
                group["initial_lr"] = low
        super().__init__(optimizer, last_epoch)

    def _height(self) -> float:
        """From 0 at the bottom to the top of this cycle, 1 or less."""
        cycle, place = divmod(self.last_epoch, self.total_size)
        up, down = self.step_size_up, self.total_size - self.step_size_up
        height = place / up if place <= up else (self.total_size - place) / down
        if self.scale_fn is not None:
            return height * self.scale_fn(self.last_epoch if self.scale_mode == "iterations" else cycle + 1)
        scales = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**self.last_epoch}
        return height * scales[self.mode]

    def get_lr(self) -> list[float]:
        height = self._height()
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True):
                _set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]
