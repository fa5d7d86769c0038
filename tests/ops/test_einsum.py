"""Sums of products named by letters: every check of tests/ops/records.py against nested loops, and malformed equations."""

import itertools
import string

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records

import pydl
from pydl.errors import ArgumentError, ShapeError

smooth = {"double_backward": True}


def loops(equation, *operands):
    """The definition: one loop for every letter. An ellipsis becomes capital letters, aligned from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    words = left.split(",")
    dots = [op.ndim - len(w.replace("...", "")) if "..." in w else 0 for w, op in zip(words, operands, strict=True)]
    capitals = "ZYXWVU"
    most = capitals[: max(dots)]
    words = [w.replace("...", most[len(most) - n :]) for w, n in zip(words, dots, strict=True)]
    flat = "".join(words)
    right = (
        right.replace("...", most) if arrow else most + "".join(sorted(c for c in set(flat) - set(most) if flat.count(c) == 1))
    )
    sizes = {}
    for w, op in zip(words, operands, strict=True):
        for c, n in zip(w, op.shape, strict=True):
            sizes[c] = max(sizes.get(c, 1), n) if n != 0 else 0
    out = np.zeros([sizes[c] for c in right])
    for values in itertools.product(*(range(n) for n in sizes.values())):
        at = dict(zip(sizes, values, strict=True))
        term = 1.0
        for w, op in zip(words, operands, strict=True):
            term *= op[tuple(min(at[c], n - 1) for c, n in zip(w, op.shape, strict=True))]
        out[tuple(at[c] for c in right)] += term
    return out


def record(equation, *shapes, large=None, zero=None, double=True):
    return OpRecord(
        equation.replace(" ", ""),
        lambda *x: pydl.einsum(equation, *x),
        lambda *x: loops(equation, *x),
        tuple(draw(*s) for s in shapes),
        rtol=5e-6,
        double_backward=double,
        large=large and tuple(draw(*s) for s in large),
        zero_size=zero and tuple(draw(*s) for s in zero),
    )


def np_bilinear(x, y, w, b):
    return loops("...i,oij,...j->...o", x, w, y) + b


RECORDS = [
    record("ij,jk->ik", (2, 3), (3, 4), large=((70, 90), (90, 110)), zero=((2, 0), (0, 4))),
    record("ij,jk", (2, 3), (3, 2)),
    record("bij,bjk->bik", (2, 3, 2), (2, 2, 3), large=((9, 30, 40), (9, 40, 50)), zero=((0, 3, 2), (0, 2, 3))),
    record("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
    record("i,i", (4,), (4,)),
    record("i,j->ij", (3,), (4,), zero=((0,), (4,))),
    record("ij->ji", (2, 3), zero=((0, 3),)),
    record("ij->", (2, 3), zero=((2, 0),), double=False),
    record("ij->j", (2, 3), double=False),
    record("ba", (2, 3), double=False),
    record("ii->i", (3, 3), double=False),
    record("ii", (3, 3), double=False),
    record("iji->j", (2, 3, 2), double=False),
    record("ij,ij->ij", (2, 3), (2, 3)),
    record("ij,ij->i", (2, 3), (2, 3), zero=((2, 0), (2, 0))),
    record("ij,j->i", (2, 3), (1,)),
    record("i...,j...->ij...", (2, 3), (2, 3)),
    record("...,...->...", (2, 1), (3,)),
    record("bhqd,bhkd->bhqk", (1, 2, 2, 3), (1, 2, 3, 3), large=((2, 4, 33, 20), (2, 4, 40, 20))),
    record("ij,jk,kl->il", (2, 3), (3, 2), (2, 3)),
    record("ab,cb,db->acd", (2, 3), (2, 3), (2, 3)),
    record("i,ij,j->", (2,), (2, 3), (3,)),
    record("abc,cd->dab", (2, 1, 3), (3, 2)),
    record("ab,cd->acbd", (2, 2), (2, 2)),
    record("iij,jk->ik", (2, 2, 3), (3, 2)),
    OpRecord(
        "tensordot",
        lambda a, b: pydl.tensordot(a, b, ([1, 0], [0, -1])),
        lambda a, b: loops("ijk,jli->kl", a, b),
        (draw(2, 3, 2), draw(3, 2, 2)),
        rtol=5e-6,
        large=(draw(20, 30, 40), draw(30, 50, 20)),
        zero_size=(draw(0, 3, 2), draw(3, 2, 0)),
        **smooth,
    ),
    OpRecord(
        "tensordot_number",
        lambda a, b: pydl.tensordot(a, b, 1),
        lambda a, b: loops("ij,jkl->ikl", a, b),
        (draw(2, 3), draw(3, 2, 2)),
        rtol=5e-6,
        **smooth,
    ),
    OpRecord(
        "tensordot_outer",
        lambda a, b: pydl.tensordot(a, b, 0),
        lambda a, b: loops("ij,k->ijk", a, b),
        (draw(2, 3), draw(2)),
        rtol=5e-6,
        **smooth,
    ),
    OpRecord(
        "bilinear",
        pydl.bilinear,
        np_bilinear,
        (draw(2, 3), draw(2, 2), draw(2, 3, 2), draw(2)),
        rtol=5e-6,
        large=(draw(50, 33), draw(50, 20), draw(17, 33, 20), draw(17)),
        zero_size=(draw(0, 3), draw(0, 2), draw(2, 3, 2), draw(2)),
        **smooth,
    ),
    OpRecord("kron", pydl.kron, np.kron, (draw(2, 3), draw(3, 2)), rtol=5e-6, zero_size=(draw(0, 3), draw(3, 2)), **smooth),
    OpRecord("kron_ranks", pydl.kron, np.kron, (draw(3), draw(2, 2, 2)), rtol=5e-6, **smooth),
]
test_ops = run_records(RECORDS)


M, C = pydl.zeros(2, 3), pydl.zeros(2, 3, 4)
BAD = [
    (
        lambda: pydl.einsum("ij,jk->ik", M, M),
        ShapeError,
        r"\[einsum\].*letter 'j' has size 3 in operand 0 of shape \(2, 3\), and 2 in operand 1",
    ),
    (lambda: pydl.einsum("ij->ik", M), ArgumentError, r"\[einsum\].*the output's 'k' is in no term"),
    (lambda: pydl.einsum("ij->ii", M), ArgumentError, r"the output names 'i' twice"),
    (lambda: pydl.einsum("ij", M, M), ArgumentError, r"has 1 terms, but 2 operands"),
    (lambda: pydl.einsum("i,j", M), ArgumentError, r"has 2 terms, but 1 operands"),
    (lambda: pydl.einsum("ijk", M), ShapeError, r"term 0 'ijk' names 3 axes, its operand has shape \(2, 3\)"),
    (lambda: pydl.einsum("i", M), ShapeError, r"give each axis a letter, or use '\.\.\.'"),
    (lambda: pydl.einsum("i1", M), ArgumentError, r"term 0 'i1' contains '1'"),
    (lambda: pydl.einsum("i.j", M), ArgumentError, r"contains '\.'"),
    (lambda: pydl.einsum("......", M), ArgumentError, r"contains '\.'"),
    (lambda: pydl.einsum("ij->i>", M), ArgumentError, r"the output 'i>' contains '>'"),
    (lambda: pydl.einsum("ii", M), ShapeError, r"letter 'i' has size 2 in operand 0"),
    (lambda: pydl.einsum("...i,...i->i", C, pydl.zeros(5, 4)), ShapeError, r"an axis of '\.\.\.' has size 3"),
    (lambda: pydl.tensordot(C, M, 4), ArgumentError, r"\[tensordot\] dims=4 for tensors of 3 and 2 axes"),
    (lambda: pydl.tensordot(C, M, ([0], [0, 1])), ArgumentError, r"\[tensordot\] dims name 1 axes of a and 2 of b"),
    (lambda: pydl.tensordot(C, M, ()), ArgumentError, r"\[tensordot\] dims=\(\): expected a number, or the axes"),
    (lambda: pydl.tensordot(C, M, ([5], [0])), ArgumentError, r"\[tensordot\] dims=5 for a tensor of 3 axes"),
    (lambda: pydl.tensordot(C, C, ([0, 0], [0, 0])), ArgumentError, r"\[tensordot\].*names an axis twice"),
    (lambda: pydl.tensordot(C, M, ([2], [1])), ShapeError, r"\[tensordot\] axis 2 of a \(2, 3, 4\) has size 4, axis 1 of b"),
    (lambda: pydl.bilinear(M, M, C), ShapeError, r"\[bilinear\] input1 \(2, 3\), input2 \(2, 3\), weight \(2, 3, 4\)"),
    (
        lambda: pydl.bilinear(M, pydl.zeros(2, 4), C, pydl.zeros(3)),
        ShapeError,
        r"\[bilinear\] bias of shape \(3,\), expected \(2,\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[t[:40] for _, _, t in BAD])
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("seed", range(12))
def test_random_equations_are_exact_on_small_integers(seed, isa):
    """Small integers: every order of contraction must give the same number as the loops, to the last bit."""
    rng = np.random.default_rng(seed)
    letters = list(string.ascii_lowercase[:5])
    sizes = dict(zip(letters, (int(n) for n in rng.integers(1, 4, 5)), strict=True))
    words = ["".join(rng.choice(letters, rng.integers(1, 4))) for _ in range(int(rng.integers(1, 5)))]
    used = sorted(set("".join(words)))
    output = "".join(rng.permutation([c for c in used if rng.random() < 0.5]))
    operands = [rng.integers(-3, 4, [sizes[c] for c in w]).astype(np.float32) for w in words]
    equation = f"{','.join(words)}->{output}"
    with instruction_set(isa):
        y = pydl.einsum(equation, *[pydl.tensor(x) for x in operands])
    np.testing.assert_array_equal(y.numpy(), loops(equation, *[x.astype(float) for x in operands]), err_msg=equation)


def test_integers_lists_and_scalars():
    i = pydl.tensor([[1, 2], [3, 4]])
    assert pydl.einsum("ij,jk->ik", [i, i]).tolist() == [[7, 10], [15, 22]]
    assert pydl.einsum("ij,jk->ik", i, i).dtype == pydl.int64
    assert pydl.einsum("ii", i).item() == 5
    assert pydl.einsum(",ij->ij", pydl.tensor(2.0), i.float()).tolist() == [[2, 4], [6, 8]]
    assert pydl.einsum("->", pydl.tensor(3.0)).item() == 3
    assert pydl.kron(pydl.tensor(2.0), pydl.ones(2)).tolist() == [2, 2]
    assert pydl.tensordot(i, i, 2).item() == 30
