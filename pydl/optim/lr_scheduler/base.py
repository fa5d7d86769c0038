"""What all schedules share.

A schedule writes ``group["lr"]`` of its optimizer: once when it is made (step 0) and at each `step()`. Most schedules
multiply the rate that they find, so that several on one optimizer multiply; the others say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydl.errors import ArgumentError
from pydl.optim.optimizer import Optimizer


def plain(value: Any) -> Any:
    """Lists and dictionaries copied, so that a saved state does not change with its schedule."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


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
        return {k: plain(v) for k, v in self.__dict__.items() if k not in self._unsaved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the schedule stood that gave this state."""
        own = self.state_dict()
        if set(state_dict) != set(own):
            missing, unexpected = sorted(set(own) - set(state_dict)), sorted(set(state_dict) - set(own))
            raise ArgumentError(f"{type(self).__name__}: state of another schedule: missing {missing}, unexpected {unexpected}")
        saved, groups = len(state_dict["_last_lr"]), len(self.optimizer.param_groups)
        if saved != groups:
            raise ArgumentError(f"{type(self).__name__}: state for {saved} groups, the optimizer has {groups}")
        self.__dict__.update({k: plain(v) for k, v in state_dict.items()})

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.__dict__.items() if k not in (*self._unsaved, "base_lrs", "_last_lr")}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in shown.items())})"


def positive(name: str, argument: str, value: Any) -> int:
    """A whole number of steps, at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}: {argument} must be a whole number of at least 1, got {value!r}")
    return value


def for_each_group(name: str, argument: str, value: Any, groups: int) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)] * groups
    if len(values) != groups:
        raise ArgumentError(f"{name}: {argument} holds {len(values)} numbers for {groups} groups of parameters")
    return values
