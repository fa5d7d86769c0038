"""Reading and writing by position: every check of tests/ops/records.py, all kinds of index, order of summation, bad indices."""

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, integers, run_records, threads

import pydl
from pydl import _core
from pydl.errors import ArgumentError, DTypeError, GraphError, ShapeError

smooth = {"double_backward": True}
X = pydl.zeros(3, 4)


def bad(function, *args, kind=ArgumentError, text):
    return (lambda: function(*args), kind, text)


def tensor_index(*values):
    return pydl.tensor(np.array(values))


def np_scatter_add(x, dim, i, src):
    out = x.copy()
    for at in np.ndindex(i.shape):
        to = list(at)
        to[dim] = i[at]
        out[tuple(to)] += src[at]
    return out


def np_scatter(x, dim, i, src):
    out = x.copy()
    for at in np.ndindex(i.shape):
        to = list(at)
        to[dim] = i[at]
        out[tuple(to)] = src[at] if np.ndim(src) else src
    return out


def np_gather(x, dim, i):
    out = np.empty(i.shape)
    for at in np.ndindex(i.shape):
        source = list(at)
        source[dim] = i[at]
        out[at] = x[tuple(source)]
    return out


def np_index_add(x, dim, i, src):
    out = np.moveaxis(x.copy(), dim, 0)
    for k, row in enumerate(i):
        out[row] += np.moveaxis(src, dim, 0)[k]
    return np.moveaxis(out, 0, dim)


def item(label, index, shape=(3, 4, 5), large=None, zero=(0, 4, 5)):
    """x[index]; `index` holds ndarrays, given to pydl as tensors."""

    def ours(x):
        wrapped = tuple(pydl.tensor(i) if isinstance(i, np.ndarray) else i for i in index)
        return x[wrapped if len(wrapped) > 1 else wrapped[0]]

    return OpRecord(
        label,
        ours,
        lambda x: x[index].copy(),
        (draw(*shape),),
        rtol=1e-7,
        large=large and (draw(*large),),
        zero_size=zero and (draw(*zero),),
        **smooth,
    )


a, m = np.array, np.random.default_rng(0).random((3, 4, 5)) < 0.4
RECORDS = [
    item("basic", (slice(None, None, -2), None, ..., 1)),
    item("integer", (-1, 2), zero=(2, 4, 0)),
    item("empty_slice", (slice(2, 2),)),
    item("mask", (m,), zero=None),
    item("mask_rows", (a([True, False, True]), slice(1, 3)), zero=None),
    item("rows", (a([2, 0, 2, -1]),), large=(3, 40, 5000), zero=(3, 0, 5)),
    item("matrix_of_rows", (a([[2, 0], [0, 0]]),), zero=None),
    item("columns", (slice(None), slice(None), a([4, 4, 0])), large=(3, 4000, 5), zero=(3, 0, 5)),
    item("dots", (..., a([1, 3, 3]), slice(None)), zero=(0, 4, 5)),
    item("pairs", (a([0, 2, 2]), a([1, 3, 3])), zero=(3, 4, 0)),
    item("apart", (a([0, 2, 2]), slice(1, None), a([[0], [4]])), zero=None),
    item("with_integer", (1, a([0, 3, 0])), zero=(2, 4, 0)),
    item("list", ([2, 2, 0],), zero=None),
    item("no_rows", (a([], int),)),
    OpRecord(
        "gather",
        lambda x, i: pydl.gather(x, 1, i),
        lambda x, i: np_gather(x, 1, i),
        (draw(3, 4, 2), integers(3, 6, 2, high=4)),
        rtol=1e-7,
        large=(draw(30, 40, 60), integers(30, 50, 60, high=40)),
        zero_size=(draw(3, 4, 2), integers(3, 0, 2, high=4)),
        errors=[
            bad(pydl.gather, X, 1, tensor_index([0, 4]), text=r"\[gather\] index 4 is out of range for axis 1 of size 4"),
            bad(pydl.gather, X, 1, tensor_index([0, -1]), text=r"\[gather\] index -1 is out of range"),
            bad(
                pydl.gather,
                X,
                1,
                tensor_index(0, 1),
                kind=ShapeError,
                text=r"\[gather\] index of shape \(2,\).*same number of axes",
            ),
            bad(pydl.gather, X, 1, tensor_index(*[[0]] * 4), kind=ShapeError, text=r"no axis but dim=1 may be longer"),
            bad(
                pydl.gather, X, 1, pydl.zeros(3, 4), kind=DTypeError, text=r"\[gather\] index must be an integer tensor.*float32"
            ),
            bad(pydl.gather, X, 2, tensor_index([0]), text=r"\[gather\] dim=2"),
        ],
        **smooth,
    ),
    OpRecord(
        "gather_part",
        lambda x, i: pydl.gather(x, 0, i),
        lambda x, i: np_gather(x, 0, i),
        (draw(3, 4, 5), integers(2, 3, 4, high=3)),
        rtol=1e-7,
        large=(draw(30, 40, 60), integers(70, 33, 44, high=30)),
        **smooth,
    ),
    OpRecord(
        "take_along",
        lambda x, i: pydl.take_along_dim(x, i, 1),
        lambda x, i: np.take_along_axis(x, i, 1),
        (draw(3, 4, 1), integers(1, 2, 5, high=4)),
        rtol=1e-7,
        errors=[
            bad(pydl.take_along_dim, X, tensor_index(0), 1, kind=ShapeError, text=r"\[take_along_dim\] indices of shape \(1,\)"),
            bad(pydl.take_along_dim, X, tensor_index(*[[0]] * 2), 1, kind=ShapeError, text=r"\[take_along_dim\]"),
        ],
        **smooth,
    ),
    OpRecord(
        "take_flat",
        pydl.take_along_dim,
        lambda x, i: x.ravel()[i.ravel()],
        (draw(3, 4), integers(2, 3, high=12)),
        rtol=1e-7,
        **smooth,
    ),
    OpRecord(
        "scatter_add",
        lambda x, i, s: pydl.scatter_add(x, 1, i, s),
        lambda x, i, s: np_scatter_add(x, 1, i, s),
        (draw(3, 4, 2), integers(3, 6, 2, high=4), draw(3, 6, 2)),
        large=(draw(7, 40, 60), integers(7, 900, 60, high=40), draw(7, 900, 60)),
        zero_size=(draw(3, 4, 2), integers(3, 0, 2, high=4), draw(3, 0, 2)),
        errors=[
            bad(pydl.scatter_add, X, 1, tensor_index([0, 4]), X, text=r"\[scatter_add\] index 4 is out of range"),
            bad(
                pydl.scatter_add,
                X,
                1,
                tensor_index([0, 1, 2]),
                pydl.zeros(1, 2),
                kind=ShapeError,
                text=r"larger than src of shape",
            ),
            bad(
                pydl.scatter_add, X, 1, tensor_index([0]), pydl.zeros(1), kind=ShapeError, text=r"larger than src of shape \(1,\)"
            ),
            bad(pydl.scatter_add, X, 1, tensor_index([0]), X.double(), kind=DTypeError, text=r"input float32 and src float64"),
        ],
        **smooth,
    ),
    OpRecord(
        "scatter_add_part",
        lambda x, i, s: pydl.scatter_add(x, 0, i, s),
        lambda x, i, s: np_scatter_add(x, 0, i, s),
        (draw(3, 4), integers(5, 2, high=3), draw(6, 3)),
        large=(draw(30, 70), integers(5000, 60, high=30), draw(5000, 65)),
        **smooth,
    ),
    OpRecord(
        "scatter",
        lambda x, i, s: pydl.scatter(x, 1, i, s),
        lambda x, i, s: np_scatter(x, 1, i, s),
        (draw(3, 4), integers(3, 6, high=4), draw(3, 7)),
        rtol=1e-7,
        zero_size=(draw(3, 4), integers(3, 0, high=4), draw(3, 7)),
        errors=[
            bad(pydl.scatter, X, 1, tensor_index([4]), X, text=r"\[scatter\] index 4"),
            bad(pydl.scatter, X, 1, tensor_index([0, 1]), pydl.zeros(1, 1), kind=ShapeError, text=r"\[scatter\] index of shape"),
            bad(
                pydl.scatter, X.long(), 1, tensor_index([0]), X, kind=DTypeError, text=r"\[scatter\] input int64 and src float32"
            ),
        ],
        **smooth,
    ),
    OpRecord(
        "scatter_number",
        lambda x, i: pydl.scatter(x, 0, i, 2.5),
        lambda x, i: np_scatter(x, 0, i, 2.5),
        (draw(4, 3), integers(2, 3, high=4)),
        rtol=1e-7,
        **smooth,
    ),
    OpRecord(
        "index_select",
        lambda x, i: pydl.index_select(x, 1, i),
        lambda x, i: x[:, i],
        (draw(3, 4, 2), integers(6, high=4)),
        rtol=1e-7,
        large=(draw(3, 40, 800), integers(99, high=40)),
        zero_size=(draw(3, 4, 0), integers(6, high=4)),
        errors=[
            bad(
                pydl.index_select, X, 1, tensor_index(0, 4), text=r"\[index_select\] index 4 is out of range for axis 1 of size 4"
            ),
            bad(pydl.index_select, X, 1, tensor_index([0]), kind=ShapeError, text=r"\[index_select\] index must be a vector"),
            bad(pydl.index_select, pydl.tensor(1.0), 0, tensor_index(0), kind=ShapeError, text=r"a scalar has no axis"),
            bad(pydl.index_select, X, 1, pydl.zeros(2), kind=DTypeError, text=r"must be an integer tensor"),
        ],
        **smooth,
    ),
    OpRecord(
        "index_add",
        lambda x, i, s: pydl.index_add(x, 1, i, s, alpha=2),
        lambda x, i, s: np_index_add(x, 1, i, 2 * s),
        (draw(3, 4, 2), integers(6, high=4), draw(3, 6, 2)),
        large=(draw(3, 40, 90), integers(999, high=40), draw(3, 999, 90)),
        zero_size=(draw(3, 4, 2), integers(0, high=4), draw(3, 0, 2)),
        errors=[
            bad(pydl.index_add, X, 1, tensor_index(0, 4), pydl.zeros(3, 2), text=r"\[index_add\] index 4 is out of range"),
            bad(
                pydl.index_add,
                X,
                1,
                tensor_index(0, 1),
                pydl.zeros(3, 3),
                kind=ShapeError,
                text=r"source of shape \(3, 3\), expected \(3, 2\)",
            ),
            bad(pydl.index_add, X, 1, tensor_index([0]), X, kind=ShapeError, text=r"a vector of indices"),
        ],
        **smooth,
    ),
    OpRecord(
        "masked_select",
        lambda x: pydl.masked_select(x, pydl.tensor(m[:, :, :1])),
        lambda x: x[np.broadcast_to(m[:, :, :1], x.shape)],
        (draw(3, 4, 5),),
        rtol=1e-7,
        errors=[
            bad(pydl.masked_select, X, tensor_index(1), kind=DTypeError, text=r"\[masked_select\] mask must be bool, got int64"),
            bad(pydl.masked_select, X, pydl.zeros(5).bool(), kind=ShapeError, text=r"\[masked_select\].*mask \(5,\)"),
        ],
        **smooth,
    ),
    OpRecord(
        "one_hot",
        lambda i: pydl.one_hot(i, 5),
        lambda i: np.eye(5, dtype=int)[i],
        (integers(3, 2, high=5),),
        gradient=False,
        zero_size=(integers(0, 2, high=5),),
        errors=[
            bad(pydl.one_hot, tensor_index(0, 5), 5, text=r"\[one_hot\] class 5 is out of range; expected 0 to 4"),
            bad(pydl.one_hot, tensor_index(-1), text=r"\[one_hot\] class -1"),
            bad(pydl.one_hot, X, kind=DTypeError, text="one_hot"),
            bad(pydl.one_hot, X.long()[:0], text=r"\[one_hot\].*give the number of classes"),
        ],
    ),
    OpRecord(
        "nonzero",
        lambda x: pydl.nonzero(x > 0),
        lambda x: np.argwhere(x > 0),
        (draw(3, 4),),
        gradient=False,
        zero_size=(draw(0, 2),),
    ),
]
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize(
    "shape", [(5, 1, 1), (1, 5, 1), (1, 1, 5), (3, 5, 63), (2, 5, 64), (2, 5, 65), (1, 2000, 3), (40, 3, 130)], ids=str
)
def test_sums_are_in_order_for_any_number_of_threads(shape, dtype):
    """The kernel against a plain loop: the same additions in the same order, so the same bits, in every way the work is cut."""
    rng = np.random.default_rng(0)
    outer, n, inner = shape
    count = 20_000 // (outer * inner) + 3
    o, k = np.ogrid[:outer, :inner]
    start = (
        rng.integers(0, 100, shape).astype(dtype) if np.dtype(dtype).kind in "iu" else rng.standard_normal(shape).astype(dtype)
    )
    values = rng.standard_normal((outer, count, inner)) * 50
    values = values.astype(dtype) if np.dtype(dtype).kind != "u" else np.abs(values).astype(dtype)
    rows = rng.integers(0, n, count)
    full = rng.integers(0, n, values.shape)
    for index in (np.broadcast_to(rows[None, :, None], values.shape), full):
        expected = start.copy()
        for i in range(count):
            expected[o, index[:, i], k] += values[:, i]
        for threads_ in (1, 2, 5):
            for layout in (values, np.asfortranarray(values), values[:, ::-1].copy()[:, ::-1]):
                out = start.copy()
                with threads(threads_):
                    _core.index_scatter_add(out, index, layout)
                assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("isa", ISAS)
def test_gathering_what_was_scattered(isa):
    rng = np.random.default_rng(1)
    with instruction_set(isa):
        for dtype in (np.float32, np.int64, np.uint8, np.bool_, np.int32, np.float64):
            x = rng.integers(0, 2, (4, 30, 7)).astype(dtype)
            order = rng.permutation(30)
            index = np.broadcast_to(order[None, :, None], x.shape)
            back = pydl.scatter(
                pydl.from_numpy(np.zeros_like(x)),
                1,
                pydl.from_numpy(index),
                pydl.gather(pydl.from_numpy(x), 1, pydl.from_numpy(index)),
            )
            np.testing.assert_array_equal(back.numpy(), x)


def test_the_kernels_refuse_what_would_touch_foreign_memory():
    x, i = np.zeros((2, 3, 4), np.float32), np.zeros((2, 5, 4), np.int64)
    values = np.zeros((2, 5, 4), np.float32)
    for index in (
        i + 3,
        i - 1,
        i + (1 << 62),
        np.broadcast_to(np.int64(3), i.shape),
        i[:1],
        i[:, :, :3],
        i.astype(np.int32),
        i[0],
    ):
        for kernel in (_core.index_gather, _core.index_scatter_add):
            with pytest.raises(ValueError, match="native"):
                kernel(x, index, values)
    for out, source in ((x, values[:, :4]), (x, values.astype(np.float64)), (x[:, :, ::2], values[:, :, ::2])):
        with pytest.raises(ValueError, match="native"):
            _core.index_scatter_add(out, i, source)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _core.index_scatter_add(x, i, values)


NUMPY_INDICES = [
    0,
    -3,
    (1, -1),
    slice(None),
    slice(None, None, -1),
    slice(10, 2, -3),
    slice(5, 1),
    (Ellipsis, 0),
    (None, 1, None),
    (0, Ellipsis, None),
    [0, 2],
    [],
    [[0], [1]],
    ([0, 1], [2, 3]),
    (slice(None), [1, 1]),
    ([0, 1], slice(None), [1, 0]),
    (0, [1, 2], 0),
    (None, [1, 2]),
    np.array(2),
    np.array([True, False, True]),
    (0, np.array([True, False, True, False])),
    (slice(None), np.ones((4, 5), bool)),
    np.zeros(3, bool),
    True,
    False,
    (True, 0),
    np.array([2, -1], np.int32),
    np.array([1, 2], np.uint8),
    (Ellipsis, [-1, 0]),
    (),
]


@pytest.mark.parametrize("index", NUMPY_INDICES, ids=str)
def test_reading_and_writing_as_numpy_does(index):
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    empty = isinstance(index, list) and not index
    t = pydl.tensor(x, requires_grad=True)
    y = t[index]
    expected = x[np.array([], int) if empty else index]
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    g = np.cos(np.arange(expected.size)).reshape(expected.shape)
    y.backward(pydl.tensor(g))
    dx = np.zeros_like(x)
    np.add.at(dx, np.array([], int) if empty else index, g)
    np.testing.assert_array_equal(t.grad.numpy(), dx)
    with pydl.no_grad():
        t[index] = 7.0
    x[np.array([], int) if empty else index] = 7.0
    np.testing.assert_array_equal(t.detach().numpy(), x)


BAD_INDICES = [
    (3, ArgumentError),
    (-4, ArgumentError),
    ((0, 0, 0, 0), ArgumentError),
    ([0, 3], ArgumentError),
    ([-4], ArgumentError),
    (np.zeros(4, bool), ArgumentError),
    (np.zeros((3, 5), bool), ArgumentError),
    (([0, 1], [0, 1, 2]), ArgumentError),
    (1.5, ArgumentError),
    ([0.5], DTypeError),
    ("x", ArgumentError),
    ((Ellipsis, Ellipsis), ArgumentError),
    (slice(None, None, 0), ArgumentError),
    (slice(0.5), ArgumentError),
    ((Ellipsis, [0], 0, 0, 0), ArgumentError),
    (1 << 70, ArgumentError),
]


@pytest.mark.parametrize(("index", "kind"), BAD_INDICES, ids=str)
def test_bad_indices(index, kind):
    x = pydl.zeros(3, 4, 5)
    with pytest.raises(kind, match=r"\[getitem\]"):
        x[index]
    with pytest.raises(kind, match=r"\[getitem\]"):
        x[index] = 1.0
    with pytest.raises(ShapeError, match=r"\[setitem\] value of shape \(7,\) does not fit.*\(4, 5\)"):
        x[0] = np.zeros(7)


def test_an_index_changed_before_backward_is_noticed():
    x, i = pydl.ones(3, 2, requires_grad=True), pydl.tensor([0, 0])
    for y in (x[i], pydl.index_select(x, 0, i), pydl.gather(x, 1, i[None]), pydl.scatter_add(x, 1, i[None], pydl.ones(1, 2))):
        i += 1
        with pytest.raises(GraphError, match="changed in place"):
            y.sum().backward()
        i -= 1
    pair = (np.array([0, 0]), np.array([1, 1]))  # arrays that are no tensors are copied
    for index in (pair, pair[0]):
        x.grad = None
        y = x[index]
        pair[0][:] = 2
        y.sum().backward()
        assert x.grad[0].sum().item() > 0
        pair[0][:] = 0


def test_scalars_and_read_only_memory():
    s = pydl.tensor(2.0, requires_grad=True)
    for y in (s[...], s[None], s[()], s[pydl.tensor(True)], pydl.gather(s, 0, pydl.tensor(0)), s.reshape(1)[pydl.tensor(0)]):
        assert (y.detach().numpy() == 2).all()
        (g,) = pydl.autograd.grad(y.sum(), [s])
        assert g.item() == 1
    assert s[pydl.tensor(False)].shape == (0,)
    assert pydl.scatter_add(s, 0, pydl.tensor(0), pydl.tensor(3.0)).item() == 5
    frozen = np.arange(4.0)
    frozen.flags.writeable = False
    t = pydl.from_numpy(frozen)
    assert t[[3, 0]].tolist() == [3, 0]
    assert pydl.index_add(t, 0, pydl.tensor([1]), pydl.ones(1).double()).tolist() == [0, 2, 2, 3]
    with pytest.raises(GraphError, match="read-only"):
        t[0] = 1.0


def test_integers_and_booleans():
    i = pydl.tensor([1, 2, 3])
    assert pydl.scatter_add(i, 0, pydl.tensor([0, 0]), pydl.tensor([5, 6])).tolist() == [12, 2, 3]
    assert pydl.index_add(i.int(), 0, pydl.tensor([2, 2]), i[:2].int()).tolist() == [1, 2, 6]
    assert pydl.gather(i > 1, 0, pydl.tensor([2, 0])).tolist() == [True, False]
    assert pydl.scatter(i, 0, pydl.tensor([1]), 9).tolist() == [1, 9, 3]
    assert pydl.gather(i.to(np.float16), 0, pydl.tensor([2, 0])).tolist() == [3, 1]
    assert i.to(np.int16)[pydl.tensor([2])].tolist() == [3]
    with pytest.raises(DTypeError, match=r"\[scatter_add\] input bool"):
        pydl.scatter_add(i > 1, 0, pydl.tensor([0]), i > 1)


def test_the_last_of_several_writes_gets_the_gradient():
    s = pydl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = pydl.scatter(pydl.zeros(2), 0, pydl.tensor([1, 0, 1]), s)
    assert y.tolist() == [2, 3]
    y.sum().backward()
    assert s.grad.tolist() == [0, 1, 1]
