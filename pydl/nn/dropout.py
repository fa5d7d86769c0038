"""Dropout layers: active in training mode, the identity after ``eval()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydl import ops
from pydl.errors import ArgumentError
from pydl.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p={p}; dropout probability has to be between 0 and 1")
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        return type(self).function(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Elements set to 0 with probability p; see `pydl.dropout`."""

    function = staticmethod(ops.dropout)


class Dropout1d(_Dropout):
    """Channels of (N, C, L) or (C, L) set to 0 with probability p; see `pydl.dropout1d`."""

    function = staticmethod(ops.dropout1d)


class Dropout2d(_Dropout):
    """Channels of (N, C, H, W) set to 0 with probability p; see `pydl.dropout2d`."""

    function = staticmethod(ops.dropout2d)


class Dropout3d(_Dropout):
    """Channels of (N, C, D, H, W) or (C, D, H, W) set to 0 with probability p; see `pydl.dropout3d`."""

    function = staticmethod(ops.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps SELU networks normalised; see `pydl.alpha_dropout`."""

    function = staticmethod(ops.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels; see `pydl.feature_alpha_dropout`."""

    function = staticmethod(ops.feature_alpha_dropout)
