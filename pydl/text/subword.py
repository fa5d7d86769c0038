"""Subword tokens, by the library `tokenizers`: frequent words stay whole, rare ones fall into pieces, nothing is unknown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.errors import ArgumentError
from pydl.graph.engine import TensorCore
from pydl.text.vocabulary import SPECIALS, Vocabulary

__all__ = ["SubwordTokenizer"]


def _library(module: str = "tokenizers") -> Any:
    return require(module, "text", "subword tokenization")


def _bpe(lib: Any, size: int, min_count: int, specials: list[str]) -> tuple[Any, Any]:
    """Byte pairs over bytes: every text can be written (Sennrich et al. 2016; GPT-2)."""
    t = lib.Tokenizer(lib.models.BPE())
    t.pre_tokenizer, t.decoder = lib.pre_tokenizers.ByteLevel(add_prefix_space=False), lib.decoders.ByteLevel()
    alphabet = lib.pre_tokenizers.ByteLevel.alphabet()
    return t, lib.trainers.BpeTrainer(vocab_size=size, min_frequency=min_count, special_tokens=specials, show_progress=False,
                                      initial_alphabet=alphabet)


def _wordpiece(lib: Any, size: int, min_count: int, specials: list[str]) -> tuple[Any, Any]:
    """Pieces inside a word are marked ## (BERT)."""
    t = lib.Tokenizer(lib.models.WordPiece(unk_token="<unk>"))
    t.normalizer, t.pre_tokenizer = lib.normalizers.NFC(), lib.pre_tokenizers.BertPreTokenizer()
    t.decoder = lib.decoders.WordPiece(prefix="##")
    return t, lib.trainers.WordPieceTrainer(vocab_size=size, min_frequency=min_count, special_tokens=specials,
                                            show_progress=False)


def _unigram(lib: Any, size: int, min_count: int, specials: list[str]) -> tuple[Any, Any]:
    """The most probable cut under a model of independent pieces (Kudo 2018)."""
    t = lib.Tokenizer(lib.models.Unigram())
    t.normalizer, t.pre_tokenizer = lib.normalizers.NFC(), lib.pre_tokenizers.Metaspace()
    t.decoder = lib.decoders.Metaspace()
    return t, lib.trainers.UnigramTrainer(vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False)


_KINDS = {"bpe": _bpe, "wordpiece": _wordpiece, "unigram": _unigram}


class SubwordTokenizer:
    """A tokenizer of the library `tokenizers`, with the methods of pydl's own ones.

    `train` learns one from texts, `load` reads any ``tokenizer.json``; special tokens of other names (``[PAD]``, ``<s>``) are
    found under pydl's names too.

    Attributes
    ----------
    tokenizer
        The library's object, for everything else that it can do.
    pad, unk, sos, eos : int or None
        Numbers of the special tokens.
    """

    _ALSO = {"pad": ("<pad>", "[PAD]"), "unk": ("<unk>", "[UNK]"), "sos": ("<sos>", "<s>", "[CLS]", "<|startoftext|>"),
             "eos": ("<eos>", "</s>", "[SEP]", "<|endoftext|>")}  # fmt: skip

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.pad, self.unk, self.sos, self.eos = (self._first(names) for names in self._ALSO.values())

    def _first(self, names: Sequence[str]) -> int | None:
        numbers = (self.tokenizer.token_to_id(n) for n in names)
        return next((n for n in numbers if n is not None), None)

    @classmethod
    def train(
        cls, texts: Iterable[str], kind: str = "bpe", vocab_size: int = 8000, min_count: int = 2,
        specials: Sequence[str] = SPECIALS,
    ) -> SubwordTokenizer:
        """Learn the pieces of these texts.

        Parameters
        ----------
        kind : "bpe", "wordpiece" or "unigram"
            Byte pairs (Sennrich et al. 2016) over bytes; word pieces (Schuster and Nakajima 2012, as in BERT); the unigram
            model (Kudo 2018), for which `min_count` has no meaning.
        vocab_size : int
            Entries in all, special tokens included.

        Raises
        ------
        MissingExtraError
            Without the library: ``pip install 'pydl[text]'``.
        """
        if kind not in _KINDS:
            raise ArgumentError(f"SubwordTokenizer.train: kind={kind!r}; expected one of {', '.join(_KINDS)}")
        if isinstance(texts, str):
            raise ArgumentError("SubwordTokenizer.train: expected several texts, got one; put it into a list")
        if kind != "bpe" and "<unk>" not in specials:
            raise ArgumentError(f"SubwordTokenizer.train: {kind} needs <unk> among the specials, got {tuple(specials)}")
        lib = _library()
        for part in ("models", "trainers", "pre_tokenizers", "normalizers", "decoders"):
            _library(f"tokenizers.{part}")
        tokenizer, trainer = _KINDS[kind](lib, vocab_size, min_count, list(specials))
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SubwordTokenizer:
        """Read a ``tokenizer.json``."""
        lib = _library()
        if not Path(path).is_file():
            raise ArgumentError(f"SubwordTokenizer.load: there is no file {path}")
        try:
            return cls(lib.Tokenizer.from_file(str(path)))
        except Exception as error:
            raise ArgumentError(f"SubwordTokenizer.load: {path} is not a tokenizer.json: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``tokenizer.json``."""
        self.tokenizer.save(str(path))

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @property
    def vocabulary(self) -> Vocabulary:
        """The pieces as a `Vocabulary` without special tokens of its own (a copy)."""
        size = len(self)
        return Vocabulary((self.tokenizer.id_to_token(i) for i in range(size)), specials=())

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text, as the vocabulary writes them."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).tokens)

    def encode(self, text: str, sos: bool = False, eos: bool = False, template: bool = False) -> np.ndarray:
        """The numbers of a text's pieces, int64; `template` adds the special tokens that the tokenizer's own template
        prescribes (``[CLS] ... [SEP]`` of BERT)."""
        numbers = list(self.tokenizer.encode(text, add_special_tokens=template).ids)
        if sos:
            numbers.insert(0, self._required("sos"))
        if eos:
            numbers.append(self._required("eos"))
        return np.array(numbers, np.int64)

    def _required(self, name: str) -> int:
        number: int | None = getattr(self, name)
        if number is None:
            raise ArgumentError(f"SubwordTokenizer: this tokenizer has no {name} token (none of {', '.join(self._ALSO[name])})")
        return number

    def decode(self, numbers: Any, skip_specials: bool = True) -> str:
        """The text of numbers, up to the eos token."""
        flat = np.asarray(numbers.data if isinstance(numbers, TensorCore) else numbers).ravel().tolist()
        if self.eos is not None and self.eos in flat:
            flat = flat[: flat.index(self.eos) + (not skip_specials)]
        return str(self.tokenizer.decode(flat, skip_special_tokens=skip_specials))

    def __repr__(self) -> str:
        return f"SubwordTokenizer({type(self.tokenizer.model).__name__}, {len(self)} tokens)"
