"""Text from models, token by token: greedy, sampled, by beam search; streamed if wanted.

Any model takes part that has two methods (the protocol `StepModel`):

- ``step(ids, state) -> (scores, state)``: ids (B, T) int64 are the next T tokens of B sequences; scores (B, V) are those of the
  token after the last one, before the softmax. The state is whatever the model needs of the past: a recurrent state, a list of
  `KeyValueCache`, an encoder's output; None at the beginning, unless the caller gives one (an encoder-decoder's). A state is
  used up by the call: go on with the one returned.
- ``select(state, index) -> state``: the sequences of these numbers, in this order, maybe repeatedly (only beam search asks).

Everything runs under `pydl.no_grad` and in evaluation mode. Randomness comes from a `pydl.Generator`: the same seed gives the
same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from pydl.errors import ArgumentError, NonFiniteError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.graph.modes import no_grad

__all__ = [
    "Generated", "Hypothesis", "StepModel", "beam_search", "generate", "length_penalty", "process_scores", "select_rows",
    "stream",
]


@runtime_checkable
class StepModel(Protocol):
    """What generation asks of a model; see the module's description."""

    def step(self, ids: Any, state: Any) -> tuple[Any, Any]: ...

    def select(self, state: Any, index: np.ndarray) -> Any: ...


class Generated(NamedTuple):
    """What `generate` returns: for each sequence the new tokens without <eos>, their log-probability together (under the
    model's own distribution, <eos> included), and whether it ended by <eos>."""

    tokens: list[np.ndarray]
    log_probs: np.ndarray
    finished: np.ndarray


class Hypothesis(NamedTuple):
    """A sequence that `beam_search` found: new tokens without <eos>, their log-probability (<eos> included), that divided by the
    length penalty, and whether it ended by <eos>."""

    tokens: np.ndarray
    log_prob: float
    score: float
    finished: bool


# --------------------------------------------------------------------------- pieces


def select_rows(state: Any, index: Any, axis: int = 1) -> Any:
    """For `StepModel.select`: takes these rows along the batch axis of every tensor in a state.

    Tensors, tuples, lists and dictionaries of states, None, and anything with a method ``select(index)`` such as `KeyValueCache`
    (changed in place). The batch axis of recurrent states (layers, B, H) is 1; for (B, ...) give ``axis=0``.
    """
    if state is None:
        return None
    if isinstance(state, TensorCore):
        return wrap(np.ascontiguousarray(np.take(state.data, index, axis)))
    if isinstance(state, dict):
        return {k: select_rows(v, index, axis) for k, v in state.items()}
    if isinstance(state, tuple | list):
        parts = (select_rows(s, index, axis) for s in state)
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if hasattr(state, "select"):
        state.select(index)
        return state
    raise ArgumentError(f"select_rows: a state of type {type(state).__name__} has no select(index); write the model's own select")


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    top = scores.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return scores - top - np.log(np.exp(scores - top).sum(-1, keepdims=True))


def process_scores(
    scores: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, repetition_penalty: float = 1.0,
    previous: Sequence[Any] | None = None, forbidden: Sequence[int] = (),
) -> np.ndarray:
    """Log-probabilities to draw from, float64, -inf where a token is left out. Shape: (B, V) -> (B, V).

    Parameters
    ----------
    temperature : float
        Divides the scores: below 1 sharper, above 1 flatter.
    top_k : int, optional
        Keep the k best tokens (the first of equals).
    top_p : float, optional
        Of what is left, keep the fewest tokens whose probabilities reach p (nucleus sampling, Holtzman et al. 2020).
    repetition_penalty : float
        Positive scores of tokens in `previous` (one sequence of numbers for each row) are divided by it, negative ones
        multiplied (Keskar et al. 2019, CTRL).
    forbidden : sequence of int
        Tokens that never come (<pad>, <unk>, <sos>).
    """
    x = np.array(scores.data if isinstance(scores, TensorCore) else scores, np.float64)
    if x.ndim != 2:
        raise ShapeError(f"[process_scores] scores of shape {x.shape}; expected (B, V)")
    if not temperature > 0 or not repetition_penalty > 0:
        raise ArgumentError(f"process_scores: temperature={temperature} and repetition_penalty={repetition_penalty} must be "
                            "positive")
    if top_k is not None and top_k < 1:
        raise ArgumentError(f"process_scores: top_k={top_k}; expected a positive integer or None")
    if top_p is not None and not 0 < top_p <= 1:
        raise ArgumentError(f"process_scores: top_p={top_p}; expected a probability above 0, or None")
    if repetition_penalty != 1 and previous is not None:
        for row, seen in zip(x, previous, strict=True):
            known = np.unique(np.asarray(seen, np.int64))
            row[known] = np.where(row[known] > 0, row[known] / repetition_penalty, row[known] * repetition_penalty)
    x[:, list(forbidden)] = -np.inf
    if not np.isfinite(x.max(-1, initial=-np.inf)).all():
        raise ArgumentError("process_scores: a row has no finite score: all tokens are forbidden, or it holds NaN or "
                            "infinity")
    x = _log_softmax(x / temperature)
    if (top_k is None or top_k >= x.shape[1]) and top_p in (None, 1.0):
        return x
    order = np.argsort(-x, axis=1, kind="stable")
    ranked = np.take_along_axis(x, order, 1)
    if top_k is not None:
        ranked[:, top_k:] = -np.inf
    if top_p is not None:
        p = np.exp(_log_softmax(ranked))
        ranked[np.cumsum(p, 1) - p >= top_p] = -np.inf  # the best token always stays: nothing stands before it
    np.put_along_axis(x, order, _log_softmax(ranked), 1)
    return x


def _draw(log_p: np.ndarray, generator: Any) -> np.ndarray:
    """One token for each row by inverting the cumulative distribution."""
    from pydl.random import rand

    edges = np.cumsum(np.exp(log_p), 1)
    u = rand(len(log_p), generator=generator, dtype=np.float64).data * edges[:, -1]
    return np.array([np.searchsorted(e, v, side="right") for e, v in zip(edges, u, strict=True)], np.int64)


def _advance(model: Any, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """One call of the model, in evaluation mode; scores as float64 (B, V)."""
    modes = [(m, m.training) for m in model.modules()] if getattr(model, "training", False) else []
    if modes:
        model.eval()
    try:
        with no_grad():
            scores, state = model.step(wrap(np.ascontiguousarray(ids)), state)
    finally:
        for module, mode in modes:
            module.training = mode
    if scores.data.ndim != 2 or len(scores.data) != len(ids):
        raise ShapeError(f"[generation] {type(model).__name__}.step gave scores of shape {scores.data.shape} for ids of "
                         f"{ids.shape}; expected ({len(ids)}, V)")
    if not np.isfinite(scores.data.max(-1)).all():
        raise NonFiniteError(f"[generation] {type(model).__name__}.step gave scores that are NaN or infinite")
    return scores.data.astype(np.float64), state


def _prompt(prompt: Any, length: int) -> np.ndarray:
    ids = np.asarray(prompt.data if isinstance(prompt, TensorCore) else prompt)
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
        raise ShapeError(f"[generation] prompt of shape {ids.shape} and dtype {ids.dtype}; expected integers (B, T) or (T,) with "
                         "at least one token each, such as <sos>")
    if length < 1:
        raise ArgumentError(f"generation: max_length={length}; expected a positive number of new tokens")
    return ids.astype(np.int64)


# --------------------------------------------------------------------------- one token after the other


def _tokens(
    model: Any, ids: np.ndarray, max_length: int, eos: int | None, state: Any, temperature: float, generator: Any,
    repetition_penalty: float, options: dict[str, Any],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(token, its log-probability under the model) for each sequence; -1 and 0 once it has ended."""
    ended = np.zeros(len(ids), bool)
    seen = [list(row) for row in ids.tolist()] if repetition_penalty != 1 else None
    new = ids
    for _ in range(max_length):
        scores, state = _advance(model, new, state)
        log_p = process_scores(scores, temperature or 1.0, repetition_penalty=repetition_penalty, previous=seen, **options)
        token = log_p.argmax(1) if temperature == 0 else _draw(log_p, generator)
        gain = np.take_along_axis(_log_softmax(scores), token[:, None], 1)[:, 0]
        yield np.where(ended, -1, token), np.where(ended, 0.0, gain)
        if seen is not None:
            for row, t in zip(seen, token.tolist(), strict=True):
                row.append(t)
        if eos is not None:
            ended |= token == eos
            if ended.all():
                return
        new = token[:, None]


def stream(
    model: Any, prompt: Any, max_length: int, *, eos: int | None = None, state: Any = None, temperature: float = 1.0,
    top_k: int | None = None, top_p: float | None = None, repetition_penalty: float = 1.0, forbidden: Sequence[int] = (),
    generator: Any = None,
) -> Iterator[Any]:
    """Yields tokens as they are made: a number each time for a prompt (T,), an array (B,) for a prompt (B, T).

    Parameters
    ----------
    model : StepModel
    prompt : integers (T,) or (B, T)
        What the sequences begin with (at least ``<sos>``); it is not repeated.
    max_length : int
        At most so many new tokens.
    eos : int, optional
        The token that ends a sequence; it is yielded, then -1 for that sequence. All ended: the stream ends.
    state : optional
        What the model starts from (an encoder's output).
    temperature : float
        0 takes the best token each time (greedy).
    top_k, top_p, repetition_penalty, forbidden
        As of `process_scores`; the prompt counts as repeated.
    generator : pydl.Generator, optional
        Default: the one that `pydl.manual_seed` seeds.
    """
    one = np.ndim(prompt.data if isinstance(prompt, TensorCore) else prompt) == 1
    options = {"top_k": top_k, "top_p": top_p, "forbidden": forbidden}
    if temperature < 0:
        raise ArgumentError(f"stream: temperature={temperature}; expected 0 (greedy) or a positive number")
    run = _tokens(model, _prompt(prompt, max_length), max_length, eos, state, temperature, generator, repetition_penalty, options)
    return (int(token[0]) if one else token for token, _ in run)


def generate(
    model: Any, prompt: Any, max_length: int, *, eos: int | None = None, state: Any = None, temperature: float = 0.0,
    top_k: int | None = None, top_p: float | None = None, repetition_penalty: float = 1.0, forbidden: Sequence[int] = (),
    generator: Any = None,
) -> Generated:
    """Continues each prompt, by the best token each time (greedy, the default) or by sampling with ``temperature`` above 0.

    Parameters as of `stream`; prompt (T,) counts as (1, T).

    Examples
    --------
    >>> import numpy as np, pydl
    >>> class Counts:  # each token is followed by the next number, modulo 5
    ...     def step(self, ids, state):
    ...         return pydl.from_numpy(np.eye(5, dtype=np.float32)[(ids.data[:, -1] + 1) % 5] * 9), state
    >>> generate(Counts(), [[1], [3]], 4, eos=0).tokens
    [array([2, 3, 4]), array([4])]
    """
    if temperature < 0:
        raise ArgumentError(f"generate: temperature={temperature}; expected 0 (greedy) or a positive number")
    ids = _prompt(prompt, max_length)
    options = {"top_k": top_k, "top_p": top_p, "forbidden": forbidden}
    steps = list(_tokens(model, ids, max_length, eos, state, temperature, generator, repetition_penalty, options))
    table = np.stack([token for token, _ in steps], 1)
    finished = (table == eos).any(1) if eos is not None else np.zeros(len(ids), bool)
    rows = [row[(row >= 0) & (row != (-1 if eos is None else eos))] for row in table]
    return Generated(rows, np.sum([gain for _, gain in steps], 0), finished)


# --------------------------------------------------------------------------- beam search


def length_penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha, by which log-probabilities are divided so that long outputs are not at a disadvantage (Wu et al.
    2016, equation 14)."""
    return ((5.0 + length) / 6.0) ** alpha


class _Beam:
    """The search for one sequence: what is still growing, and what has ended."""

    def __init__(self, width: int, alpha: float, max_length: int) -> None:
        self.width, self.alpha, self.max_length = width, alpha, max_length
        self.live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        self.ended: list[Hypothesis] = []

    def _hypothesis(self, log_prob: float, tokens: tuple[int, ...], finished: bool) -> Hypothesis:
        score = log_prob / length_penalty(len(tokens) + finished, self.alpha)
        return Hypothesis(np.array(tokens, np.int64), log_prob, score, finished)

    def grow(self, log_p: np.ndarray, eos: int | None) -> list[int]:
        """Extends all by one token, given log-probabilities (live, V); the row that each survivor comes from."""
        total = np.array([score for score, _ in self.live])[:, None] + log_p
        flat = total.ravel()
        # At most one candidate in each row ends, so that twice the width leaves enough that go on.
        wanted = min(2 * self.width, flat.size)
        best = np.argpartition(-flat, wanted - 1)[:wanted]
        best = best[np.lexsort((best, -flat[best]))]
        origins: list[int] = []
        live: list[tuple[float, tuple[int, ...]]] = []
        for rank, place in enumerate(best.tolist()):
            row, token = divmod(place, log_p.shape[1])
            log_prob = float(flat[place])
            if log_prob == -np.inf:
                break
            if token == eos:
                if rank < self.width:
                    self.ended.append(self._hypothesis(log_prob, self.live[row][1], True))
            elif len(live) < self.width:
                live.append((log_prob, (*self.live[row][1], token)))
                origins.append(row)
        self.live = live
        self.ended = sorted(self.ended, key=lambda h: -h.score)[: self.width]
        return origins

    def done(self) -> bool:
        """Whether nothing that still grows can become better than the worst of the ended."""
        if not self.live:
            return True
        if len(self.ended) < self.width:
            return False
        # Log-probabilities only fall, and with alpha >= 0 the longest sequence has the mildest penalty.
        bound = self.live[0][0] / length_penalty(self.max_length, self.alpha)
        return bound <= self.ended[-1].score

    def best(self) -> list[Hypothesis]:
        """The ended ones from best to worst; behind them, if they are fewer than the width, those that were cut off."""
        cut = sorted((self._hypothesis(s, t, False) for s, t in self.live), key=lambda h: -h.score)
        return (self.ended + cut)[: self.width]


def beam_search(
    model: Any, prompt: Any, max_length: int, *, width: int = 4, eos: int | None = None, state: Any = None, alpha: float = 0.6,
    forbidden: Iterable[int] = (),
) -> list[list[Hypothesis]]:
    """The most probable continuations that a search of limited width finds: for each prompt up to `width`, best first.

    At each step the `width` best partial sequences are kept. One that ends counts if it is among the `width` best then. The
    search ends when nothing that still grows can overtake. With a width of all sequences it is exhaustive.

    Parameters
    ----------
    model : StepModel
        With ``select``.
    prompt : integers (B, T) or (T,)
    max_length : int
        At most so many new tokens, <eos> included.
    width : int
        1 with ``alpha=0`` is greedy search.
    state : optional
        What the model starts from, for B sequences.
    alpha : float
        Of `length_penalty`; 0 ranks by the log-probability alone. The length counts <eos>.
    forbidden : iterable of int
        Tokens that never come.
    """
    if width < 1 or alpha < 0:
        raise ArgumentError(f"beam_search: width={width} must be positive and alpha={alpha} not negative")
    ids, never = _prompt(prompt, max_length), list(forbidden)
    beams = [_Beam(width, alpha, max_length) for _ in ids]
    active = list(range(len(ids)))
    new = ids
    for step in range(max_length):
        scores, state = _advance(model, new, state)
        log_p = _log_softmax(scores)
        log_p[:, never] = -np.inf
        origins: list[int] = []
        last: list[int] = []
        growing, row = [], 0
        for number in active:
            beam, rows = beams[number], len(beams[number].live)
            came = beam.grow(log_p[row : row + rows], eos)
            if not beam.done():
                origins += [row + o for o in came]
                last += [tokens[-1] for _, tokens in beam.live]
                growing.append(number)
            row += rows
        active = growing
        if not active or step + 1 == max_length:
            break
        if origins != list(range(row)):
            state = model.select(state, np.array(origins, np.int64))
        new = np.array(last, np.int64)[:, None]
    return [beam.best() for beam in beams]
