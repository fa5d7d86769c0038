"""Letters to phonemes: a GRU reads the word, another writes its pronunciation, starting from the first one's last state.

Source: Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks" (2014), arXiv:1409.3215; the
weights are those of Park and Kim's package g2p-en.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError

__all__ = ["GraphemeToPhoneme"]

LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_SOUNDS = ("AA0-2 AE0-2 AH0-2 AO0-2 AW0-2 AY0-2 B CH D DH EH0-2 ER0-2 EY0-2 F G HH IH0-2 IY0-2 JH K L M N NG OW0-2 OY0-2 P R "
           "S SH T TH UH0-2 UW UW0-2 V W Y Z ZH")
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>", *(
    sound for name in _SOUNDS.split() for sound in ([name[:2] + stress for stress in "012"] if "-" in name else [name])
))  # fmt: skip
_UNKNOWN, _LAST_LETTER, _START, _END = 1, 2, 2, 3


class GraphemeToPhoneme(nn.Module):
    """Two GRUs, each with a table of vectors, and a linear layer over the phonemes: 834,890 parameters by default.

    Shapes: letters (N, T) integers, lengths (N), phonemes (N, S), shifted by one -> scores (N, S, len(PHONEMES)).

    Parameters
    ----------
    letters, phonemes : int
        Sizes of the two tables.
    hidden_size : int
        Of vectors and states.

    Weights: ``checkpoint20.npz`` in the package g2p-en.
    """

    def __init__(self, letters: int = len(LETTERS), phonemes: int = len(PHONEMES), hidden_size: int = 256) -> None:
        super().__init__()
        self.encoder_embedding = nn.Embedding(letters, hidden_size)
        self.encoder = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.decoder_embedding = nn.Embedding(phonemes, hidden_size)
        self.decoder = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, phonemes)

    @staticmethod
    def published_name(key: str) -> str:
        """The name here of an array in the published file (``enc_w_ih``, ``fc_b``)."""
        part, _, rest = key.partition("_")
        kind = {"w": "weight", "b": "bias"}
        if part == "fc" and rest in kind:
            return f"fc.{kind[rest]}"
        coder = {"enc": "encoder", "dec": "decoder"}.get(part)
        if coder is None:
            return key
        if rest == "emb":
            return f"{coder}_embedding.weight"
        return f"{coder}.{kind[rest[0]]}{rest[1:]}_l0" if rest[:2] in ("w_", "b_") else key

    def encode(self, letters: Any, lengths: Any = None) -> Any:
        """The state after the word: (N, T) -> (1, N, hidden_size)."""
        return self.encoder(self.encoder_embedding(letters), lengths=lengths)[1]

    def forward(self, letters: Any, lengths: Any, phonemes: Any) -> Any:
        outputs, _ = self.decoder(self.decoder_embedding(phonemes), self.encode(letters, lengths))
        return self.fc(outputs)

    def predict(self, words: Sequence[str], longest: int = 20) -> list[list[str]]:
        """Pronunciations, the likeliest phoneme at each step.

        Parameters
        ----------
        words : sequence of str
            Capitals count as small letters; what is no letter from a to z is read as unknown.
        longest : int
            Phonemes after which a word ends in any case.

        Examples
        --------
        >>> from pydl import models
        >>> model = models.load_pretrained("g2p", download=True)  # doctest: +SKIP
        >>> model.predict(["shakespeare"])  # doctest: +SKIP
        [['SH', 'EY1', 'K', 'S', 'P', 'IY2', 'R']]
        """
        if isinstance(words, str) or not all(words):
            raise ArgumentError("GraphemeToPhoneme.predict: expected a list of words, none of them empty")
        if not words:
            return []
        letters, lengths = spell(words)
        with pydl.no_grad():
            state = self.encode(pydl.from_numpy(letters), lengths)
            last = np.full(len(words), _START)
            rows: list[np.ndarray] = []
            running = np.ones(len(words), bool)
            while len(rows) < longest and running.any():
                output, state = self.decoder(self.decoder_embedding(pydl.from_numpy(last[:, None])), state)
                last = self.fc(output[:, 0]).numpy().argmax(1)
                running &= last != _END
                rows.append(np.where(running, last, -1))
        return [[PHONEMES[i] for i in column if i >= 0] for column in np.array(rows).T.reshape(len(words), -1)]


def spell(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(letters (N, T) int64, padded; lengths), each word ended by </s>."""
    index = {letter: i for i, letter in enumerate(LETTERS)}
    lengths = np.array([len(word) + 1 for word in words])
    letters = np.zeros((len(words), lengths.max()), np.int64)
    for row, word in zip(letters, words, strict=True):
        row[: len(word)] = [index.get(c, _UNKNOWN) for c in word.lower()]
        row[len(word)] = _LAST_LETTER
    return letters, lengths
