"""Losses with PyTorch's names, options and numerics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Cost, Op, Shape
from pydl.ops import elementwise as e
from pydl.ops._common import check_floating, contiguous, empty, empty_like
from pydl.ops._maps import run_map
from pydl.ops.activation import logsigmoid, relu, softplus
from pydl.ops.comparison import eq, where
from pydl.ops.convert import cast
from pydl.ops.index import gather
from pydl.ops.reduce import mean, norm, sum
from pydl.ops.shape import squeeze, unsqueeze
from pydl.ops.softmax import log_softmax

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
    "cross_entropy", "gaussian_nll_loss", "hinge_embedding_loss", "hinge_loss", "huber_loss", "kl_div", "l1_loss",
    "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "nll_loss", "pairwise_distance", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _reduce(op: str, loss: Any, reduction: str) -> Any:
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum(loss)
    if reduction == "none":
        return loss
    raise ArgumentError(f"[{op}] reduction={reduction!r}; expected 'mean', 'sum' or 'none'")


def _same_shape(op: str, input: Any, target: Any) -> None:
    if input.data.shape != target.data.shape:
        raise ShapeError(f"[{op}] input {input.data.shape} and target {target.data.shape} must have one shape; reshape one")


# --------------------------------------------------------------------------- regression


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target)^2. Shapes: equal -> () or the same with reduction="none"."""
    _same_shape("mse_loss", input, target)
    return _reduce("mse_loss", e.square(input - target), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """|input - target|; the gradient at 0 is 0."""
    _same_shape("l1_loss", input, target)
    return _reduce("l1_loss", e.abs(input - target), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d^2 / 2 for |d| <= delta, delta (|d| - delta/2) beyond, with d = input - target."""
    _same_shape("huber_loss", input, target)
    if delta <= 0:
        raise ArgumentError(f"[huber_loss] delta must be positive, got {delta}")
    d = input - target
    inner = e.clamp(d, -delta, delta)  # inner * (d - inner / 2) is both branches at once
    return _reduce("huber_loss", inner * (d - inner * 0.5), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d^2 / (2 beta) for |d| < beta, |d| - beta/2 beyond; beta = 0 is the L1 loss."""
    if beta < 0:
        raise ArgumentError(f"[smooth_l1_loss] beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) * (1.0 / beta)


# --------------------------------------------------------------------------- classification


def _check_targets(op: str, x: np.ndarray, target: np.ndarray) -> None:
    """Scores (N, C, ...) want integer class numbers (N, ...)."""
    if x.ndim < 2:
        raise ShapeError(f"[{op}] input must have shape (N, C, ...) or (C), got {x.shape}")
    if target.dtype.kind not in "iu":
        raise DTypeError(f"[{op}] class numbers must be integers, got {target.dtype}; convert with .long()")
    expected = (x.shape[0], *x.shape[2:])
    if target.shape != expected:
        raise ShapeError(
            f"[{op}] target of shape {target.shape} for input {x.shape}; expected class numbers of shape {expected}"
        )


def _class_weight(op: str, x: np.ndarray, weight: Any) -> np.ndarray:
    """One factor for each class in the dtype of the scores; empty stands for all 1."""
    if weight is None:
        return np.empty(0, x.dtype)
    if weight.shape != (x.shape[1],):
        raise ShapeError(f"[{op}] weight of shape {weight.shape}; expected one for each class: ({x.shape[1]},)")
    return np.ascontiguousarray(weight, x.dtype)


def _wrong_class(op: str, target: np.ndarray, at: tuple[int, ...], classes: int, ignore_index: int | None) -> ArgumentError:
    return ArgumentError(
        f"[{op}] target holds class {target[at]} at position {at}, but the input has {classes} classes (0 to {classes - 1})"
        + ("" if ignore_index is None else f"; ignore_index={ignore_index}")
    )


def _class_numbers(
    op: str, x: np.ndarray, target: np.ndarray, ignore_index: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The checked class numbers, ignored ones as 0, and the mask of those that count."""
    _check_targets(op, x, target)
    used = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
    wrong = used & ((target < 0) | (target >= x.shape[1]))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise _wrong_class(op, target, at, x.shape[1], ignore_index)
    return np.where(used, target, 0), used


class CrossEntropy(Op):
    """Softmax and negative log-likelihood in one pass each way (kernel: csrc/cpu/loss.cpp)."""

    name = "cross_entropy"

    @staticmethod
    def shape(
        x: np.ndarray, target: np.ndarray, weight: Any, ignore_index: int, reduction: str, smoothing: float
    ) -> Shape:
        check_floating("cross_entropy", input=x)
        _check_targets("cross_entropy", x, target)
        return target.shape if reduction == "none" else ()

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, target: np.ndarray, weight: Any, ignore_index: int, reduction: str, smoothing: float
    ) -> np.ndarray:
        CrossEntropy.shape(x, target, weight, ignore_index, reduction, smoothing)
        factors = _class_weight("cross_entropy", x, weight)
        each = reduction == "none"
        result = empty(target.shape if each else (), x.dtype)
        loss, out, divisor = (result, None, None) if each else (None, result, empty((), np.float64))
        stats = empty((2, target.size), x.dtype)
        rows, numbers = _scores_last(x), np.ascontiguousarray(target, np.int64)
        wrong = _core.cross_entropy(rows, numbers, factors, ignore_index, smoothing, reduction == "mean", loss, out, divisor,
                                    stats)
        if wrong >= 0:
            at = tuple(int(i) for i in np.unravel_index(wrong, target.shape))
            raise _wrong_class("cross_entropy", target, at, x.shape[1], ignore_index)
        ctx.save(x, target, stats)
        ctx.args = factors, ignore_index, smoothing, divisor
        return result

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> np.ndarray:
        x, target, stats = ctx.saved
        factors, ignore_index, smoothing, divisor = ctx.args
        owned = ctx.owns_saved(0)
        rows, numbers = _scores_last(x), np.ascontiguousarray(target, np.int64)
        dx = rows if owned else empty_like(rows)  # element by element: the gradient may take the place of the scores
        _core.cross_entropy_backward(rows, numbers, factors, ignore_index, smoothing, stats, contiguous(g), dx, divisor)
        return np.moveaxis(dx.reshape(x.shape[0], *x.shape[2:], x.shape[1]), -1, 1)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(4 * args[0].size, args[0].nbytes + args[1].nbytes)


def _scores_last(x: np.ndarray) -> np.ndarray:
    """Scores (N, C, ...) as [positions, C] in C order: a view of channels-last data."""
    return contiguous(np.moveaxis(x, 1, -1)).reshape(-1, x.shape[1])


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """-weight[t] * input[t]: input holds log-probabilities (N, C, ...), target class numbers (N, ...).

    "mean" divides by the sum of the weights of the targets that count; if all are ignored it is NaN, as in PyTorch.
    """
    if input.data.ndim == 1:
        return _squeezed(nll_loss(unsqueeze(input, 0), unsqueeze(target, 0), weight, ignore_index, reduction), reduction)
    x = input.data
    numbers, used = _class_numbers("nll_loss", x, target.data, ignore_index)
    factors = used.astype(x.dtype)
    if weight is not None:
        factors *= _class_weight("nll_loss", x, weight.data)[numbers]
    loss = -squeeze(gather(input, 1, wrap(np.expand_dims(numbers, 1))), 1) * wrap(factors)
    if not used.all():  # an ignored -inf times its factor 0 is NaN
        loss = where(wrap(used), loss, 0.0)
    if reduction != "mean":
        return _reduce("nll_loss", loss, reduction)
    total = float(factors.sum(dtype=np.float64))
    return sum(loss) * (1.0 / total if total else float("nan"))


def _squeezed(loss: Any, reduction: str) -> Any:
    """The loss of a batch of one that was made from a single sample."""
    return squeeze(loss, 0) if reduction == "none" else loss


def cross_entropy(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Softmax and negative log-likelihood in one: -log(exp(x_t) / sum_c exp(x_c)).

    Shapes: input (N, C, ...) or (C) scores; target (N, ...) class numbers, or probabilities of input's shape.

    Parameters
    ----------
    weight : Tensor (C), optional
        A factor for each class.
    ignore_index : int
        Targets of this number count nothing.
    reduction : str
        "mean" divides by the sum of the weights of the targets that count (NaN if there is none); "sum"; "none".
    label_smoothing : float
        Share of the probability spread evenly over all classes (Szegedy et al. 2016).

    Raises
    ------
    ArgumentError
        If a class number is outside 0 to C - 1; the message names it, its position and C.
    """
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"[cross_entropy] label_smoothing must be between 0 and 1, got {label_smoothing}")
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"[cross_entropy] reduction={reduction!r}; expected 'mean', 'sum' or 'none'")
    if input.data.ndim == 0:
        raise ShapeError("[cross_entropy] input must have shape (N, C, ...) or (C), got a scalar")
    if input.data.ndim == 1:
        rows = unsqueeze(input, 0), unsqueeze(target, 0)
        return _squeezed(cross_entropy(*rows, weight, ignore_index, reduction, label_smoothing), reduction)
    if target.data.dtype.kind == "f":
        return _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing)
    return apply(CrossEntropy, input, target, weight, ignore_index, reduction, float(label_smoothing))


def _cross_entropy_of_probabilities(input: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    _same_shape("cross_entropy", input, target)
    p = target * (1 - smoothing) + smoothing / input.data.shape[1]
    if weight is not None:
        factors = _class_weight("cross_entropy", input.data, weight.data)
        p = p * wrap(factors.reshape(1, -1, *(1,) * (input.data.ndim - 2)))
    loss = -sum(log_softmax(input, 1) * p, 1)
    if reduction == "mean":  # PyTorch divides by the number of positions here, whatever the weights
        return sum(loss) * (1.0 / max(loss.data.size, 1))
    return _reduce("cross_entropy", loss, reduction)


class BinaryCrossEntropy(Op):
    """-(t log p + (1 - t) log(1 - p)), the logarithms cut at -100; dp = (p - t) / max(p (1 - p), 1e-12)."""

    name, backward_on_tensors = "binary_cross_entropy", True

    @staticmethod
    def forward(ctx: Any, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        check_floating("binary_cross_entropy", input=p, target=t)
        ctx.save(p, t)
        yes = run_map("clamp", run_map("log", p), params=(-100.0, 0.0))
        no = run_map("clamp", run_map("log1p", run_map("neg", p)), params=(-100.0, 0.0))
        rest = run_map("scale_shift", t, params=(-1.0, 1.0))
        return run_map("neg", run_map("add", run_map("mul", t, yes), run_map("mul", rest, no)))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        p, t = ctx.saved
        dp = dt = None
        if ctx.needs[0]:
            dp = g * (p - t) / e.clamp(p * (1 - p), 1e-12)
        if ctx.needs[1]:
            dt = g * (e.clamp(e.log1p(-p), -100.0) - e.clamp(e.log(p), -100.0))
        return dp, dt


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """-(t log p + (1 - t) log(1 - p)) of probabilities p in [0, 1]; logarithms are cut at -100, as in PyTorch."""
    _same_shape("binary_cross_entropy", input, target)
    p = input.data
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ArgumentError("[binary_cross_entropy] input must be probabilities in [0, 1]; use binary_cross_entropy_with_logits")
    loss = apply(BinaryCrossEntropy, input, cast(target, p.dtype))
    return _reduce("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Cross-entropy of sigmoid(input), in the form that cannot overflow: (1 - t) x + (1 + (w - 1) t) log(1 + e^-x)."""
    _same_shape("binary_cross_entropy_with_logits", input, target)
    log_term = softplus(-input, threshold=math.inf)
    if pos_weight is not None:
        log_term = log_term * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input + log_term
    return _reduce("binary_cross_entropy_with_logits", loss if weight is None else loss * weight, reduction)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """target (log target - input) with `input` a log-probability; "batchmean" divides by the batch size."""
    _same_shape("kl_div", input, target)
    if log_target:
        loss = e.exp(target) * (target - input)
    else:
        positive = target > 0  # 0 log 0 is 0
        safe = where(positive, target, 1.0)
        loss = where(positive, target * (e.log(safe) - input), -(target * input))
    if reduction == "batchmean":
        return sum(loss) * (1.0 / max(input.data.shape[0], 1))
    return _reduce("kl_div", loss, reduction)


# --------------------------------------------------------------------------- margins


def hinge_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """max(0, 1 - t x) for targets t of -1 or +1."""
    _same_shape("hinge_loss", input, target)
    return _reduce("hinge_loss", relu(1 - target * input), reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Any:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    _same_shape("hinge_embedding_loss", input, target)
    loss = where(eq(target, 1), input, relu(margin - input))
    return _reduce("hinge_embedding_loss", loss, reduction)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """log(1 + exp(-t x)) for targets of -1 or +1."""
    _same_shape("soft_margin_loss", input, target)
    _same_shape("soft_margin_loss", input, target)
    return _reduce("soft_margin_loss", softplus(-(target * input), threshold=math.inf), reduction)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """max(0, -t (x1 - x2) + margin): t = 1 asks for x1 above x2."""
    return _reduce("margin_ranking_loss", relu(-(target * (input1 - input2)) + margin), reduction)


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Any:
    """Multi-class hinge: sum over c != t of max(0, margin - x_t + x_c)^p, divided by C. Input (N, C), target (N)."""
    if input.data.ndim == 1:
        rows = unsqueeze(input, 0), unsqueeze(target, 0)
        return _squeezed(multi_margin_loss(*rows, p, margin, weight, reduction), reduction)
    if input.data.ndim != 2:
        raise ShapeError(f"[multi_margin_loss] input must be (N, C) or (C), got {input.data.shape}")
    if p not in (1, 2):
        raise ArgumentError(f"[multi_margin_loss] p={p}; expected 1 or 2")
    numbers, _ = _class_numbers("multi_margin_loss", input.data, target.data, None)
    right = gather(input, 1, wrap(numbers[:, None]))
    loss = relu(margin - right + input)
    if p == 2:
        loss = e.square(loss)
    others = np.ones(input.data.shape, input.data.dtype)
    np.put_along_axis(others, numbers[:, None], 0, 1)
    if weight is not None:
        others *= _class_weight("multi_margin_loss", input.data, weight.data)[numbers][:, None]
    return _reduce("multi_margin_loss", sum(loss * wrap(others), 1) * (1.0 / input.data.shape[1]), reduction)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 . x2 / (|x1| |x2|) along an axis; norms below eps count as eps."""
    n1, n2 = (e.maximum(norm(x, 2.0, dim, True), eps) for x in (x1, x2))
    return sum((x1 / n1) * (x2 / n2), dim)


def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """1 - cos for pairs with target 1, max(0, cos - margin) for pairs with target -1. Inputs (N, D), target (N)."""
    c = cosine_similarity(input1, input2, -1)
    return _reduce("cosine_embedding_loss", where(eq(target, 1), 1 - c, relu(c - margin)), reduction)


def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, |a - p| - |a - n| + margin) (Schroff et al. 2015, FaceNet). Shapes: (N, D) each.

    ``swap`` takes the smaller of |a - n| and |p - n|. As in PyTorch, eps is added to the differences.
    """
    near, far = norm(anchor - positive + eps, p, -1), norm(anchor - negative + eps, p, -1)
    if swap:
        far = e.minimum(far, norm(positive - negative + eps, p, -1))
    return _reduce("triplet_margin_loss", relu(near - far + margin), reduction)


def triplet_margin_with_distance_loss(
    anchor: Any, positive: Any, negative: Any, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """`triplet_margin_loss` with a distance of one's own, a function of two tensors; by default `pairwise_distance`."""
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = e.minimum(far, distance(positive, negative))
    return _reduce("triplet_margin_with_distance_loss", relu(near - far + margin), reduction)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x1 - x2 + eps along the last axis, broadcast: (N, D), (N, D) -> (N)."""
    return norm(x1 - x2 + eps, p, -1, keepdim)


# --------------------------------------------------------------------------- several labels at once


def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """Binary cross-entropy of each class from its score, averaged over the classes. Shapes: (N, C) or (C), targets 0 or 1."""
    _same_shape("multilabel_soft_margin_loss", input, target)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return _reduce("multilabel_soft_margin_loss", mean(loss if weight is None else loss * weight, -1), reduction)


def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """The sum over classes j that hold and i that do not of max(0, 1 - (x_j - x_i)), over the number of classes.

    Shapes: (N, C) or (C); the target names the classes that hold, up to the first -1.
    """
    _same_shape("multilabel_margin_loss", input, target)
    if target.data.dtype.kind not in "iu":
        raise DTypeError(f"[multilabel_margin_loss] target is {target.data.dtype}; expected the numbers of classes, int64")
    x, classes = (unsqueeze(t, 0) if t.data.ndim == 1 else t for t in (input, target))
    n = x.data.shape[1]
    named = np.cumsum(classes.data < 0, 1) == 0
    if x.data.ndim != 2 or (named & (classes.data >= n)).any():
        raise ArgumentError(f"[multilabel_margin_loss] input {input.data.shape}; expected (N, C) or (C) and targets below C")
    places = np.where(named, classes.data, 0)
    holds = np.zeros(x.data.shape, bool)
    rows, columns = np.nonzero(named)
    holds[rows, places[rows, columns]] = True
    margins = relu(1 - (unsqueeze(gather(x, 1, wrap(places)), 2) - unsqueeze(x, 1)))  # (N, named, C)
    counted = wrap(named[:, :, None] & ~holds[:, None, :])
    loss = sum(where(counted, margins, 0.0), (1, 2)) / n
    return _reduce("multilabel_margin_loss", loss[0] if input.data.ndim == 1 else loss, reduction)


# --------------------------------------------------------------------------- likelihoods


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Any:
    """exp(x) - t x (or x - t log(x + eps)), with Stirling's term for t > 1 if `full`."""
    _same_shape("poisson_nll_loss", input, target)
    loss = e.exp(input) - target * input if log_input else input - target * e.log(input + eps)
    if full:
        t = target.data
        big = np.maximum(t, 1)
        loss = loss + wrap(np.where(t > 1, big * np.log(big) - big + 0.5 * np.log(2 * np.pi * big), 0).astype(loss.data.dtype))
    return _reduce("poisson_nll_loss", loss, reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log var + (x - t)^2 / var) / 2, the variance at least eps, with log(2 pi) / 2 if `full`."""
    _same_shape("gaussian_nll_loss", input, target)
    if (var.data < 0).any():
        raise ArgumentError("[gaussian_nll_loss] var must not be negative")
    v = var + wrap(np.maximum(eps - var.data, 0).astype(var.data.dtype))  # the gradient passes the bound, as in PyTorch
    if v.data.ndim == input.data.ndim - 1 and v.data.shape == input.data.shape[:-1]:
        v = unsqueeze(v, -1)  # one variance for each row
    elif v.data.shape not in (input.data.shape, (*input.data.shape[:-1], 1)):
        raise ShapeError(f"[gaussian_nll_loss] var of shape {v.data.shape} for input {input.data.shape}; expected the same "
                         "shape, or one for each row")
    loss = 0.5 * (e.log(v) + e.square(input - target) / v)
    if full:
        loss = loss + 0.5 * float(np.log(2 * np.pi))
    return _reduce("gaussian_nll_loss", loss, reduction)
