"""Texts cut into tokens: characters, or words and punctuation; and back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.text.vocabulary import SPECIALS, Vocabulary, read_json

__all__ = ["CharTokenizer", "Tokenizer", "WordTokenizer", "load_tokenizer"]


class Tokenizer:
    """Base: a way to cut texts and a `Vocabulary`. A subclass defines `tokenize` and `join`.

    Parameters
    ----------
    vocabulary : Vocabulary
        `train` builds it from texts instead.
    """

    kind = ""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @classmethod
    def train(
        cls, texts: Iterable[str], min_count: int = 1, max_size: int | None = None, specials: Sequence[str] = SPECIALS,
        **options: Any,
    ) -> Any:
        """A tokenizer whose vocabulary is that of these texts (see `Vocabulary.build`); `options` go to the constructor."""
        if isinstance(texts, str):
            raise ArgumentError(f"{cls.__name__}.train: expected several texts, got one; put it into a list")
        empty = cls(Vocabulary((), specials), **options)
        return cls(Vocabulary.build((empty.tokenize(t) for t in texts), min_count, max_size, specials), **options)

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text."""
        raise NotImplementedError

    def join(self, tokens: Sequence[str]) -> str:
        """A text from pieces."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What the constructor needs beside the vocabulary."""
        return {}

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    def encode(self, text: str, sos: bool = False, eos: bool = False) -> np.ndarray:
        """The numbers of a text's tokens, int64."""
        return self.vocabulary.encode(self.tokenize(text), sos, eos)

    def decode(self, numbers: Any, skip_specials: bool = True) -> str:
        """The text of numbers, up to ``<eos>``."""
        return self.join(self.vocabulary.decode(numbers, skip_specials))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file; `load_tokenizer` reads it."""
        state = {"kind": self.kind, "options": self.options(), **self.vocabulary.state()}
        Path(path).write_text(json.dumps(state, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Any:
        return cls(Vocabulary.from_state(state), **state["options"])

    def __repr__(self) -> str:
        options = "".join(f", {k}={v!r}" for k, v in self.options().items())
        return f"{type(self).__name__}({len(self)} tokens{options})"


class CharTokenizer(Tokenizer):
    """Each character is a token.

    Examples
    --------
    >>> t = CharTokenizer.train(["hello"], specials=())
    >>> t.encode("hole").tolist()
    [2, 3, 0, 1]
    >>> t.decode([2, 3, 0, 1])
    'hole'
    """

    kind = "char"

    def tokenize(self, text: str) -> list[str]:
        return list(text)

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(tokens)


class WordTokenizer(Tokenizer):
    """Words (with inner apostrophes and hyphens), numbers, and every other sign on its own; white space only separates.

    Parameters
    ----------
    lower : bool
        Fold upper case.
    newlines : bool
        Keep the end of a line as the token ``\\n`` (verse, code).

    Examples
    --------
    >>> t = WordTokenizer(Vocabulary([]))
    >>> t.tokenize("Don't go, my well-beloved (2.5 miles)!")
    ["don't", 'go', ',', 'my', 'well-beloved', '(', '2.5', 'miles', ')', '!']
    >>> t.join(t.tokenize("Don't go, my well-beloved (2.5 miles)!"))
    "don't go, my well-beloved (2.5 miles)!"
    """

    kind = "word"
    _PATTERN = r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’\-][^\W\d_]+)*|_+|[^\w\s]"
    _TIGHT_BEFORE = frozenset(".,;:!?)]}’”%\n")
    _TIGHT_AFTER = frozenset("([{“‘$£\n")

    def __init__(self, vocabulary: Vocabulary, lower: bool = True, newlines: bool = False) -> None:
        super().__init__(vocabulary)
        self.lower, self.newlines = lower, newlines
        self._find = re.compile(self._PATTERN + (r"|\w|\n" if newlines else r"|\w")).findall

    def options(self) -> dict[str, Any]:
        return {"lower": self.lower, "newlines": self.newlines}

    def tokenize(self, text: str) -> list[str]:
        return self._find(text.lower() if self.lower else text)

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens with a blank between them, none before closing and after opening signs. Which blanks there were is not known."""
        parts: list[str] = []
        for token in tokens:
            if parts and token not in self._TIGHT_BEFORE and parts[-1] not in self._TIGHT_AFTER:
                parts.append(" ")
            parts.append(token)
        return "".join(parts)


_KINDS: dict[str, type[Tokenizer]] = {t.kind: t for t in (CharTokenizer, WordTokenizer)}


def load_tokenizer(path: str | os.PathLike[str]) -> Any:
    """The character or word tokenizer that `Tokenizer.save` wrote; subword tokenizers: `SubwordTokenizer.load`."""
    state = read_json(path, "load_tokenizer", ("kind", "options", "specials", "tokens"))
    if state["kind"] not in _KINDS:
        raise ArgumentError(f"load_tokenizer: {path} has kind {state['kind']!r}; expected one of {', '.join(_KINDS)}")
    return _KINDS[state["kind"]].from_state(state)
