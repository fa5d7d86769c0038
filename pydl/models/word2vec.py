"""Vectors of words from the words around them: skip-gram and CBOW with negative sampling.

Sources: Mikolov, Chen, Corrado and Dean, "Efficient Estimation of Word Representations in Vector Space" (2013),
arXiv:1301.3781; Mikolov et al., "Distributed Representations of Words and Phrases" (2013), arXiv:1310.4546.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.data.context import sample_generator
from pydl.data.dataset import Dataset
from pydl.errors import ArgumentError, ShapeError
from pydl.nn.row_embedding import RowEmbedding

__all__ = ["NegativeSampler", "Word2Vec", "WordContexts", "negative_sampling_loss"]


class Word2Vec(nn.Module):
    """Two tables of vectors; the score of a word beside others is the product of its output vector with their input vectors.

    Shapes: words (N) for skip-gram, or (N, W) for CBOW, whose mean counts (-1: no word); candidates (N, 1 + K) -> scores
    (N, 1 + K). Both tables are `nn.RowEmbedding`: train them with `optim.SparseAdam(model.tables)`.

    Parameters
    ----------
    vocab_size, dim : int
        Words, and the length of a vector.
    """

    def __init__(self, vocab_size: int, dim: int = 100) -> None:
        super().__init__()
        self.input, self.output = RowEmbedding(vocab_size, dim), RowEmbedding(vocab_size, dim)
        nn.init.uniform_(self.input.weight, -0.5 / dim, 0.5 / dim)
        nn.init.zeros_(self.output.weight)

    @property
    def tables(self) -> list[RowEmbedding]:
        return [self.input, self.output]

    def forward(self, words: Any, candidates: Any) -> Any:
        words, candidates = pydl.as_tensor(words), pydl.as_tensor(candidates)
        if words.ndim not in (1, 2) or candidates.ndim != 2 or len(words) != len(candidates):
            raise ShapeError(f"[word2vec] words of shape {words.shape} and candidates of shape {candidates.shape}, expected "
                             "(N) or (N, W), and (N, 1 + K)")
        x = self.input(words) if words.ndim == 1 else self._mean(words.data)
        return self.output.dots(x, candidates)

    def _mean(self, words: np.ndarray) -> Any:
        """The mean of the vectors of each row's words: (N, W) -> (N, dim)."""
        present = words >= 0
        counts = present.sum(1, keepdims=True)
        if not counts.all():
            raise ArgumentError(f"[word2vec] row {int(counts.argmin())} of words has none; leave it out of the batch")
        share = (present / counts).astype(self.input.weight.dtype)
        return self.input.bag(np.where(present, words, 0), pydl.from_numpy(share))

    def vectors(self) -> np.ndarray:
        """The input vectors, scaled to length 1: (vocab_size, dim). Their products are cosines."""
        v = self.input.weight.data
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)


def negative_sampling_loss(scores: Any, target: Any = None) -> Any:
    """-log s(x_0) - sum over k of log s(-x_k), the mean over N: the true word in column 0, drawn ones after it.

    Shapes: scores (N, 1 + K) -> scalar. `target` is accepted for the trainer's sake: zeros, the true word's column.

    Source: Mikolov et al. 2013, equation 4.
    """
    truth = np.zeros(scores.shape, scores.data.dtype)
    truth[:, 0] = 1
    return pydl.binary_cross_entropy_with_logits(scores, pydl.from_numpy(truth), reduction="sum") / max(len(scores), 1)


class NegativeSampler:
    """Draws words in proportion to a power of their counts, each draw in constant time (Walker's alias method).

    Parameters
    ----------
    counts : sequence of int
        How often each word occurs.
    power : float
        0.75, as published, draws rare words a little more often than they occur.
    """

    def __init__(self, counts: Any, power: float = 0.75) -> None:
        weights = np.asarray(counts, np.float64) ** power
        if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.sum():
            raise ArgumentError("NegativeSampler: counts must be a vector of numbers, not negative and not all zero")
        share = weights / weights.sum() * len(weights)
        self.keep, self.alias = np.ones(len(share)), np.arange(len(share))
        small, large = (list(np.flatnonzero(m)) for m in (share < 1, share >= 1))
        while small and large:  # a column of height 1 for each word, filled up by one other word
            low, high = small.pop(), large[-1]
            self.keep[low], self.alias[low] = share[low], high
            share[high] -= 1 - share[low]
            if share[high] < 1:
                small.append(large.pop())

    def __call__(self, shape: Any, rng: np.random.Generator) -> np.ndarray:
        """Word numbers, int64."""
        columns = rng.integers(len(self.keep), size=shape)
        return np.where(rng.random(shape) < self.keep[columns], columns, self.alias[columns])


class WordContexts(Dataset):
    """Samples for `Word2Vec`, drawn anew in every epoch; each is a whole batch: ``DataLoader(contexts, batch_size=None)``.

    A sample is (words, candidates, zeros): for skip-gram one row for each pair of a word and one near it, for CBOW one for
    each word with all those near it. Frequent words are left out at random before (probability 1 - sqrt(threshold / share)),
    the distance is drawn from 1 to `window` for each word, and `negatives` random words stand behind each true one.

    Parameters
    ----------
    sentences : sequence of integer arrays
        Numbers of words; a context does not reach beyond its sentence. Negative numbers (unknown words) are left out.
    vocab_size : int
    kind : "skipgram" or "cbow"
    window, negatives : int
    threshold : float
        Share of the text above which words are left out at random; 0 keeps all.
    tokens : int
        Words of text in a batch, before any are left out.

    Source: Mikolov et al. 2013, section 2.
    """

    def __init__(
        self, sentences: Sequence[Any], vocab_size: int, kind: str = "skipgram", window: int = 5, negatives: int = 5,
        threshold: float = 1e-3, tokens: int = 2000, power: float = 0.75,
    ) -> None:
        if kind not in ("skipgram", "cbow"):
            raise ArgumentError(f"WordContexts: kind={kind!r}; expected 'skipgram' or 'cbow'")
        if min(window, negatives, tokens) < 1 or threshold < 0:
            raise ArgumentError(f"WordContexts: window={window}, negatives={negatives}, tokens={tokens}, threshold={threshold}; "
                                "expected positive numbers (threshold at least 0)")
        text = np.concatenate([np.asarray(s, np.int64) for s in sentences] or [np.zeros(0, np.int64)])
        number = np.repeat(np.arange(len(sentences)), [len(s) for s in sentences])
        known = text >= 0
        self.text, self.sentence = text[known], number[known]
        if not len(self.text) or self.text.max() >= vocab_size:
            raise ArgumentError(f"WordContexts: expected words with numbers from 0 to {vocab_size - 1}, at least one")
        self.counts = np.bincount(self.text, minlength=vocab_size)
        self.kind, self.window, self.negatives, self.tokens = kind, window, negatives, tokens
        share = self.counts / len(self.text)
        self.keep = np.sqrt(threshold / np.maximum(share, 1e-12)) if threshold else np.ones(vocab_size)
        self.sampler = NegativeSampler(self.counts, power)

    def __len__(self) -> int:
        return -(-len(self.text) // self.tokens)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"WordContexts: batch {index} of {len(self)}")
        rng = sample_generator()
        span = slice(index * self.tokens, (index + 1) * self.tokens)
        text, sentence = self.text[span], self.sentence[span]
        kept = rng.random(len(text)) < self.keep[text]
        words, truth = (self._pairs if self.kind == "skipgram" else self._windows)(text[kept], sentence[kept], rng)
        drawn = self.sampler((len(truth), self.negatives), rng)
        return words, np.concatenate([truth[:, None], drawn], 1), np.zeros(len(truth), np.int64)

    def _near(self, text: np.ndarray, sentence: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n, 2 window): the words near each, -1 where there is none."""
        n, reach = len(text), rng.integers(1, self.window + 1, size=len(text))
        near = np.full((n, 2 * self.window), -1)
        for d in range(1, min(self.window, n - 1) + 1):
            same = sentence[d:] == sentence[:-d]
            before, after = same & (reach[d:] >= d), same & (reach[:-d] >= d)
            near[d:, d - 1][before] = text[:-d][before]
            near[:-d, self.window + d - 1][after] = text[d:][after]
        return near

    def _pairs(self, text: np.ndarray, sentence: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        near = self._near(text, sentence, rng)
        rows, columns = np.nonzero(near >= 0)
        return text[rows], near[rows, columns]

    def _windows(self, text: np.ndarray, sentence: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        near = self._near(text, sentence, rng)
        some = (near >= 0).any(1)
        return near[some], text[some]
