"""Sums of products named by letters, on top of matmul: einsum, tensordot, bilinear, kron."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.ops._common import as_tensor, normalize_axis
from pydl.ops.elementwise import add, mul
from pydl.ops.matmul import matmul
from pydl.ops.reduce import sum as sum_
from pydl.ops.shape import diagonal, expand, permute, reshape, squeeze, unsqueeze

__all__ = ["bilinear", "einsum", "kron", "tensordot"]

# A label is a letter, or a negative number for an axis that the ellipsis stands for (-1 is the last of them).
Label = str | int
Term = list[Label]


def einsum(equation: str, *operands: Any) -> Any:
    """Sum of products over named axes: ``einsum("bij,bjk->bik", a, b)`` is a batched matrix product.

    Each operand has a term of letters, one for each axis; axes of one letter are multiplied together, and letters missing
    from the output are summed. A letter twice in one term takes the diagonal; ``...`` stands for any further axes, which
    broadcast. Without ``->`` the output has the letters that occur once, in alphabetical order, after the ellipsis.

    Operands are contracted two by two from the left, each step by `matmul`.

    Raises
    ------
    ArgumentError
        If the equation is malformed, or has another number of terms than there are operands.
    ShapeError
        If a term does not fit its operand, or one letter stands for two sizes.
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    tensors = [as_tensor(x) for x in operands]
    terms, output = _parse(equation, [x.data.shape for x in tensors])
    sizes = _sizes(equation, terms, [x.data.shape for x in tensors])
    pairs = [_diagonals(x, term) for x, term in zip(tensors, terms, strict=True)]
    x, term = pairs[0]
    for i, (y, other) in enumerate(pairs[1:], 1):
        later = set(output).union(*(t for _, t in pairs[i + 1 :]))
        x, term = _contract(x, term, y, other, later, sizes)
    x, term = _sum_out(x, term, set(output))
    return permute(x, tuple(term.index(label) for label in output)) if term != output else x


def _parse(equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[Term], Term]:
    """The labels of each operand's axes and of the output's."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    words = left.split(",")
    if len(words) != len(shapes):
        raise ArgumentError(f"[einsum] {equation!r} has {len(words)} terms, but {len(shapes)} operands were given")
    terms = [_term(equation, i, word, shape) for i, (word, shape) in enumerate(zip(words, shapes, strict=True))]
    dots: Term = list(range(-max(sum(isinstance(x, int) for x in t) for t in terms), 0))
    letters = [label for t in terms for label in t if isinstance(label, str)]
    if not arrow:
        return terms, [*dots, *sorted(x for x in set(letters) if letters.count(x) == 1)]
    _check_word(equation, "the output", right)
    output: Term = []
    for part in right.replace("...", "."):
        output += dots if part == "." else [part]
    for label in output:
        if output.count(label) > 1:
            raise ArgumentError(f"[einsum] {equation!r}: the output names {label!r} twice")
        if isinstance(label, str) and label not in letters:
            raise ArgumentError(f"[einsum] {equation!r}: the output's {label!r} is in no term")
    return terms, output


def _check_word(equation: str, where: str, word: str) -> None:
    rest = word.replace("...", "", 1)
    wrong = [c for c in rest if c not in string.ascii_letters]
    if wrong:
        raise ArgumentError(f"[einsum] {equation!r}: {where} {word!r} contains {wrong[0]!r}; expected letters and one '...'")


def _term(equation: str, i: int, word: str, shape: tuple[int, ...]) -> Term:
    _check_word(equation, f"term {i}", word)
    named = len(word.replace("...", ""))
    extra = len(shape) - named
    if extra < 0 or (extra > 0 and "..." not in word):
        raise ShapeError(
            f"[einsum] {equation!r}: term {i} {word!r} names {named} axes, its operand has shape {shape}; "
            "give each axis a letter, or use '...'"
        )
    term: Term = []
    for part in word.replace("...", "."):
        term += list(range(-extra, 0)) if part == "." else [part]
    return term


def _sizes(equation: str, terms: list[Term], shapes: list[tuple[int, ...]]) -> dict[Label, int]:
    """The size of each label; an axis of size 1 is repeated to it."""
    sizes: dict[Label, int] = {}
    first: dict[Label, int] = {}
    for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        for label, n in zip(term, shape, strict=True):
            if sizes.get(label, 1) == 1:
                sizes[label], first[label] = n, i
            elif n not in (1, sizes[label]):
                name = f"letter {label!r}" if isinstance(label, str) else "an axis of '...'"
                raise ShapeError(
                    f"[einsum] {equation!r}: {name} has size {sizes[label]} in operand {first[label]} of shape "
                    f"{shapes[first[label]]}, and {n} in operand {i} of shape {shape}"
                )
    return sizes


def _diagonals(x: Any, term: Term) -> tuple[Any, Term]:
    """Each letter once: repeated ones become the diagonal, as the last axis."""
    term = list(term)
    for label in dict.fromkeys(term):
        while term.count(label) > 1:
            a = term.index(label)
            b = term.index(label, a + 1)
            n = max(x.data.shape[a], x.data.shape[b])
            if x.data.shape[a] != x.data.shape[b]:
                x = expand(x, tuple(n if k in (a, b) else m for k, m in enumerate(x.data.shape)))
            x = diagonal(x, 0, a, b)
            term = [t for k, t in enumerate(term) if k not in (a, b)] + [label]
    return x, term


def _sum_out(x: Any, term: Term, keep: set[Label]) -> tuple[Any, Term]:
    """Sum over the axes that nothing else needs."""
    axes = tuple(i for i, label in enumerate(term) if label not in keep)
    return (sum_(x, axes), [label for label in term if label in keep]) if axes else (x, term)


def _contract(x: Any, a: Term, y: Any, b: Term, later: set[Label], sizes: dict[Label, int]) -> tuple[Any, Term]:
    """One product: labels in both operands are batch axes if needed later, else summed by matmul."""
    x, a = _sum_out(x, a, later | set(b))
    y, b = _sum_out(y, b, later | set(a))
    both = [label for label in a if label in b]
    batch = [label for label in both if label in later]
    inner = [label for label in both if label not in later]
    rows = [label for label in a if label not in both]
    columns = [label for label in b if label not in both]
    result = [*batch, *rows, *columns]
    if not inner:  # nothing to sum: a broadcast product
        x = _aligned(x, a, batch + rows, {})
        y = _aligned(y, b, batch + columns, {})
        at = len(batch)
        x = reshape(x, x.data.shape + (1,) * len(columns))
        y = reshape(y, y.data.shape[:at] + (1,) * len(rows) + y.data.shape[at:])
        return mul(x, y), result
    x = _aligned(x, a, batch + rows + inner, sizes)
    y = _aligned(y, b, batch + inner + columns, sizes)
    groups = [_shape(g, sizes) for g in (batch, rows, inner, columns)]
    n_batch, n_rows, n_inner, n_columns = (math.prod(g) for g in groups)
    lead = (n_batch,) if batch else ()
    out = matmul(reshape(x, (*lead, n_rows, n_inner)), reshape(y, (*lead, n_inner, n_columns)))
    return reshape(out, groups[0] + groups[1] + groups[3]), result


def _shape(labels: Term, sizes: dict[Label, int]) -> tuple[int, ...]:
    return tuple(sizes[label] for label in labels)


def _aligned(x: Any, term: Term, order: Term, sizes: dict[Label, int]) -> Any:
    """The axes in this order; with sizes, axes of size 1 are repeated to them."""
    if term != order:
        x = permute(x, tuple(term.index(label) for label in order))
    if sizes and x.data.shape != (shape := _shape(order, sizes)):
        x = expand(x, shape)
    return x


def tensordot(a: Any, b: Any, dims: int | Sequence[Sequence[int]] = 2) -> Any:
    """Products summed over pairs of axes: the last `dims` of `a` with the first of `b`, or the two listed sets.

    Shape: the remaining axes of `a`, then those of `b`.
    """
    m, n = a.data.ndim, b.data.ndim
    if isinstance(dims, int | np.integer):
        if not 0 <= dims <= min(m, n):
            raise ArgumentError(f"[tensordot] dims={dims} for tensors of {m} and {n} axes")
        left, right = list(range(m - dims, m)), list(range(dims))
    else:
        if len(dims) != 2:
            raise ArgumentError(f"[tensordot] dims={dims}: expected a number, or the axes of a and the axes of b")
        left, right = [*dims[0]], [*dims[1]]
        if len(left) != len(right):
            raise ArgumentError(f"[tensordot] dims name {len(left)} axes of a and {len(right)} of b")
        left = [normalize_axis("tensordot", d, m, "dims") for d in left]
        right = [normalize_axis("tensordot", d, n, "dims") for d in right]
        if len(set(left)) != len(left) or len(set(right)) != len(right) or (left and not (m and n)):
            raise ArgumentError(f"[tensordot] dims={dims} for tensors of {m} and {n} axes names an axis twice")
    for i, j in zip(left, right, strict=True):
        if a.data.shape[i] != b.data.shape[j]:
            raise ShapeError(
                f"[tensordot] axis {i} of a {a.data.shape} has size {a.data.shape[i]}, axis {j} of b {b.data.shape} has "
                f"{b.data.shape[j]}; summed axes must agree"
            )
    rows, columns = [i for i in range(m) if i not in left], [j for j in range(n) if j not in right]
    k = math.prod([a.data.shape[i] for i in left])
    outer = tuple(a.data.shape[i] for i in rows), tuple(b.data.shape[j] for j in columns)
    x = reshape(permute(a, (*rows, *left)), (math.prod(outer[0]), k))
    y = reshape(permute(b, (*right, *columns)), (k, math.prod(outer[1])))
    return reshape(matmul(x, y), outer[0] + outer[1])


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """y_o = input1^T W_o input2 + b_o for each pair of rows.

    Shapes: input1 (..., in1), input2 (..., in2), weight (out, in1, in2), bias (out) -> (..., out).
    """
    x, y, w = input1.data.shape, input2.data.shape, weight.data.shape
    if len(w) != 3 or not x or not y or x[:-1] != y[:-1] or (x[-1], y[-1]) != w[1:]:
        raise ShapeError(
            f"[bilinear] input1 {x}, input2 {y}, weight {w}; expected (..., in1), (..., in2), (out, in1, in2) with equal "
            "leading axes"
        )
    if bias is not None and bias.data.shape != w[:1]:
        raise ShapeError(f"[bilinear] bias of shape {bias.data.shape}, expected {w[:1]}")
    n = math.prod(x[:-1])
    # (N, in1) x (in1, out * in2) -> (N, out, in2), then one product with input2's row for each n.
    left = matmul(reshape(input1, (n, x[-1])), reshape(permute(weight, (1, 0, 2)), (w[1], w[0] * w[2])))
    out = matmul(reshape(left, (n, w[0], w[2])), unsqueeze(reshape(input2, (n, y[-1])), 2))
    out = reshape(squeeze(out, 2), (*x[:-1], w[0]))
    return out if bias is None else add(out, bias)


def kron(input: Any, other: Any) -> Any:
    """Kronecker product: every element of `input` times the whole of `other`, laid out as blocks."""
    n = max(input.data.ndim, other.data.ndim)
    a = (1,) * (n - input.data.ndim) + input.data.shape
    b = (1,) * (n - other.data.ndim) + other.data.shape
    x = reshape(input, tuple(v for m in a for v in (m, 1)))
    y = reshape(other, tuple(v for m in b for v in (1, m)))
    return reshape(mul(x, y), tuple(p * q for p, q in zip(a, b, strict=True)))
