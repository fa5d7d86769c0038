"""Schedules that watch a metric, or put others together."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydl.errors import ArgumentError
from pydl.optim.lr_scheduler.base import LRScheduler, for_each_group, plain
from pydl.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "ReduceLROnPlateau", "SequentialLR"]


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
        self.min_lrs = for_each_group("ReduceLROnPlateau", "min_lr", min_lr, len(optimizer.param_groups))
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
            setattr(self, name, plain(state_dict[name]))


class ChainedScheduler(LRScheduler):
    """Several schedules that step together, so that their factors multiply."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ArgumentError("ChainedScheduler: schedulers is empty")
        optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        for i, s in enumerate(schedulers):
            if s.optimizer is not optimizer:
                raise ArgumentError(f"ChainedScheduler: schedulers[{i}] ({type(s).__name__}) belongs to another optimizer")
        self.optimizer, self.schedulers = optimizer, list(schedulers)
        self._last_lr = self._current()

    def _restart(self) -> None:
        for s in self.schedulers:
            s._restart()
        self._last_lr = self._current()

    def step(self) -> None:
        for s in self.schedulers:
            s.step()
        self._last_lr = self._current()

    def state_dict(self) -> dict[str, Any]:
        return {"_last_lr": list(self._last_lr), "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        own = self.state_dict()
        if set(state_dict) != set(own) or len(state_dict["schedulers"]) != len(self.schedulers):
            raise ArgumentError(f"ChainedScheduler: expected a state with {sorted(own)} and {len(self.schedulers)} schedulers")
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self._last_lr = plain(state_dict["_last_lr"])
