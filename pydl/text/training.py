"""Training of language models: a recurrent state carried from batch to batch, and teacher forcing that fades."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import TensorCore, wrap
from pydl.ops.loss import cross_entropy
from pydl.train.callbacks import Callback
from pydl.train.trainer import Trainer

__all__ = ["LanguageModelTrainer", "TeacherForcing", "detach_state"]


def detach_state(state: Any) -> Any:
    """The tensors of a state (a tensor, a tuple or a list of states, or None) cut off from the graph: where truncated
    backpropagation through time stops."""
    if isinstance(state, TensorCore):
        return state.detach()
    if isinstance(state, tuple | list):
        return type(state)(detach_state(s) for s in state)
    return state


class _Carried(Callback):
    """The recurrent state at the end of the last training batch, kept in checkpoints so that a resumed epoch goes on with it."""

    def __init__(self) -> None:
        self.state: Any = None

    def on_epoch_start(self, trainer: Trainer) -> None:
        if trainer.batch == 0:
            self.state = None

    def state_dict(self) -> dict[str, Any]:
        parts = self.state if isinstance(self.state, tuple | list) else [self.state]
        arrays = [p.data for p in parts if isinstance(p, TensorCore)]
        return {"parts": arrays, "single": isinstance(self.state, TensorCore)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts = tuple(wrap(np.asarray(a)) for a in state["parts"])
        self.state = (parts[0] if state["single"] else parts) if parts else None


class LanguageModelTrainer(Trainer):
    """A `Trainer` for models that map tokens (B, T) to (scores (B, T, V), state): next-token cross-entropy over `BPTTBatches`.

    The state at the end of a batch, cut off from the graph, is the start of the next (truncated backpropagation through time);
    each epoch and each evaluation starts without one. Metrics get scores (B, T, V) and targets (B, T): use `Perplexity` or
    `BitsPerToken`. The loss is the mean over tokens.

    Parameters
    ----------
    carry : bool
        False: every batch starts without a state (models with attention; batches that are not contiguous).
    options
        Those of `Trainer`, without loss.
    """

    def __init__(self, model: Any, optimizer: Any, metrics: Mapping[str, Any] | None = None, *, carry: bool = True,
                 callbacks: Iterable[Callback] = (), **options: Any) -> None:  # fmt: skip
        self.carry, self._training_state, self._evaluation_state = carry, _Carried(), None
        super().__init__(model, optimizer, cross_entropy, metrics, callbacks=[self._training_state, *callbacks], **options)

    def forward(self, batch: Any) -> tuple[Any, Any, Any]:
        ids, target = batch
        training = self.model.training
        state = (self._training_state.state if training else self._evaluation_state) if self.carry else None
        scores, state = self.model(ids, state)
        if self.carry and training:
            self._training_state.state = detach_state(state)
        elif self.carry:
            self._evaluation_state = detach_state(state)
        return self.loss(scores.reshape(-1, scores.shape[-1]), target.reshape(-1)), scores, target

    def _evaluate(self, batches: Iterable[Any], interrupted: Callable[[], bool]) -> dict[str, Any]:
        self._evaluation_state = None
        return super()._evaluate(batches, interrupted)


class TeacherForcing:
    """How often a decoder is fed the true token instead of its own: falls with the steps of training (scheduled sampling, Bengio
    et al. 2015).

    Parameters
    ----------
    schedule : "constant", "linear", "exponential" or "inverse_sigmoid"
        From `start` towards `end` within about `steps` steps. Constant stays at `start`; linear ends exactly at `end`;
        exponential covers 99 % of the way; inverse sigmoid is half-way after ``steps / 2``.
    start, end : float
        Probabilities.
    steps : int
        Of the optimizer.

    Examples
    --------
    >>> forcing = TeacherForcing("linear", 1.0, 0.5, steps=100)
    >>> [forcing.ratio(step) for step in (0, 50, 100, 1000)]
    [1.0, 0.75, 0.5, 0.5]
    """

    def __init__(self, schedule: str = "linear", start: float = 1.0, end: float = 0.0, steps: int = 1000) -> None:
        if schedule not in ("constant", "linear", "exponential", "inverse_sigmoid"):
            raise ArgumentError(f"TeacherForcing: schedule={schedule!r}; expected 'constant', 'linear', 'exponential' or "
                                "'inverse_sigmoid'")
        if not (0 <= end <= 1 and 0 <= start <= 1) or steps < 1:
            raise ArgumentError(f"TeacherForcing: start={start} and end={end} must be probabilities, steps={steps} positive")
        self.schedule, self.start, self.end, self.steps = schedule, float(start), float(end), steps

    def ratio(self, step: int) -> float:
        """The probability of the true token at a step of training."""
        done = max(step, 0) / self.steps
        if self.schedule == "constant":
            left = 1.0
        elif self.schedule == "linear":
            left = 1.0 - min(done, 1.0)
        elif self.schedule == "exponential":
            left = 0.01**done
        else:  # a logistic curve, from 0.993 over 0.5 to 0.007
            left = 1.0 / (1.0 + math.exp(min(10 * done - 5, 700.0)))
        return self.end + (self.start - self.end) * left

    def draw(self, step: int, shape: Any, generator: Any = None) -> np.ndarray:
        """Booleans of this shape: True where the true token is fed."""
        from pydl.random import default_generator

        ratio = self.ratio(step)
        return (generator or default_generator).numpy().random(shape) < ratio

    def __repr__(self) -> str:
        return f"TeacherForcing({self.schedule!r}, {self.start}, {self.end}, steps={self.steps})"
