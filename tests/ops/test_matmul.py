"""Matrix products: every check of tests/ops/records.py, exact small integers around the block edges, NaN and Inf."""

import itertools

import numpy as np
import pytest
from records import EXACT_LEVELS, OpRecord, draw, instruction_set, run_records, threads

import pydl
from pydl.errors import DTypeError, ShapeError

inf, nan = float("inf"), float("nan")
smooth = {"double_backward": True}


def loop_product(a, b):
    """a[..., M, K] x b[..., K, N] as sums of outer products: none of NumPy's matmul."""
    return sum((a[..., :, k, None] * b[..., None, k, :] for k in range(a.shape[-1])),
               np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])))


def product(name, a, b, reference=loop_product, function=pydl.matmul, large=None, zero_size=None, errors=()):
    return OpRecord(name, function, reference, (draw(*a), draw(*b)), rtol=5e-6, large=large, zero_size=zero_size,
                    errors=list(errors), **smooth)


def linear_reference(x, w, b=0.0):
    return (x[..., None, :] * w).sum(-1) + b


def mismatch(*shapes, text, function=pydl.matmul):
    return (lambda: function(*(pydl.zeros(*s) for s in shapes)), ShapeError, text)


RECORDS = [
    product("matrix", (5, 7), (7, 3), large=(draw(150, 300), draw(300, 70)), zero_size=(draw(3, 0), draw(0, 4)), errors=[
        mismatch((3, 4), (3, 4), text=r"\[matmul\] input \(3, 4\) x other \(3, 4\): the last axis of input \(4\).*transpose"),
        mismatch((3,), (4,), text=r"\[matmul\] input \(3,\) x other \(4,\).*only axis of other \(4\)"),
        mismatch((2, 3, 4), (3, 4, 6), text=r"\[matmul\] the leading axes of input \(2, 3, 4\) and other \(3, 4, 6\)"),
        mismatch((), (3, 4), text=r"\[matmul\].*scalars are multiplied with \*"),
        (lambda: pydl.matmul(pydl.zeros(2, 3, dtype=np.float16), pydl.zeros(3, 2, dtype=np.float16)), DTypeError,
         r"\[matmul\].*input float16, other float16"),
    ]),
    # a long K goes to the kernel that cuts K: 4 chunks here
    product("long", (3, 4), (4, 2), large=(draw(8, 5000), draw(5000, 9)), zero_size=(draw(0, 4), draw(4, 2))),
    product("batch", (2, 3, 4), (2, 4, 5), large=(draw(33, 20, 40), draw(33, 40, 50)), zero_size=(draw(0, 3, 4), draw(0, 4, 5))),
    product("shared_right", (2, 3, 4), (4, 5), large=(draw(40, 30, 64), draw(64, 33)), zero_size=(draw(2, 3, 0), draw(0, 5))),
    product("shared_left", (3, 4), (2, 4, 5), zero_size=(draw(3, 4), draw(2, 4, 0))),
    product("broadcast", (2, 1, 3, 4), (3, 4, 5), zero_size=(draw(2, 1, 0, 4), draw(3, 4, 5))),
    product("row", (4,), (4, 5), lambda a, b: loop_product(a[None], b)[0], zero_size=(draw(0), draw(0, 5))),
    product("row_batch", (4,), (3, 4, 5), lambda a, b: loop_product(a[None], b)[..., 0, :]),
    product("column", (3, 4), (4,), lambda a, b: loop_product(a, b[:, None])[..., 0], large=(draw(300, 700), draw(700))),
    product("column_batch", (2, 3, 4), (4,), lambda a, b: loop_product(a, b[:, None])[..., 0]),
    product("dot", (9,), (9,), lambda a, b: np.asarray((a * b).sum()), pydl.dot, large=(draw(40_001), draw(40_001)),
            zero_size=(draw(0), draw(0)), errors=[mismatch((2, 3), (3,), text=r"\[dot\] expected tensors of 1 and 1 axes",
                                                           function=pydl.dot)]),
    product("mm", (3, 4), (4, 5), function=pydl.mm, errors=[
        mismatch((2, 3, 4), (4, 5), text=r"\[mm\] expected tensors of 2 and 2 axes, got shapes \(2, 3, 4\)", function=pydl.mm)]),
    product("bmm", (2, 3, 4), (2, 4, 5), function=pydl.bmm, errors=[
        mismatch((3, 4), (4, 5), text=r"\[bmm\] expected tensors of 3 and 3 axes", function=pydl.bmm)]),
    product("mv", (3, 4), (4,), lambda a, b: (a * b).sum(1), pydl.mv, errors=[
        mismatch((4,), (3, 4), text=r"\[mv\] expected tensors of 2 and 1 axes", function=pydl.mv)]),
    product("outer", (3,), (4,), np.outer, pydl.outer, zero_size=(draw(0), draw(4)), errors=[
        mismatch((3, 1), (4,), text=r"\[outer\] expected tensors of 1 and 1 axes", function=pydl.outer)]),
    OpRecord("addmm", lambda c, a, b: pydl.addmm(c, a, b, beta=0.5, alpha=-3), lambda c, a, b: 0.5 * c - 3 * loop_product(a, b),
             (draw(5), draw(3, 4), draw(4, 5)), zero_size=(draw(5), draw(3, 0), draw(0, 5)), rtol=5e-6, **smooth),
    OpRecord("linear", pydl.linear, linear_reference, (draw(4, 6), draw(5, 6), draw(5)), rtol=5e-6,
             large=(draw(300, 120), draw(50, 120), draw(50)), zero_size=(draw(2, 0), draw(5, 0), draw(5)), errors=[
                 mismatch((2, 4), (4, 3), text=r"\[linear\] input of shape \(2, 4\) has 4 features.*expects 3; flatten",
                          function=pydl.linear),
                 mismatch((2, 4), (4,), text=r"\[linear\] weight must be \(out_features, in_features\)", function=pydl.linear),
                 mismatch((2, 4), (3, 4), (4,), text=r"\[linear\] bias of shape \(4,\), expected \(3,\)", function=pydl.linear),
                 mismatch((), (3, 4), text=r"\[linear\].*no features", function=pydl.linear),
                 (lambda: pydl.linear(pydl.zeros(2, 4), pydl.zeros(3, 4, dtype=np.float64)), DTypeError,
                  r"\[linear\].*input float32, weight float64"),
             ], **smooth),
    OpRecord("linear_no_bias", pydl.linear, linear_reference, (draw(2, 3, 6), draw(5, 6)), rtol=5e-6,
             zero_size=(draw(0, 3, 6), draw(5, 6)), **smooth),
    OpRecord("linear_vector", pydl.linear, linear_reference, (draw(6), draw(5, 6), draw(5)), rtol=5e-6, **smooth),
]
test_ops = run_records(RECORDS)


def whole_numbers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


EDGES = [1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 31, 32, 33, 48]


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_around_the_tile_edges(isa, dtype):
    """Small integers: no rounding, so the product must be that of int64 to the last bit, in every memory order."""
    rng = np.random.default_rng(0)
    with instruction_set(isa):
        for m, n in itertools.product(EDGES, EDGES):
            k = int(rng.choice([1, 3, 16, 33]))
            a, b = whole_numbers(rng, (m, k), np.int64), whole_numbers(rng, (k, n), np.int64)
            expected = a @ b
            for left, right in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b)), (a[::-1].copy()[::-1], b)):
                x, y = (np.array(v, dtype, order="K") for v in (left, right))
                np.testing.assert_array_equal(pydl.matmul(pydl.from_numpy(x), pydl.from_numpy(y)).numpy(), expected)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize("size", [(83, 40, 257), (84, 33, 512), (85, 97, 255), (113, 31, 256), (8, 9, 4096), (15, 33, 5000),
                                  (1, 1, 9000), (2, 65, 4097), (200, 1, 300), (1, 200, 300), (88, 64, 300),
                                  (89, 48, 530), (92, 32, 16), (93, 16, 17), (7, 129, 300), (8, 96, 513), (22, 65, 40),
                                  (36, 160, 20), (124, 97, 31)], ids=str)
def test_exact_around_the_block_edges(size, isa):
    """Blocks of rows (48 or 112), their last rows (up to 4, 8 or 14), one to five panels of columns (16 or 32), blocks of K (256)
    and the kernel for long K."""
    m, n, k = size
    rng = np.random.default_rng(1)
    a, b, bias = (whole_numbers(rng, s, np.int64) for s in ((m, k), (k, n), (n,)))
    with instruction_set(isa):
        for dtype in (np.float32, np.float64):
            x, y, c = (pydl.tensor(v.astype(dtype)) for v in (a, b, bias))
            np.testing.assert_array_equal(pydl.matmul(x, y).numpy(), a @ b)
            np.testing.assert_array_equal(pydl.linear(x, y.T, c).numpy(), a @ b + bias)
            by_columns = pydl.from_numpy(np.asfortranarray(a.astype(dtype)))
            np.testing.assert_array_equal(pydl.matmul(by_columns, y).numpy(), a @ b)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize("m", [1, 3, 7, 8, 9, 12, 13, 16, 17, 32, 33, 70, 128, 129])
def test_exact_with_few_rows_and_many_weights(m, isa):
    """Weights in rows along K meet up to 12 rows as they lie, up to 32 (128, if they are very many) in panels of 6 or 14 of them;
    weights in rows along the columns meet up to 8 as they lie."""
    rng = np.random.default_rng(2)
    with instruction_set(isa):
        for n, k in ((300, 257), (65, 1030), (1, 70_001), (3000, 22), (51, 2049), (59, 17800)):
            a, b, bias = (whole_numbers(rng, s, np.int64) for s in ((m, k), (k, n), (n,)))
            expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)  # exact, and BLAS multiplies floats only
            for dtype in (np.float32, np.float64):
                x, c = pydl.tensor(a.astype(dtype)), pydl.tensor(bias.astype(dtype))
                along_k, along_n = pydl.tensor(b.T.astype(dtype)), pydl.tensor(b.astype(dtype))
                for weight in (along_k, along_n.T):
                    np.testing.assert_array_equal(pydl.linear(x, weight, c).numpy(), expected + bias)
                    np.testing.assert_array_equal(pydl.matmul(x, weight.T).numpy(), expected)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
def test_exact_gradients(isa):
    rng = np.random.default_rng(2)
    for a_shape, b_shape in [((13, 33), (33, 15)), ((3, 14, 5), (3, 5, 31)), ((3, 14, 5), (5, 33)), ((14, 5), (3, 5, 6)),
                             ((2, 1, 7, 5), (3, 5, 6)), ((5,), (5, 17)), ((17, 5), (5,)), ((2, 1100, 3), (3, 2))]:
        a, b = whole_numbers(rng, a_shape, np.int64), whole_numbers(rng, b_shape, np.int64)
        g = whole_numbers(rng, (a @ b).shape, np.int64)
        left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
        up = g.reshape((*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1]))
        full = up @ np.swapaxes(right, -1, -2), np.swapaxes(left, -1, -2) @ up
        with instruction_set(isa):
            x, y = (pydl.tensor(v.astype(np.float32), requires_grad=True) for v in (a, b))
            pydl.matmul(x, y).backward(pydl.tensor(g.astype(np.float32)))
        for t, whole, shape in ((x, full[0], left.shape), (y, full[1], right.shape)):
            extra = whole.ndim - len(shape)
            axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and whole.shape[i + extra] != 1)
            np.testing.assert_array_equal(t.grad.numpy(), whole.sum(axes).reshape(t.shape))


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_special_values_spread_as_in_plain_arithmetic(value, isa):
    """A NaN or Inf reaches its row or column, meets zeros as 0 * inf = NaN, and touches nothing else."""
    rng = np.random.default_rng(3)
    for m, k, n in [(5, 7, 3), (15, 300, 33), (3, 5000, 2)]:
        a, b = whole_numbers(rng, (m, k), np.float32), whole_numbers(rng, (k, n), np.float32)
        a[m - 2, k // 2] = value
        b[k - 1, n - 1] = value
        with np.errstate(invalid="ignore"):
            expected = loop_product(a.astype(np.float64), b.astype(np.float64))
        with instruction_set(isa):
            np.testing.assert_array_equal(pydl.matmul(pydl.tensor(a), pydl.tensor(b)).numpy(), expected.astype(np.float32))
        assert np.isfinite(expected).sum() == (m - 1) * (n - 1)


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(4)
    shapes = [((301, 517), (517, 203)), ((7, 20_000), (20_000, 11)), ((5, 61, 70), (5, 70, 33)), ((1, 3000), (3000, 500))]
    for a, b in shapes:
        x, y = (pydl.tensor(rng.standard_normal(s).astype(np.float32)) for s in (a, b))
        results = []
        for n in (1, 2, 5):
            with threads(n):
                results.append(pydl.matmul(x, y).numpy().tobytes())
        assert results[0] == results[1] == results[2]


def test_batch_and_single_products_have_the_same_bits():
    rng = np.random.default_rng(5)
    x, y = (pydl.tensor(rng.standard_normal(s).astype(np.float32)) for s in ((4, 33, 300), (4, 300, 17)))
    together = pydl.matmul(x, y).numpy()
    for i in range(4):
        np.testing.assert_array_equal(pydl.matmul(x[i], y[i]).numpy(), together[i])


def test_integers_and_mixed_dtypes():
    i = pydl.tensor([[1, -2], [3, 4]])
    assert pydl.matmul(i, i).tolist() == [[-5, -10], [15, 10]]
    assert pydl.matmul(i, i[0]).dtype == pydl.int64
    assert (i @ i[0]).tolist() == [5, -5]
    assert pydl.matmul(i, pydl.tensor([0.5, 0.25])).tolist() == [0.0, 2.5]
    assert (i.int() @ pydl.tensor([0.5, 0.25])).dtype == pydl.float32
    assert (i @ pydl.ones(2).double()).dtype == pydl.float64
    assert (pydl.ones(2, 2) @ np.ones((2, 2), np.float32)).tolist() == [[2, 2], [2, 2]]
    with pytest.raises(ShapeError, match=r"\[matmul\] input \(2, 2\) x other \(3,\)"):
        pydl.matmul(i, pydl.tensor([1, 2, 3]))


def test_hostile_memory():
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    a.flags.writeable = False
    repeated = np.broadcast_to(np.float32(2), (4, 5))  # strides 0, read-only
    np.testing.assert_array_equal(pydl.matmul(pydl.from_numpy(a), pydl.from_numpy(repeated)).numpy(), a @ repeated)
    packed = np.zeros(3, [("x", np.float32, 4), ("y", np.int8)])
    for unaligned in (packed["x"], np.frombuffer(bytes(65), np.uint8)[1:].view(np.float32).reshape(4, 4)):
        with pytest.raises(ValueError, match="copy it first"):
            pydl.matmul(pydl.from_numpy(unaligned), pydl.ones(4, 2))
    sparse = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2, 1), (1 << 40, 1 << 50))[:1]
    assert pydl.matmul(pydl.from_numpy(sparse), pydl.ones(1, 2)).tolist() == [[1, 1]]  # a stride that no step takes
