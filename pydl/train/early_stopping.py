"""`Best` follows the best value of a figure; `EarlyStopping` ends training when it has not improved for a while."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydl.errors import ArgumentError

__all__ = ["Best", "EarlyStopping"]


class Best:
    """The best value so far of one column of the history.

    Parameters
    ----------
    monitor : str
        The column, for example "valid_loss".
    mode : str
        "min" if smaller is better, "max" if larger is.
    min_delta : float
        By how much a value must be better to count.
    """

    def __init__(self, monitor: str = "valid_loss", mode: str = "min", min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise ArgumentError(f"{type(self).__name__}: mode={mode!r}, expected 'min' or 'max'")
        if min_delta < 0:
            raise ArgumentError(f"{type(self).__name__}: min_delta={min_delta} must not be negative")
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.value = math.inf if self.mode == "min" else -math.inf
        self.epoch: int | None = None

    def update(self, row: Mapping[str, Any]) -> bool:
        """Look at an epoch's row; whether its value is the best so far."""
        if self.monitor not in row:
            raise ArgumentError(
                f"{type(self).__name__}: there is no {self.monitor!r} to watch, only {list(row)}; "
                "give fit a valid_loader, or name one of these"
            )
        value = float(row[self.monitor])
        gain = self.value - value if self.mode == "min" else value - self.value
        if not gain > self.min_delta:
            return False
        self.value, self.epoch = value, row.get("epoch")
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.epoch = state["value"], state["epoch"]


class EarlyStopping(Best):
    """Stop when the watched figure has not improved for `patience` epochs.

    Parameters
    ----------
    monitor, mode, min_delta
        As in `Best`.
    patience : int
        How many epochs without improvement are allowed; at least 1.
    restore_best : bool
        Load the best epoch's weights into the model when training ends.
    """

    def __init__(
        self, monitor: str = "valid_loss", patience: int = 5, min_delta: float = 0.0, mode: str = "min",
        restore_best: bool = True,
    ) -> None:
        if patience < 1:
            raise ArgumentError(f"EarlyStopping: patience={patience}, expected at least 1")
        self.patience, self.restore_best = patience, restore_best
        super().__init__(monitor, mode, min_delta)

    def reset(self) -> None:
        super().reset()
        self.waited = 0

    @property
    def stopped(self) -> bool:
        """Whether training should end."""
        return self.waited >= self.patience

    def update(self, row: Mapping[str, Any]) -> bool:
        improved = super().update(row)
        self.waited = 0 if improved else self.waited + 1
        return improved

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.waited = state["waited"]
