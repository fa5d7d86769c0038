"""Figures for models of text: perplexity, bits per token, BLEU, edit distance and error rates; streaming and in one go."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.graph.modes import no_grad
from pydl.metrics import Metric
from pydl.ops.loss import cross_entropy

__all__ = ["BLEU", "BLEUScore", "BitsPerToken", "Perplexity", "TokenErrorRate", "bleu", "edit_distance", "sentence_bleu",
           "token_error_rate"]  # fmt: skip

_NAN = float("nan")


def _tensor(x: Any) -> Any:
    return x if isinstance(x, TensorCore) else wrap(np.asarray(x))


class Perplexity(Metric):
    """exp of the mean negative log-likelihood of the target tokens: among how many equally likely ones the model hesitates.

    `update` takes scores (..., V) before the softmax, and targets (...).

    Parameters
    ----------
    ignore_index : int
        Targets that do not count (padding).
    """

    counts = ("total", "count")

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        super().__init__()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, output: Any, target: Any) -> None:
        scores, truth = _tensor(output), _tensor(target)
        if scores.data.shape[:-1] != truth.data.shape:
            raise ShapeError(f"[perplexity] output {scores.data.shape} and target {truth.data.shape}; expected (..., V) and "
                             "(...)")
        with no_grad():
            flat = scores.reshape(-1, scores.data.shape[-1])
            loss = cross_entropy(flat, truth.reshape(-1), ignore_index=self.ignore_index, reduction="sum")
        self.total += float(loss.item())
        self.count += int((truth.data != self.ignore_index).sum())

    def add(self, negative_log_likelihood: float, tokens: int) -> None:
        """Take a sum over so many tokens into account that was computed elsewhere."""
        self.total += negative_log_likelihood
        self.count += tokens

    def compute(self) -> float:
        return math.exp(min(self.total / self.count, 700.0)) if self.count else _NAN


class BitsPerToken(Perplexity):
    """The mean negative log2-likelihood of the target tokens: the size of the text if the model compressed it. For models of
    characters: bits per character. `update` as of `Perplexity`."""

    def compute(self) -> float:
        return self.total / self.count / math.log(2) if self.count else _NAN


# --------------------------------------------------------------------------- BLEU


class BLEUScore(NamedTuple):
    """A BLEU score from 0 to 100 with its parts."""

    score: float
    precisions: tuple[float, ...]  # of n-grams, in per cent, smoothed
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int


def _ngrams(tokens: Sequence[Any], n: int) -> Counter[tuple[Any, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def _matches(hypothesis: Sequence[Any], references: Sequence[Sequence[Any]], max_n: int) -> tuple[np.ndarray, int, int]:
    """n-grams ((matched, in all) x max_n), the length, and that of the nearest reference (the shorter of two equally near)."""
    counts = np.zeros((2, max_n), np.int64)
    for n in range(1, max_n + 1):
        found = _ngrams(hypothesis, n)
        best: Counter[tuple[Any, ...]] = Counter()
        for reference in references:
            best |= _ngrams(reference, n)
        counts[:, n - 1] = sum((found & best).values()), sum(found.values())
    near = min((abs(len(r) - len(hypothesis)), len(r)) for r in references)[1]
    return counts, len(hypothesis), near


_SMOOTHINGS = ("none", "exp", "floor", "add-k")


def _precisions(counts: np.ndarray, smoothing: str, value: float | None) -> list[float]:
    """Smoothed n-gram precisions, in per cent, for as many n as the hypothesis has n-grams of."""
    found, halvings = [], 1.0
    for n, (right, total) in enumerate(counts.T.astype(float).tolist(), 1):
        if smoothing == "add-k" and n > 1:
            right, total = right + (1.0 if value is None else value), total + (1.0 if value is None else value)
        if not total:
            break
        if not right and smoothing == "exp":
            halvings *= 2
            right = 1 / halvings
        elif not right and smoothing == "floor":
            right = 0.1 if value is None else value
        found.append(100 * right / total)
    return found


def _score(
    counts: np.ndarray, length: int, reference: int, smoothing: str, value: float | None, effective_order: bool
) -> BLEUScore:
    max_n = counts.shape[1]
    penalty = 1.0 if length >= reference else math.exp(1 - reference / length) if length else 0.0
    found = _precisions(counts, smoothing, value)
    orders = len(found) if effective_order else max_n
    precisions = tuple(found + [0.0] * (max_n - len(found)))
    if not counts[0].any() or not orders or min(precisions[:orders]) <= 0:  # not one token in common counts nothing
        return BLEUScore(0.0, precisions, penalty, length, reference)
    return BLEUScore(penalty * math.exp(sum(map(math.log, precisions[:orders])) / orders), precisions, penalty, length, reference)


class BLEU(Metric):
    """Corpus BLEU (Papineni et al. 2002), 0 to 100: the geometric mean of the clipped n-gram precisions, times a penalty for
    translations that are shorter than their references.

    `update` takes a list of hypotheses, each a list of tokens (or of numbers), and for each a reference or a list of several.

    Parameters
    ----------
    max_n : int
        The longest n-grams.
    smoothing : "exp", "floor", "add-k" or "none"
        What happens to n-gram lengths without a match (Chen and Cherry 2014): the k-th of them counts 1/2^k matches; counts
        `value` (0.1); `value` (1) is added to counts from bigrams on; nothing.
    value : float, optional
        Of the smoothing.
    effective_order : bool
        Leave out n-gram lengths that the hypotheses are too short for.

    Numbers equal those of sacrebleu on the same tokens.
    """

    counts = ("ngrams", "length", "reference")

    def __init__(self, max_n: int = 4, smoothing: str = "exp", value: float | None = None, effective_order: bool = False) -> None:
        if smoothing not in _SMOOTHINGS:
            raise ArgumentError(f"BLEU: smoothing={smoothing!r}; expected one of {', '.join(_SMOOTHINGS)}")
        if max_n < 1:
            raise ArgumentError(f"BLEU: max_n={max_n}; expected a positive integer")
        self.max_n, self.smoothing, self.value, self.effective_order = max_n, smoothing, value, effective_order
        super().__init__()

    def reset(self) -> None:
        self.ngrams, self.length, self.reference = np.zeros((2, self.max_n), np.int64), 0, 0

    def update(self, output: Any, target: Any) -> None:
        if len(output) != len(target):
            raise ShapeError(f"[bleu] {len(output)} hypotheses and {len(target)} references; expected as many")
        for hypothesis, references in zip(output, target, strict=True):
            if isinstance(hypothesis, str):
                raise ArgumentError("bleu: a hypothesis is a text; expected its tokens")
            several = references if len(references) and isinstance(references[0], list | tuple) else [references]
            ngrams, length, reference = _matches(list(hypothesis), [list(r) for r in several], self.max_n)
            self.ngrams, self.length, self.reference = self.ngrams + ngrams, self.length + length, self.reference + reference

    def score(self) -> BLEUScore:
        """The figure with its parts."""
        return _score(self.ngrams, self.length, self.reference, self.smoothing, self.value, self.effective_order)

    def compute(self) -> float:
        return self.score().score if self.length or self.reference else _NAN


def bleu(hypotheses: Sequence[Any], references: Sequence[Any], max_n: int = 4, **options: Any) -> float:
    """Corpus BLEU, 0 to 100; see `BLEU`, which takes the same options.

    Examples
    --------
    >>> round(bleu([["the", "cat", "sat", "on", "the", "mat"]], [["the", "cat", "sat", "on", "a", "mat"]]), 2)
    53.73
    """
    metric = BLEU(max_n, **options)
    metric.update(hypotheses, references)
    return metric.compute()


def sentence_bleu(hypothesis: Sequence[Any], references: Sequence[Any], max_n: int = 4, **options: Any) -> float:
    """BLEU of one sentence; the orders that it is too short for are left out unless told otherwise."""
    return bleu([hypothesis], [references], max_n, **{"effective_order": True, **options})


# --------------------------------------------------------------------------- edit distance


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Fewest insertions, deletions and replacements that make `b` of `a` (Levenshtein 1966), on texts or lists of tokens.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3
    """
    numbers: dict[Any, int] = {}
    x, y = (np.array([numbers.setdefault(t, len(numbers)) for t in s], np.int64) for s in (a, b))
    steps = np.arange(len(y) + 1)
    row = steps.copy()
    for i, token in enumerate(x, 1):
        new = np.minimum(row + 1, i + steps)  # delete; insert everything
        new[1:] = np.minimum(new[1:], row[:-1] + (y != token))
        row = np.minimum.accumulate(new - steps) + steps  # insertions, all at once
    return int(row[-1])


class TokenErrorRate(Metric):
    """Edit distances over the lengths of the references: word, phoneme or character error rate, as the tokens are.

    `update` takes a list of hypotheses and a list of references; a reference may be a list of several, the nearest counts.
    """

    counts = ("errors", "length", "wrong", "sequences")

    def reset(self) -> None:
        self.errors, self.length, self.wrong, self.sequences = 0, 0, 0, 0

    def update(self, output: Any, target: Any) -> None:
        if len(output) != len(target):
            raise ShapeError(f"[token_error_rate] {len(output)} hypotheses and {len(target)} references; expected as many")
        for hypothesis, references in zip(output, target, strict=True):
            several = references if len(references) and isinstance(references[0], list | tuple) else [references]
            errors, length = min((edit_distance(hypothesis, r), len(r)) for r in several)
            self.errors, self.length = self.errors + errors, self.length + length
            self.wrong, self.sequences = self.wrong + (errors > 0), self.sequences + 1

    def compute(self) -> float:
        return self.errors / self.length if self.length else _NAN

    @property
    def sequence_error_rate(self) -> float:
        """The fraction of sequences that are not exactly right."""
        return self.wrong / self.sequences if self.sequences else _NAN


def token_error_rate(hypotheses: Sequence[Any], references: Sequence[Any]) -> float:
    """See `TokenErrorRate`."""
    metric = TokenErrorRate()
    metric.update(hypotheses, references)
    return metric.compute()
