"""Sequence to sequence for numbers: one recurrent network reads the past of a series, another writes its future.

Sources: Sutskever, Vinyals and Le (2014), arXiv:1409.3215, for the pair of networks; Salinas, Flunkert and Gasthaus, "DeepAR"
(2017), arXiv:1704.04110, for known inputs of the future.
"""

from __future__ import annotations

from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError

__all__ = ["Forecaster"]


class Forecaster(nn.Module):
    """A GRU reads the past; a second one starts from its state and forecasts step by step, from its own last forecast.

    Each forecast is what the network adds to the value one season before, so an untrained one already repeats the season.

    Shapes: past (N, T, channels + known), known (N, horizon, known) -> (N, horizon, channels).

    Parameters
    ----------
    channels : int
        Values that are forecast, the first of the past's columns.
    known : int
        Inputs that are known for the future too (the hour, the day of the week).
    hidden_size, layers : int
    season : int
        Steps after which the series is taken to repeat itself; 1 continues the last value. The past must be that long.
    """

    def __init__(self, channels: int = 1, known: int = 0, hidden_size: int = 64, layers: int = 1, season: int = 1) -> None:
        super().__init__()
        if channels < 1 or known < 0 or season < 1:
            raise ArgumentError(f"Forecaster: channels={channels}, known={known}, season={season}; expected at least 1, 0 and 1")
        self.channels, self.known, self.season = channels, known, season
        self.encoder = nn.GRU(channels + known, hidden_size, layers, batch_first=True)
        self.decoder = nn.GRU(2 * channels + known, hidden_size, layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, channels)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, past: Any, known: Any, horizon: int | None = None, target: Any = None) -> Any:
        """Forecasts of `horizon` steps (default: as many as `known` has); with a `target` (N, horizon, channels), each step
        sees the true values before it (teacher forcing)."""
        steps = known.shape[1] if horizon is None else horizon
        self._check(past, known, steps)
        _, state = self.encoder(past)
        values = [past[:, i, : self.channels] for i in range(past.shape[1] - self.season, past.shape[1])]
        found = []
        for t in range(steps):
            before, last = values[t], values[-1]  # one season ago, one step ago
            inputs = pydl.cat([last, before, known[:, t]] if self.known else [last, before], 1)
            output, state = self.decoder(pydl.unsqueeze(inputs, 1), state)
            found.append(before + self.fc(output[:, 0]))
            values.append(found[-1] if target is None else target[:, t])
        return pydl.stack(found, 1)

    def _check(self, past: Any, known: Any, steps: int) -> None:
        columns = self.channels + self.known
        if past.ndim != 3 or past.shape[2] != columns or past.shape[1] < self.season:
            raise ShapeError(f"[forecaster] past of shape {tuple(past.shape)}, expected (N, T, {columns}) with T at least the "
                             f"season, {self.season}")
        if self.known and tuple(known.shape) != (past.shape[0], steps, self.known):
            raise ShapeError(f"[forecaster] known of shape {tuple(known.shape)}, expected ({past.shape[0]}, {steps}, "
                             f"{self.known})")
