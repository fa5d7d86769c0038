"""What a checkpoint must hold besides model and optimizer so that a resumed run has the same bits: the random generators,
the loader's position and the metrics in progress."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from pydl import random as pydl_random

__all__ = ["LoaderPosition", "load_metric_state", "load_rng_state", "metric_state", "rng_state"]


# --------------------------------------------------------------------------- random generators


def rng_state() -> dict[str, Any]:
    """The states of pydl's generator, of Python's, and of NumPy's global one if it has been imported."""
    version, key, gauss = random.getstate()
    state: dict[str, Any] = {"pydl": pydl_random.get_rng_state()}
    state["python"] = version, np.array(key, np.uint32), gauss
    if "numpy.random" in sys.modules:
        state["numpy"] = sys.modules["numpy.random"].get_state()
    return state


def load_rng_state(state: Mapping[str, Any]) -> None:
    """Put the generators back into these states."""
    pydl_random.set_rng_state(state["pydl"])
    version, key, gauss = state["python"]
    random.setstate((version, tuple(key.tolist()), gauss))
    if "numpy" in state:
        np.random.set_state(state["numpy"])  # noqa: NPY002 (the user's transforms may use it)


# --------------------------------------------------------------------------- metrics


def metric_state(metric: Any) -> dict[str, Any]:
    """What a streaming metric has counted so far: its `state_dict` if it has one, else its attributes."""
    state = metric.state_dict() if hasattr(metric, "state_dict") else vars(metric)
    return copy.deepcopy(dict(state))


def load_metric_state(metric: Any, state: Mapping[str, Any]) -> None:
    """Give a metric back what it had counted."""
    if hasattr(metric, "load_state_dict"):
        metric.load_state_dict(state)
    else:
        vars(metric).update(state)


# --------------------------------------------------------------------------- the loader's position


class LoaderPosition:
    """Starts a loader at an epoch, or in the middle of one.

    A loader with ``set_epoch``, ``state_dict`` and ``load_state_dict`` keeps its own position. Any other iterable of
    batches is started anew and the batches that were done are skipped: it must give the same ones again.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader
        self.keeps_position = all(hasattr(loader, m) for m in ("set_epoch", "state_dict", "load_state_dict"))

    @property
    def length(self) -> int | None:
        """Batches in an epoch, if the loader knows."""
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except TypeError:
            return None

    def state(self) -> Any:
        return self.loader.state_dict() if self.keeps_position else None  # type: ignore[attr-defined]

    def start(self, epoch: int, done: int, state: Any) -> Iterator[Any]:
        """The batches of an epoch after the first `done`; `state` is what `state()` gave there, None if unknown."""
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(epoch)
        if state is not None and self.keeps_position:
            self.loader.load_state_dict(state)  # type: ignore[attr-defined]
            return iter(self.loader)
        return islice(iter(self.loader), done, None)
