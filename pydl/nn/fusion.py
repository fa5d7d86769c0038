"""Layers that follow each other and are computed in one pass over memory, or in another order, where nobody can tell the
difference."""

from __future__ import annotations

from typing import Any

from pydl import ops
from pydl.graph.engine import is_grad_enabled, note_object
from pydl.nn.conv import Conv1d, Conv2d, Conv3d
from pydl.nn.functional_modules import ReLU
from pydl.nn.linear import Linear
from pydl.nn.module import Module
from pydl.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from pydl.nn.pool import MaxPool1d, MaxPool2d, MaxPool3d

__all__ = ["conv_act", "conv_norm_act", "linear_act", "norm_act"]

_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
_CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)
_FUSED = (*_NORMS, *_CONVOLUTIONS, Linear)
_MAX_POOLS = (MaxPool1d, MaxPool2d, MaxPool3d)


def fuses(layer: Module, activation: Module) -> bool:
    """Whether one pass computes both: convolution, linear layer or batch norm, and ReLU, themselves (not subclasses), neither
    with a hook."""
    if type(activation) is not ReLU or type(layer) not in _FUSED:
        return False
    return not layer.has_hooks() and not activation.has_hooks()


def commutes(activation: Module, pool: Module) -> bool:
    """Whether ReLU and max-pooling may change places, which changes no bit of the result or of a gradient.

    The largest of a window stays the largest. Pooled first, ReLU has a fraction of the numbers to go over, and the large array
    need not be kept for backward: which element won is one byte, and whether it was positive the small result tells.
    """
    pools = type(pool) in _MAX_POOLS and not pool.return_indices and not pool.has_hooks()
    return pools and type(activation) is ReLU and not activation.has_hooks()


def leaves_pooling(layer: Module) -> bool:
    """Whether ReLU is better left to `commutes`: behind a convolution, which would keep its result for ReLU alone."""
    return type(layer) in _CONVOLUTIONS


def fused(layer: Module, activation: Module, input: Any) -> Any:
    """activation(layer(input)) for two layers that `fuses`."""
    return layer(input, relu=True)


def conv_act(conv: Module, activation: Module, input: Any) -> Any:
    """activation(conv(input)), in one pass for a convolution and ReLU: one array is written and kept for backward.

    A hook on either layer must see the values between: then the layers are called one after the other. The values are the
    same to the last bit. `Sequential` does this by itself.
    """
    return fused(conv, activation, input) if fuses(conv, activation) else activation(conv(input))


def folds(conv: Module, norm: Module, input: Any) -> bool:
    """Whether batch norm is a factor and a shift of the convolution's results: it uses its running statistics, and no gradient
    is wanted."""
    if type(norm) not in _NORMS or type(conv) not in _CONVOLUTIONS or is_grad_enabled():
        return False
    if norm.training or not norm.track_running_stats or norm.has_hooks() or conv.has_hooks():
        return False
    return norm.num_features == conv.out_channels and len(conv.kernel_size) + 2 == input.ndim


def folded(conv: Module, norm: Module, input: Any, relu: bool = False, residual: Any = None) -> Any:
    """norm(conv(input)) + residual, perhaps behind ReLU, for two layers of which `folds` holds."""
    note_object(norm)  # a captured step must look after its attributes as if it had been called
    return conv(input, relu=relu, norm=norm, residual=residual)


def conv_norm_act(conv: Module, norm: Module, activation: Module | None, input: Any, residual: Any = None) -> Any:
    """activation(norm(conv(input)) + residual); without an activation None.

    In evaluation without gradients (``model.eval()`` under `pydl.no_grad()`) a convolution's results meet batch norm, residual
    and ReLU before they are stored: one array is written instead of up to four. The parameters stay as they are; the result is
    that of the layers one after the other within rounding. In training, or with a hook on a layer, it is `norm_act`. `Sequential`
    does this by itself.
    """
    if folds(conv, norm, input):
        if activation is None:
            return folded(conv, norm, input, False, residual)
        if type(activation) is ReLU and not activation.has_hooks():
            return folded(conv, norm, input, True, residual)
        return activation(folded(conv, norm, input, False, residual))
    x = conv(input)
    if activation is not None:
        return norm_act(norm, activation, x, residual)
    x = norm(x)
    return x if residual is None else x + residual


def linear_act(linear: Module, activation: Any, input: Any) -> Any:
    """activation(linear(input)), in one pass for a linear layer and ReLU (the module or the function `pydl.relu`).

    A hook on either must see the values between: then they are called one after the other. The values are the same to the last
    bit. `Sequential` and the transformer layers do this by themselves.
    """
    if activation is ops.relu:
        both = type(linear) is Linear and not linear.has_hooks()
    else:
        both = isinstance(activation, Module) and fuses(linear, activation)
    return fused(linear, activation, input) if both else activation(linear(input))


def norm_act(norm: Module, activation: Module, input: Any, residual: Any = None) -> Any:
    """activation(norm(input) + residual), in one pass for batch norm and ReLU.

    A hook on either layer must see the values between: then the layers are called one after the other. The values are the
    same to the last bit.
    """
    if type(norm) in _NORMS and fuses(norm, activation) and (residual is None or residual.shape == input.shape):
        return norm(input, residual, True)
    x = norm(input)
    return activation(x if residual is None else x + residual)
