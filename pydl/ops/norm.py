"""Normalisation: batch, instance, group, layer, RMS, local response (kernels: csrc/cpu/norm.cpp, norm_rows.cpp)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, is_grad_enabled, wrap
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import channel_rows, channels_last, check_floating, contiguous, empty, empty_channels_last
from pydl.ops._norm_grad import channel_formula, gradients, row_formula
from pydl.ops.elementwise import mul

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]


# ---------------------------------------------------------------- rows of channels
def _check_vectors(op: str, channels: int, **vectors: np.ndarray | None) -> None:
    for name, v in vectors.items():
        if v is not None and v.shape != (channels,):
            raise ShapeError(f"[{op}] {name} of shape {v.shape}; expected ({channels},), one number for each channel of input")


class _ChannelNorm(Op):
    """Statistics over (sets of) channels; forward saves the input and two numbers per set.

    Behind ReLU in the same pass, the gradient's mask is computed again from the input, or taken from the output where a residual
    was added. Without a residual the output can be made again: an operation that follows need not keep it.
    """

    backward_on_tensors = True

    @classmethod
    def forward(
        cls, ctx: Any, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, running_mean: np.ndarray | None,
        running_var: np.ndarray | None, training: bool, momentum: float, eps: float, sets: int, joined: bool,
        residual: np.ndarray | None = None, relu: bool = False,
    ) -> np.ndarray:
        check_floating(cls.name, input=x, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var,
                       residual=residual)
        if residual is not None and residual.shape != x.shape:
            raise ShapeError(f"[{cls.name}] residual of shape {residual.shape}; expected {x.shape} as the input")
        _check_vectors(cls.name, x.shape[1], running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
        source = channels_last(x)
        mean, rstd = (empty((1 if joined else x.shape[0], sets), np.float64) for _ in range(2))
        y = empty_channels_last(x.shape, x.dtype)
        flat = [None if v is None else contiguous(v) for v in (weight, bias)]
        behind = None if residual is None else channel_rows(channels_last(residual), joined)
        _core.column_norm(channel_rows(source, joined), channel_rows(y, joined), *flat, running_mean, running_var, mean, rstd,
                          training, momentum, eps, behind, relu, False)
        ctx.save(x, weight, bias, y if relu and residual is not None else None)
        ctx.can_remake = residual is None
        ctx.copy = None if source is x else source  # x in the kernels' layout
        ctx.statistics = mean, rstd
        ctx.training, ctx.joined, ctx.eps, ctx.relu = training, joined, eps, relu
        return y

    @staticmethod
    def remake(ctx: Any) -> np.ndarray:
        """The output once more, to the last bit."""
        x, weight, bias, _ = ctx.saved_arrays
        y = empty_channels_last(x.shape, x.dtype)
        flat = [None if v is None else contiguous(v) for v in (weight, bias)]
        source = x if ctx.copy is None else ctx.copy
        _core.column_norm(channel_rows(source, ctx.joined), channel_rows(y, ctx.joined), *flat, None, None, *ctx.statistics,
                          False, 0.0, ctx.eps, None, ctx.relu, True)
        return y

    @classmethod
    def backward(cls, ctx: Any, g: Any) -> Any:
        x, weight, bias, y = ctx.saved
        statistics, training, joined, copied = ctx.statistics, ctx.training, ctx.joined, ctx.copy
        rows = partial(channel_rows, joined=joined)
        formula = partial(channel_formula, statistics=None if training else statistics, sets=statistics[0].shape[1],
                          joined=joined, eps=ctx.eps)

        def run(g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, needs: Sequence[bool], *behind: Any,
                spare: np.ndarray | None = None) -> Any:
            dx = None
            if needs[0]:
                dx = empty_channels_last(x.shape, x.dtype) if spare is None else spare
            dw, db = (empty(x.shape[1:2], x.dtype) if need else None for need in needs[1:])
            source = x if copied is None else copied
            _core.column_norm_backward(
                rows(channels_last(g)), rows(source), None if weight is None else contiguous(weight), *statistics,
                None if dx is None else rows(dx), dw, db, training, *(behind or (False, None, None, None)))
            return dx, dw, db

        wants_residual = len(ctx.needs) > 10 and ctx.needs[10]
        if not ctx.relu:
            grads = gradients(g, x, weight, run, formula, ctx.needs[:3])
            return (*grads, *(None,) * 7, g if wants_residual else None)
        if is_grad_enabled():  # to be differentiated again: the mask is a constant factor
            result = cls.remake(ctx) if y is None else y.data
            g = mul(g, wrap((result > 0).astype(g.data.dtype)))
            return (*gradients(g, x, weight, run, formula, ctx.needs[:3]), *(None,) * 7, g if wants_residual else None)
        # The incoming gradient's memory may take one of the results: each number is read before it is overwritten.
        incoming = channels_last(g.data)
        spare = incoming if ctx.owns_gradient or incoming is not g.data else None
        passed = None
        if wants_residual:
            passed, spare = empty_channels_last(x.data.shape, x.data.dtype) if spare is None else spare, None
        needs = (ctx.needs[0] or wants_residual, *ctx.needs[1:3])
        grads = run(incoming, x.data, None if weight is None else weight.data, needs, True,
                    None if y is None else rows(y.data), None if bias is None else contiguous(bias.data),
                    None if passed is None else rows(passed), spare=spare)
        return tuple(None if d is None else wrap(d) for d in (*grads, *(None,) * 7, passed))

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        """Mean, variance and the affine map: about 8 operations per element; read twice and written once, a residual read."""
        training, residual = args[5], len(args) > 10 and args[10] is not None
        return Cost((8 if training else 2) * math.prod(out_shape), ((3 if training else 2) + residual) * args[0].nbytes)

    @classmethod
    def backward_cost(cls, forward: Cost, needs: tuple[bool, ...], *args: Any) -> Cost:
        """About 12 operations per element in training; a pass that reads dy and x for their sums, and one that writes dx.

        With ReLU behind a residual both passes read the output too, for the mask, and the residual's gradient is written.
        (Without ReLU this gradient is the incoming one.)
        """
        masked = len(args) > 10 and args[10] is not None and args[11]
        passed_on = bool(masked and needs[10])
        sums, dx = args[5] or any(needs[1:3]), needs[0] or passed_on
        arrays = (2 + masked if sums else 0) + (3 + masked + passed_on if dx else 0)
        return Cost(forward.flops * 3 // 2, arrays * args[0].nbytes)


class BatchNorm(_ChannelNorm):
    name = "batch_norm"


class InstanceNorm(_ChannelNorm):
    name = "instance_norm"


class GroupNorm(_ChannelNorm):
    name = "group_norm"


def _check_channel_axis(op: str, shape: Shape, least: int, expected: str) -> None:
    if len(shape) < least:
        raise ShapeError(f"[{op}] input of shape {shape}; expected {expected}")


def _check_running(op: str, running_mean: Any, running_var: Any) -> None:
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(f"[{op}] running_mean and running_var come together: give both or neither")
    for name, stat in (("running_mean", running_mean), ("running_var", running_var)):
        if stat is not None and not stat.data.flags.c_contiguous:
            raise ArgumentError(f"[{op}] {name} is updated in place and must be contiguous; use .contiguous()")


def batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5, *, residual: Any = None, relu: bool = False,
) -> Any:
    """Each channel brought to mean 0 and variance 1 over the batch and all positions, then scaled and shifted.

    Shapes: input (N, C) or (N, C, ...); the vectors (C).

        y = (x - mean) / sqrt(var + eps) * weight + bias

    Parameters
    ----------
    training: use the statistics of this batch and move the running ones (if given) towards them, in place:
        running = (1 - momentum) * running + momentum * batch, the variance unbiased; otherwise use the running ones.
    residual, relu: what often follows, in the same pass over memory: y + residual (of the input's shape), then max(0, y).

    >>> import pydl
    >>> pydl.batch_norm(pydl.tensor([[1.0, 0.0], [3.0, 8.0]]), None, None, training=True, eps=0.0)
    tensor([[-1., -1.],
            [ 1.,  1.]])

    Raises `ShapeError`, and `ArgumentError` in training on a single value per channel.
    Source: Ioffe and Szegedy 2015 (arXiv:1502.03167).
    """
    shape = input.data.shape
    _check_channel_axis("batch_norm", shape, 2, "(N, C) or (N, C, ...)")
    _check_running("batch_norm", running_mean, running_var)
    if training and shape[0] * math.prod(shape[2:]) == 1:
        raise ArgumentError(f"[batch_norm] Expected more than 1 value per channel when training, got input size {list(shape)}: "
                            "the variance of one value is 0; use a larger batch or .eval()")
    if not training and running_mean is None:
        raise ArgumentError("[batch_norm] training=False needs running_mean and running_var")
    out = apply(BatchNorm, input, weight, bias, running_mean, running_var, training, momentum, eps, shape[1], True,
                residual, relu)
    if training and running_mean is not None:
        running_mean.bump_version()
        running_var.bump_version()
    return out


def instance_norm(
    input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:
    """Each channel of each sample brought to mean 0 and variance 1 over its positions, then scaled and shifted.

    Shapes: input (N, C, positions...); the vectors (C). Running statistics, if given, move by the samples' mean statistics;
    ``use_input_stats=False`` uses them instead. Source: Ulyanov, Vedaldi and Lempitsky 2016 (arXiv:1607.08022).
    """
    shape = input.data.shape
    _check_channel_axis("instance_norm", shape, 3, "(N, C, positions...)")
    _check_running("instance_norm", running_mean, running_var)
    if use_input_stats and math.prod(shape[2:]) == 1:
        raise ArgumentError(f"[instance_norm] Expected more than 1 spatial element when training, got input size {list(shape)}: "
                            "the variance of one value is 0")
    if not use_input_stats and running_mean is None:
        raise ArgumentError("[instance_norm] use_input_stats=False needs running_mean and running_var")
    out = apply(InstanceNorm, input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, shape[1],
                not use_input_stats)
    if use_input_stats and running_mean is not None:
        running_mean.bump_version()
        running_var.bump_version()
    return out


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Each group of neighbouring channels of each sample brought to mean 0 and variance 1, then scaled and shifted.

    Shapes: input (N, C, ...), C a multiple of num_groups; the vectors (C). One group is layer norm over (C, ...), C groups are
    instance norm. Source: Wu and He 2018 (arXiv:1803.08494).
    """
    shape = input.data.shape
    _check_channel_axis("group_norm", shape, 2, "(N, C, ...)")
    if num_groups < 1 or shape[1] % num_groups:
        raise ArgumentError(f"[group_norm] num_groups={num_groups} must divide the {shape[1]} channels of input {shape}")
    if shape[0] * shape[1] // num_groups * math.prod(shape[2:]) == 1:
        raise ArgumentError(f"[group_norm] Expected more than 1 value per channel when training, got input size {list(shape)} "
                            f"with num_groups={num_groups}: the variance of one value is 0")
    return apply(GroupNorm, input, weight, bias, None, None, True, 0.0, eps, num_groups, False)


# ---------------------------------------------------------------- rows of features
class _RowNorm(Op):
    """Statistics of each row of features; forward saves the input and one or two numbers per row."""

    backward_on_tensors = True
    centred = True

    @classmethod
    def forward(
        cls, ctx: Any, x: np.ndarray, shape: Shape, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
    ) -> np.ndarray:
        check_floating(cls.name, input=x, weight=weight, bias=bias)
        if not shape or x.shape[x.ndim - len(shape) :] != shape:
            raise ShapeError(f"[{cls.name}] normalized_shape={shape} is not the end of the input's shape {x.shape}")
        for name, v in (("weight", weight), ("bias", bias)):
            if v is not None and v.shape != shape:
                raise ShapeError(f"[{cls.name}] {name} of shape {v.shape}; expected normalized_shape {shape}")
        features = math.prod(shape)
        source = contiguous(x)
        rows = math.prod(x.shape[: x.ndim - len(shape)])
        mean, rstd = empty((rows,), np.float64) if cls.centred else None, empty((rows,), np.float64)
        y = empty(x.shape, x.dtype)
        flat = [None if v is None else contiguous(v).reshape(features) for v in (weight, bias)]
        _core.row_norm(source.reshape(rows, features), y.reshape(rows, features), *flat, mean, rstd, eps)
        ctx.save(x, weight)
        ctx.copy = None if source is x else source
        ctx.statistics, ctx.normalized_shape, ctx.eps = (mean, rstd), shape, eps
        return y

    @classmethod
    def backward(cls, ctx: Any, g: Any) -> Any:
        x, weight = ctx.saved
        statistics, shape, copied = ctx.statistics, ctx.normalized_shape, ctx.copy
        formula = partial(row_formula, normalized_shape=shape, centred=cls.centred, eps=ctx.eps)

        def native(g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, needs: Sequence[bool]) -> Any:
            flat = (statistics[1].size, math.prod(shape))
            dx = empty(x.shape, x.dtype) if needs[0] else None
            dw, db = (empty(shape, x.dtype) if need else None for need in needs[1:])
            source = x if copied is None else copied
            _core.row_norm_backward(
                contiguous(g).reshape(flat), source.reshape(flat), None if weight is None else contiguous(weight).reshape(-1),
                *statistics, *(None if d is None else d.reshape(s) for d, s in ((dx, flat), (dw, -1), (db, -1))))
            return dx, dw, db

        dx, dw, db = gradients(g, x, weight, native, formula, (ctx.needs[0], *ctx.needs[2:4]))
        return dx, None, dw, db

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(8 * math.prod(out_shape), 2 * args[0].nbytes)

    @classmethod
    def backward_cost(cls, forward: Cost, needs: tuple[bool, ...], *args: Any) -> Cost:
        """About 12 operations per element; dy and x read, dx written (forward moves two arrays)."""
        return Cost(forward.flops * 3 // 2, forward.bytes * 3 // 2)


class LayerNorm(_RowNorm):
    name = "layer_norm"


class RMSNorm(_RowNorm):
    name, centred = "rms_norm", False


def _shape_of(normalized_shape: int | Sequence[int]) -> Shape:
    if isinstance(normalized_shape, int | np.integer):
        return (int(normalized_shape),)
    return tuple(int(n) for n in normalized_shape)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Each sample's last axes brought to mean 0 and variance 1, then scaled and shifted element by element.

    Shapes: input (..., *normalized_shape); weight and bias normalized_shape.

        y = (x - mean) / sqrt(var + eps) * weight + bias

    >>> import pydl
    >>> pydl.layer_norm(pydl.tensor([[1.0, 3.0], [10.0, 20.0]]), 2, eps=0.0)
    tensor([[-1.,  1.],
            [-1.,  1.]])

    Source: Ba, Kiros and Hinton 2016 (arXiv:1607.06450).
    """
    return apply(LayerNorm, input, _shape_of(normalized_shape), weight, bias, eps)


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """Each sample's last axes divided by their root mean square, then scaled element by element.

    Shapes: input (..., *normalized_shape); weight normalized_shape.

        y = x / sqrt(mean(x^2) + eps) * weight

    ``eps=None`` takes the dtype's epsilon. Source: Zhang and Sennrich 2019 (arXiv:1910.07467).
    """
    if eps is None:
        eps = float(np.finfo(check_floating("rms_norm", input=input.data)).eps)
    return apply(RMSNorm, input, _shape_of(normalized_shape), weight, None, eps)


# ---------------------------------------------------------------- neighbouring channels
class LocalResponseNorm(Op):
    name = "local_response_norm"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
        check_floating("local_response_norm", input=x)
        _check_channel_axis("local_response_norm", x.shape, 2, "(N, C, ...)")
        source = channels_last(x)
        y = empty_channels_last(x.shape, x.dtype)
        _core.local_norm(channel_rows(source, True)[0], channel_rows(y, True)[0], size, alpha, beta, k)
        ctx.save(source)
        ctx.constants = size, alpha, beta, k
        return y

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        (x,) = ctx.saved
        dx = empty_channels_last(x.shape, x.dtype)
        _core.local_norm_backward(*(channel_rows(a, True)[0] for a in (channels_last(g), x, dx)), *ctx.constants)
        return dx

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost((args[1] + 6) * math.prod(out_shape), 2 * args[0].nbytes)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Each value divided by a power of the energy in `size` channels around it.

    Shapes: (N, C, ...) -> the same.

        y_c = x_c / (k + alpha / size * sum of x_j^2)^beta,  j from c - size // 2 to c + (size - 1) // 2

    Channels outside count as 0, and the sum is divided by `size` all the same. Source: Krizhevsky, Sutskever and Hinton 2012
    (whose alpha is not divided by the size).
    """
    if not isinstance(size, int | np.integer) or size < 1:
        raise ArgumentError(f"[local_response_norm] size={size}; expected a positive number of channels")
    return apply(LocalResponseNorm, input, int(size), float(alpha), float(beta), float(k))


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """Slices along an axis divided by their p-norm, or by eps where that is larger: x / max(norm(x, p), eps)."""
    from pydl.ops.elementwise import clamp, div
    from pydl.ops.reduce import norm

    return div(input, clamp(norm(input, p, dim, keepdim=True), min=eps))
