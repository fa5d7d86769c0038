"""The table between tokens and their numbers."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import TensorCore

__all__ = ["SPECIALS", "Vocabulary"]

SPECIALS = ("<pad>", "<unk>", "<sos>", "<eos>")  # padding, not in the vocabulary, start and end of a sequence


class Vocabulary:
    """Tokens and their numbers 0, 1, 2, ...; the special tokens come first.

    Parameters
    ----------
    tokens : iterable of str
        All tokens but the special ones, in the order of their numbers.
    specials : sequence of str
        Those of ``<pad>``, ``<unk>``, ``<sos>``, ``<eos>`` that are wanted, and others of one's own. Without ``<unk>`` an
        unknown token is an error.

    Attributes
    ----------
    pad, unk, sos, eos : int or None
        The numbers of the special tokens.

    Examples
    --------
    >>> v = Vocabulary.build([["a", "b", "a"], ["a", "c"]], min_count=1)
    >>> v.encode(["a", "c", "x"], eos=True).tolist()
    [4, 6, 1, 3]
    >>> v.decode([4, 6, 3, 5])
    ['a', 'c']
    """

    def __init__(self, tokens: Iterable[str], specials: Sequence[str] = SPECIALS) -> None:
        self.specials = tuple(specials)
        self.tokens: list[str] = [*self.specials, *tokens]
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            twice = [t for t, n in Counter(self.tokens).items() if n > 1][:5]
            raise ArgumentError(f"Vocabulary: tokens {twice} come more than once; each needs one number")
        self.pad, self.unk, self.sos, self.eos = (self._ids[t] if t in self.specials else None for t in SPECIALS)
        self._special_ids = frozenset(range(len(self.specials)))

    @classmethod
    def build(
        cls, sequences: Iterable[Iterable[str]], min_count: int = 1, max_size: int | None = None,
        specials: Sequence[str] = SPECIALS,
    ) -> Vocabulary:
        """The tokens of these sequences, from frequent to rare (ties in the order of their characters).

        Parameters
        ----------
        min_count : int
            Leave out what is rarer.
        max_size : int, optional
            Keep the most frequent: entries in all, special tokens included.
        """
        counts: Counter[str] = Counter()
        for sequence in sequences:
            if isinstance(sequence, str) and len(sequence) > 1:
                raise ArgumentError("Vocabulary.build: expected sequences of tokens, got a text; tokenize it first, or list() it "
                                    "for characters")
            counts.update(sequence)
        return cls.from_counts(counts, min_count, max_size, specials)

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], min_count: int = 1, max_size: int | None = None, specials: Sequence[str] = SPECIALS
    ) -> Vocabulary:
        """As `build`, from a count for each token."""
        if max_size is not None and max_size < len(specials):
            raise ArgumentError(f"Vocabulary: max_size={max_size} leaves no room for the {len(specials)} special tokens")
        ranked = sorted((t for t, n in counts.items() if n >= min_count and t not in specials), key=lambda t: (-counts[t], t))
        return cls(ranked if max_size is None else ranked[: max_size - len(specials)], specials)

    # ------------------------------------------------------------------ look-up
    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and (self.tokens, self.specials) == (other.tokens, other.specials)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, token: str) -> int:
        """The number of a token: that of ``<unk>`` if it is not here, or `ArgumentError` where there is no ``<unk>``."""
        number = self._ids.get(token, self.unk)
        if number is None:
            raise ArgumentError(f"Vocabulary: {token!r} is not among the {len(self)} tokens, and there is no <unk> among the "
                                f"specials {self.specials}")
        return number

    def token(self, number: int) -> str:
        """The token of a number."""
        if not 0 <= number < len(self.tokens):
            raise ArgumentError(f"Vocabulary: number {number} is outside 0 to {len(self) - 1}")
        return self.tokens[number]

    def encode(self, tokens: Iterable[str], sos: bool = False, eos: bool = False) -> np.ndarray:
        """The numbers of tokens, int64; with `sos` and `eos` the start and end tokens around them."""
        numbers = [self[t] for t in tokens]
        if sos:
            numbers.insert(0, self.special("<sos>"))
        if eos:
            numbers.append(self.special("<eos>"))
        return np.array(numbers, np.int64)

    def special(self, token: str) -> int:
        """The number of a special token, or `ArgumentError` if this vocabulary has none of the name."""
        if token not in self.specials:
            raise ArgumentError(f"Vocabulary: {token} is not among the special tokens {self.specials}; make it with "
                                f"specials={SPECIALS}")
        return self._ids[token]

    def decode(self, numbers: Any, skip_specials: bool = True, stop: bool = True) -> list[str]:
        """The tokens of numbers; nothing after ``<eos>`` with `stop`, and no special ones with `skip_specials`."""
        found = []
        for number in np.asarray(numbers.data if isinstance(numbers, TensorCore) else numbers).ravel().tolist():
            token = self.token(int(number))
            if stop and number == self.eos:
                if not skip_specials:
                    found.append(token)
                break
            if not (skip_specials and number in self._special_ids):
                found.append(token)
        return found

    def coverage(self, tokens: Iterable[str]) -> float:
        """The fraction of these tokens that has a number of its own."""
        known = [t in self._ids for t in tokens]
        return sum(known) / len(known) if known else float("nan")

    # ------------------------------------------------------------------ files
    def state(self) -> dict[str, Any]:
        return {"specials": list(self.specials), "tokens": self.tokens[len(self.specials) :]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file."""
        Path(path).write_text(json.dumps(self.state(), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read what `save` wrote."""
        return cls.from_state(read_json(path, "Vocabulary", ("specials", "tokens")))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Vocabulary:
        return cls(state["tokens"], state["specials"])

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, specials={self.specials})"


def read_json(path: str | os.PathLike[str], what: str, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON object with these keys, or `ArgumentError` naming the file."""
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{what}: {path} is not JSON: {error}") from None
    if not isinstance(state, dict) or not set(keys) <= set(state):
        raise ArgumentError(f"{what}: {path} is not one that {what}.save wrote; expected an object with {', '.join(keys)}")
    return state
