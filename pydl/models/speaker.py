"""Speaker encoder: a deep LSTM whose last state says who speaks.

Source: Wan, Wang, Papir and Lopez Moreno, "Generalized End-to-End Loss for Speaker Verification" (2018),
arXiv:1710.10467.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.models.registry import register
from pydl.nn.linear import new_parameter

__all__ = ["SpeakerEncoder"]


@register("speaker_encoder", input_size=(160, 40))
class SpeakerEncoder(nn.Module):
    """Three LSTM layers over a mel spectrogram; the last state, a linear layer and ReLU, scaled to length 1.

    Shapes: mels (N, T, channels) -> (N, embedding_size), not negative. 1,423,618 parameters by default.

    Parameters
    ----------
    channels : int
        Mel channels: the published weights expect 40, from 25 ms every 10 ms of sound at 16 kHz, powers (no logarithm).
    hidden_size, layers, embedding_size : int
        Of the LSTM; of the result.

    Source: Wan et al. 2018. Weights: ``pretrained.pt`` in the package Resemblyzer.
    """

    def __init__(self, channels: int = 40, hidden_size: int = 256, layers: int = 3, embedding_size: int = 256) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden_size, layers, batch_first=True)
        self.linear = nn.Linear(hidden_size, embedding_size)
        self.similarity_weight, self.similarity_bias = new_parameter(1), new_parameter(1)  # of the published loss
        nn.init.constant_(self.similarity_weight, 10.0)
        nn.init.constant_(self.similarity_bias, -5.0)

    def forward(self, mels: Any, lengths: Any = None) -> Any:
        _, (hidden, _) = self.lstm(mels, lengths=lengths)
        return pydl.normalize(pydl.relu(self.linear(hidden[-1])), dim=1)

    def similarity(self, a: Any, b: Any) -> Any:
        """The scaled cosine that training compares: weight (a . b) + bias. Shapes: (N, E), (M, E) -> (N, M)."""
        return pydl.matmul(a, pydl.transpose(b, 0, 1)) * self.similarity_weight + self.similarity_bias

    def embed(self, mel: np.ndarray, window: int = 160, step: int = 77, coverage: float = 0.75) -> np.ndarray:
        """One vector for a whole utterance: the mean over windows, scaled to length 1.

        Parameters
        ----------
        mel : ndarray
            (T, channels), padded with zeros at its end if need be.
        window, step : int
            Frames in a window, and from one window to the next.
        coverage : float
            How much of the last window must be there for it to count (the first always does).
        """
        if mel.ndim != 2 or mel.shape[1] != self.lstm.input_size or not len(mel):
            raise ShapeError(f"[speaker_encoder] mel of shape {mel.shape}, expected (T, {self.lstm.input_size}), at least one "
                             "frame")
        if window < 1 or step < 1 or not 0 < coverage <= 1:
            raise ArgumentError(f"[speaker_encoder] window={window}, step={step}, coverage={coverage}; expected positive "
                                "numbers, coverage at most 1")
        starts = list(range(0, max(1, len(mel) - window + step + 1), step))
        if len(starts) > 1 and (len(mel) - starts[-1]) / window < coverage:
            starts.pop()
        padded = np.zeros((max(starts[-1] + window, len(mel)), mel.shape[1]), np.float32)
        padded[: len(mel)] = mel
        with pydl.no_grad():
            mean = self(pydl.from_numpy(np.stack([padded[s : s + window] for s in starts]))).numpy().mean(0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)
