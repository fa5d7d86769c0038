"""Order along an axis: every check of tests/ops/records.py, ties, NaN, integers, and bad arguments."""

import numpy as np
import pytest
from records import OpRecord, draw, run_records

import pydl
from pydl.errors import ArgumentError

nan, inf = float("nan"), float("inf")
smooth = {"double_backward": True}
X = pydl.zeros(2, 3)


def distinct(*shape):
    """Distinct values well apart: no ties within the step of central differences."""
    return lambda rng: (rng.permutation(int(np.prod(shape))).reshape(shape) - 11.3) * 0.1


def bad(function, *args, text):
    return (lambda: function(*args), ArgumentError, text)


def np_sort(x, dim, descending=False):
    """Insertion sort, line by line: none of NumPy's."""
    lines = np.moveaxis(x.copy(), dim, -1)
    order = np.empty(lines.shape, np.int64)
    for at in np.ndindex(lines.shape[:-1]):
        row: list[int] = []
        for i, value in enumerate(lines[at]):
            place = len(row)
            while place and (lines[at][row[place - 1]] < value if descending else lines[at][row[place - 1]] > value):
                place -= 1
            row.insert(place, i)
        order[at] = row
    order = np.moveaxis(order, -1, dim)
    return np.take_along_axis(x, order, dim), order


def np_topk(x, k, dim, largest=True):
    return tuple(np.take(a, np.arange(k), dim) for a in np_sort(x, dim, largest))


def np_kth(x, k, dim, keepdim=False):
    return tuple(np.take(a, [k - 1] if keepdim else k - 1, dim) for a in np_sort(x, dim))


def record(label, function, reference, shape=(3, 5, 4), large=(7, 60, 41), zero=(0, 5, 4), errors=()):
    return OpRecord(
        label,
        function,
        reference,
        (distinct(*shape),),
        rtol=1e-7,
        large=(distinct(*large),),
        errors=list(errors),
        zero_size=zero and (draw(*zero),),
        **smooth,
    )


RECORDS = [
    record(
        "sort",
        lambda x: pydl.sort(x, 1),
        lambda x: np_sort(x, 1),
        large=(2, 30, 9),
        errors=[bad(pydl.sort, X, 2, text=r"\[sort\] dim=2 for a tensor of 2 axes")],
    ),
    record("sort_descending", lambda x: pydl.sort(x, -1, True), lambda x: np_sort(x, -1, True), large=(2, 9, 30)),
    OpRecord(
        "argsort",
        lambda x: pydl.argsort(x, 0, True),
        lambda x: np_sort(x, 0, True)[1],
        (distinct(5, 3),),
        gradient=False,
        zero_size=(draw(0, 3),),
        errors=[bad(pydl.argsort, X, -3, text=r"\[argsort\] dim=-3")],
    ),
    record(
        "topk",
        lambda x: pydl.topk(x, 2, 1),
        lambda x: np_topk(x, 2, 1),
        errors=[
            bad(pydl.topk, X, 4, text=r"\[topk\] k=4 for an axis of size 3 \(input of shape \(2, 3\)\); expected 0 to 3"),
            bad(pydl.topk, X, -1, text=r"\[topk\] k=-1"),
            bad(pydl.topk, X, 1, 2, text=r"\[topk\] dim=2"),
        ],
    ),
    record("topk_smallest", lambda x: pydl.topk(x, 3, -1, False), lambda x: np_topk(x, 3, -1, False)),
    record("topk_all", lambda x: pydl.topk(x, 4), lambda x: np_topk(x, 4, -1)),
    record(
        "kthvalue",
        lambda x: pydl.kthvalue(x, 2, 1, True),
        lambda x: np_kth(x, 2, 1, True),
        errors=[
            bad(pydl.kthvalue, X, 0, text=r"\[kthvalue\] k=0 for an axis of size 3; expected 1 to 3"),
            bad(pydl.kthvalue, X, 4, text=r"\[kthvalue\] k=4"),
            bad(pydl.kthvalue, pydl.zeros(2, 0), 1, text=r"\[kthvalue\]"),
        ],
    ),
    record(
        "median",
        lambda x: pydl.median(x, 2),
        lambda x: np_kth(x, 2, 2),
        errors=[
            bad(pydl.median, pydl.zeros(2, 0), 1, text=r"\[median\] axis 1 of input \(2, 0\) is empty"),
            bad(pydl.median, X, 2, text=r"\[median\] dim=2"),
        ],
    ),
    record("median_all", pydl.median, lambda x: np_kth(x.ravel(), (x.size + 1) // 2, 0)[0], zero=None),
    OpRecord(
        "unique",
        lambda x: pydl.unique(pydl.floor(x), return_inverse=True, return_counts=True),
        lambda x: (
            a := np.array(sorted(set(np.floor(x).ravel()))),
            np.array([[list(a).index(v) for v in row] for row in np.floor(x)]),
            np.array([(np.floor(x) == v).sum() for v in a]),
        ),
        (draw(4, 5),),
        gradient=False,
        errors=[bad(pydl.unique, X, True, False, False, 2, text=r"\[unique\] dim=2")],
    ),
]
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 100])
def test_ties_keep_their_order_in_both_directions(n):
    x = np.random.default_rng(n).integers(0, 4, (3, n))
    for dtype in (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_):
        t = pydl.from_numpy(x.astype(dtype))
        for descending in (False, True):
            values, order = pydl.sort(t, 1, descending)
            expected = np_sort(x.astype(dtype).astype(np.int64), 1, descending)
            np.testing.assert_array_equal(order.numpy(), expected[1])
            np.testing.assert_array_equal(values.numpy(), expected[0].astype(dtype))
            assert values.dtype == dtype
            for k in {1, n // 2, n}:
                best, at = pydl.topk(t, k, 1, descending)
                np.testing.assert_array_equal(best.numpy(), expected[0][:, :k].astype(dtype))
                np.testing.assert_array_equal(np.take_along_axis(t.numpy(), at.numpy(), 1), best.numpy())
                assert all(len(set(row)) == k for row in at.tolist())


def test_nan_and_infinities():
    x = pydl.tensor([1.0, nan, -inf, inf, nan, 0.0])
    assert pydl.argsort(x).tolist() == [2, 5, 0, 3, 1, 4]
    assert pydl.argsort(x, descending=True).tolist() == [1, 4, 3, 0, 5, 2]
    assert pydl.topk(x, 3).indices.tolist() == [1, 4, 3]
    assert pydl.topk(x, 2, largest=False).indices.tolist() == [2, 5]
    assert pydl.kthvalue(x, 4).indices.item() == 3
    assert np.isnan(pydl.kthvalue(x, 5).values.item())
    values, index = pydl.median(x, 0)
    assert np.isnan(values.item())
    assert index.item() == 1
    assert np.isnan(pydl.median(x).item())
    assert pydl.unique(pydl.tensor([inf, -inf, inf, 0.0])).tolist() == [-inf, 0, inf]


def test_a_tie_gives_its_gradient_to_the_element_chosen():
    x = pydl.tensor([3.0, 1.0, 3.0, 3.0], requires_grad=True)
    for function, expected in [
        (lambda t: pydl.topk(t, 1).values, 1),
        (pydl.median, 1),
        (lambda t: pydl.kthvalue(t, 3).values, 1),
    ]:
        x.grad = None
        function(x).sum().backward()
        assert x.grad.sum().item() == expected
        assert x.grad[1].item() == 0


def test_scalars_and_empty_axes():
    s = pydl.tensor(2.0, requires_grad=True)
    for pair in (pydl.sort(s), pydl.sort(s, 0, True), pydl.topk(s, 1), pydl.kthvalue(s, 1), pydl.median(s, 0)):
        assert pair.values.shape == pair.indices.shape == ()
        assert pair.indices.item() == 0
        assert pydl.autograd.grad(pair.values, [s])[0].item() == 1
    assert pydl.argsort(s).item() == 0
    assert pydl.sort(pydl.zeros(3, 0)).values.shape == (3, 0)
    assert pydl.topk(pydl.zeros(3, 4), 0).values.shape == (3, 0)
    assert pydl.topk(pydl.zeros(0, 4), 2).values.shape == (0, 2)
    assert pydl.unique(pydl.zeros(0)).shape == (0,)


def test_negative_strides_and_read_only_memory():
    x = np.random.default_rng(0).permutation(24).reshape(4, 6).astype(np.float32)
    for view in (x[::-1, ::-2], x.T, np.broadcast_to(x[:1], (3, 6))):
        t = pydl.from_numpy(view)
        for dim in (0, 1):
            np.testing.assert_array_equal(pydl.sort(t, dim).values.numpy(), np_sort(view, dim)[0])
            np.testing.assert_array_equal(pydl.sort(t, dim).indices.numpy(), np_sort(view, dim)[1])
            np.testing.assert_array_equal(pydl.topk(t, 2, dim).values.numpy(), np_topk(view, 2, dim)[0])
            np.testing.assert_array_equal(pydl.median(t, dim).values.numpy(), np_kth(view, (view.shape[dim] + 1) // 2, dim)[0])


def test_unique_slices():
    x = pydl.tensor([[1, 2], [0, 5], [1, 2]])
    values, inverse, counts = pydl.unique(x, return_inverse=True, return_counts=True, dim=0)
    assert values.tolist() == [[0, 5], [1, 2]]
    assert inverse.tolist() == [1, 0, 1]
    assert counts.tolist() == [1, 2]
