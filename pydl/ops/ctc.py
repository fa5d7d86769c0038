"""Connectionist temporal classification: a loss for sequences whose alignment is not known (Graves et al. 2006)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import wrap
from pydl.ops._common import as_tensor
from pydl.ops.comparison import isinf, masked_fill, where
from pydl.ops.elementwise import add, div, neg
from pydl.ops.index import gather
from pydl.ops.pad import pad
from pydl.ops.reduce import logsumexp, mean, sum
from pydl.ops.shape import expand, squeeze, stack, unsqueeze

__all__ = ["ctc_loss"]


def _padded(targets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """One row for each sequence: as given, or cut out of one long vector."""
    if targets.ndim == 2:
        return targets
    rows = np.zeros((len(lengths), int(lengths.max(initial=0))), np.int64)
    for row, start, n in zip(rows, np.cumsum(lengths) - lengths, lengths, strict=True):
        row[:n] = targets[start : start + n]
    return rows


def _check(x: np.ndarray, targets: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, blank: int) -> None:
    steps, batch, classes = x.shape
    if inputs.shape != (batch,) or outputs.shape != (batch,):
        raise ShapeError(f"[ctc_loss] input_lengths {inputs.shape} and target_lengths {outputs.shape}; expected ({batch},) each, "
                         f"one for each sequence of log_probs {x.shape} (T, N, C)")
    if not 0 <= blank < classes:
        raise ArgumentError(f"[ctc_loss] blank={blank}; expected one of the {classes} classes")
    if batch and not (inputs.min() >= 0 and inputs.max() <= steps):
        raise ArgumentError(f"[ctc_loss] input_lengths from {inputs.min()} to {inputs.max()}; expected 0 to {steps}, steps of "
                            "log_probs")
    room = outputs.sum() if targets.ndim == 1 else targets.shape[-1]
    if targets.ndim not in (1, 2) or (batch and outputs.min() < 0) or (
        len(targets) != room if targets.ndim == 1 else (len(targets) != batch or (batch and outputs.max() > room))
    ):
        raise ShapeError(f"[ctc_loss] targets of shape {targets.shape} for target_lengths {outputs.tolist()[:8]}; expected "
                         "(N, S) with S no less than each length, or all targets in one vector")
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        raise ArgumentError(f"[ctc_loss] targets from {targets.min()} to {targets.max()}; expected 0 to {classes - 1}")


def ctc_loss(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """-log of the probability of all alignments that spell the target, once repetitions are merged and blanks left out.

    Shapes: log_probs (T, N, C) or (T, C), as of `log_softmax`; targets (N, S), or one vector; lengths (N) -> (), or (N) with
    reduction="none".

    Parameters
    ----------
    blank : int
        The class that stands for nothing.
    reduction : {"mean", "sum", "none"}
        "mean" divides each loss by the length of its target first, as in PyTorch.
    zero_infinity : bool
        Count a target that is too long for its input (an infinite loss) as 0.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"[ctc_loss] reduction={reduction!r}; expected 'mean', 'sum' or 'none'")
    single = log_probs.data.ndim == 2
    x = unsqueeze(log_probs, 1) if single else log_probs
    if x.data.ndim != 3 or not x.data.shape[0]:
        raise ShapeError(f"[ctc_loss] log_probs of shape {log_probs.data.shape}; expected (T, N, C) or (T, C), T at least 1")
    inputs, outputs = (np.atleast_1d(np.asarray(as_tensor(v).data)) for v in (input_lengths, target_lengths))
    labels = np.asarray(as_tensor(targets).data)
    labels = labels.reshape(1, -1) if single and labels.ndim == 1 else labels
    _check(x.data, labels, inputs, outputs, blank)
    loss = neg(_log_likelihood(x, _padded(labels, outputs), inputs, outputs, blank))
    if zero_infinity:
        loss = masked_fill(loss, isinf(loss), 0.0)
    if reduction == "mean":
        return mean(div(loss, wrap(np.maximum(outputs, 1).astype(x.data.dtype))))
    if reduction == "sum":
        return sum(loss)
    return squeeze(loss, 0) if single else loss


def _log_likelihood(x: Any, labels: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, blank: int) -> Any:
    """The forward variables of Graves et al., equation 6, in logarithms, for the whole batch at once. -> (N,)"""
    steps, batch, _ = x.data.shape
    spelled = np.full((batch, 2 * labels.shape[1] + 1), blank)  # a blank before, between and behind the labels
    spelled[:, 1::2] = labels
    skips = np.zeros(spelled.shape, bool)  # where the blank before a label may be left out
    skips[:, 2:] = (spelled[:, 2:] != blank) & (spelled[:, 2:] != spelled[:, :-2])
    places = expand(wrap(spelled[None].astype(np.int64)), (steps, *spelled.shape))
    scores = gather(x, 2, places)  # (T, N, 2 S + 1)
    first = np.arange(spelled.shape[1]) < np.where(outputs > 0, 2, 1)[:, None]
    alpha = masked_fill(scores[0], wrap(~first), -np.inf)
    for t in range(1, steps):
        one = pad(alpha, (1, 0), value=-np.inf)[:, :-1]
        two = masked_fill(pad(alpha, (2, 0), value=-np.inf)[:, : spelled.shape[1]], wrap(~skips), -np.inf)
        further = add(logsumexp(stack([alpha, one, two], 2), 2), scores[t])
        alpha = where(wrap((t < inputs)[:, None]), further, alpha)
    ends = np.stack([2 * outputs, np.maximum(2 * outputs - 1, 0)], 1)
    last = gather(alpha, 1, wrap(ends.astype(np.int64)))
    last = masked_fill(last, wrap(np.stack([np.zeros(batch, bool), outputs == 0], 1)), -np.inf)
    return masked_fill(logsumexp(last, 1), wrap((inputs == 0) & (outputs > 0)), -np.inf)
