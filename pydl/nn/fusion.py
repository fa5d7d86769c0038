"""Layers that follow each other and are computed in one pass over memory, where nobody can tell the difference."""

from __future__ import annotations

from typing import Any

from pydl.nn.functional_modules import ReLU
from pydl.nn.module import Module
from pydl.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d

__all__ = ["norm_act"]

_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)


def fuses(norm: Module, activation: Module) -> bool:
    """Whether `norm_act` takes one pass: batch norm and ReLU themselves (not subclasses), neither with a hook."""
    return type(norm) in _NORMS and type(activation) is ReLU and not norm.has_hooks() and not activation.has_hooks()


def norm_act(norm: Module, activation: Module, input: Any, residual: Any = None) -> Any:
    """activation(norm(input) + residual), in one pass for batch norm and ReLU.

    A hook on either layer must see the values between: then the layers are called one after the other. The values are the
    same to the last bit.
    """
    if fuses(norm, activation) and (residual is None or residual.shape == input.shape):
        return norm(input, residual, True)
    x = norm(input)
    return activation(x if residual is None else x + residual)
