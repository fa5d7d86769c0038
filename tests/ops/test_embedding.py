"""Embedding and bags: records against NumPy, order of the sums, padding, errors, layers."""

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, integers, run_records, threads

import pydl
from pydl import _core, nn
from pydl.errors import ArgumentError, DTypeError, ShapeError

OFFSETS = np.array([0, 3, 3, 4, 11])


def bag_reference(mode, padding=None, offsets=None):
    def reference(index, weight, scale=None):
        bags = np.split(index, offsets[1:]) if offsets is not None else index
        factors = None if scale is None else np.split(scale, offsets[1:]) if offsets is not None else scale
        out = []
        for b, bag in enumerate(bags):
            rows = weight[bag] if factors is None else weight[bag] * factors[b][:, None]
            rows = rows[bag != padding]
            empty = np.zeros(weight.shape[1])
            out.append(getattr(rows, mode)(0) if len(rows) else empty)
        return np.array(out)

    return reference


def bag(mode, offsets=None, **options):
    def function(index, weight, scale=None):
        limits = None if offsets is None else pydl.tensor(offsets)
        return pydl.embedding_bag(index, weight, limits, mode=mode, per_sample_weights=scale, **options)

    return function


RECORDS = [
    OpRecord("embedding", pydl.embedding, lambda i, w: w[i], (integers(3, 4, high=7), draw(7, 5)), double_backward=True,
             large=(integers(3000, 7, high=900), draw(900, 37)), zero_size=(integers(0, 3, high=7), draw(7, 5)),
             errors=[
                 (lambda: pydl.embedding(pydl.tensor([[0, 1], [4, 5]]), pydl.zeros(4, 2)), ArgumentError,
                  r"\[embedding\] index 4 at position \(1, 0\) of input \(2, 2\) .* weight of 4 rows; expected 0 to 3"),
                 (lambda: pydl.embedding(pydl.tensor([1, -1]), pydl.zeros(4, 2)), ArgumentError, r"index -1 at position \(1,\)"),
                 (lambda: pydl.embedding(pydl.zeros(4, 2), pydl.zeros(4, 2)), DTypeError, r"must hold integers.*\(input, w"),
                 (lambda: pydl.embedding(pydl.tensor([1]), pydl.zeros(4)), ShapeError, r"weight of shape \(4,\)"),
                 (lambda: pydl.embedding(pydl.tensor([1]), pydl.zeros(4, 2), 4), ArgumentError, "padding_idx=4"),
                 (lambda: pydl.embedding(pydl.tensor([1]), pydl.zeros(4, 2), sparse=True), ArgumentError, "sparse=True"),
                 (lambda: pydl.embedding(pydl.tensor([5]), pydl.zeros(4, 2), max_norm=1.0), ArgumentError, "index 5"),
             ]),
    OpRecord("embedding_dots", pydl.embedding_dots, lambda x, i, w: np.einsum("nd,nkd->nk", x, w[i]),
             (draw(3, 5), integers(3, 4, high=7), draw(7, 5)),
             large=(draw(900, 37), integers(900, 6, high=500), draw(500, 37)),
             zero_size=(draw(0, 5), integers(0, 4, high=7), draw(7, 5)),
             errors=[
                 (lambda: pydl.embedding_dots(pydl.zeros(2, 3), pydl.tensor([[0], [4]]), pydl.zeros(4, 3)), ArgumentError,
                  r"\[embedding_dots\] index 4 at position \(1, 0\) of input \(2, 1\)"),
                 (lambda: pydl.embedding_dots(pydl.zeros(2, 3), pydl.tensor([[0], [1]]), pydl.zeros(4, 2)), ShapeError,
                  r"input \(2, 3\), index \(2, 1\), weight \(4, 2\); expected \(N, D\)"),
                 (lambda: pydl.embedding_dots(pydl.zeros(2, 3), pydl.tensor([0, 1]), pydl.zeros(4, 3)), ShapeError,
                  r"index \(2,\)"),
             ]),
    OpRecord("embedding_bag_sum", bag("sum"), bag_reference("sum"), (integers(3, 4, high=6), draw(6, 5)),
             large=(integers(900, 9, high=500), draw(500, 40))),
    OpRecord("embedding_bag_mean", bag("mean", OFFSETS), bag_reference("mean", None, OFFSETS),
             (integers(17, high=6), draw(6, 19)),
             errors=[
                 (lambda: bag("mean")(pydl.tensor([1, 2]), pydl.zeros(4, 2)), ArgumentError, "needs offsets"),
                 (lambda: bag("mean", [1, 2])(pydl.tensor([1, 2]), pydl.zeros(4, 2)), ArgumentError, r"offsets \[1, 2\] for 2"),
                 (lambda: bag("mean", [0, 3])(pydl.tensor([1, 2]), pydl.zeros(4, 2)), ArgumentError, r"offsets \[0, 3\]"),
                 (lambda: bag("mean", [0, 1])(pydl.tensor([[1, 2]]), pydl.zeros(4, 2)), ArgumentError, "offsets are for"),
                 (lambda: bag("median")(pydl.tensor([[1, 2]]), pydl.zeros(4, 2)), ArgumentError, "mode='median'"),
                 (lambda: bag("sum")(pydl.tensor([[1, 4]]), pydl.zeros(4, 2)), ArgumentError, r"index 4 at position \(0, 1\)"),
                 (lambda: bag("mean")(pydl.tensor([[1]]), pydl.zeros(4, 2), pydl.ones(1, 1)), ArgumentError, "mode='sum'"),
             ]),
    OpRecord("embedding_bag_padding", bag("mean", padding_idx=-4), bag_reference("mean", 2),
             (integers(5, 6, high=6), draw(6, 5))),
    OpRecord("embedding_bag_max", bag("max", OFFSETS, padding_idx=1), bag_reference("max", 1, OFFSETS),
             (integers(17, high=6), draw(6, 19))),
    OpRecord("embedding_bag_weighted", bag("sum", OFFSETS), bag_reference("sum", None, OFFSETS),
             (integers(17, high=6), draw(6, 19), draw(17))),
]
# A padding row gets no gradient by definition, so differences would not agree: checked below.
for record in RECORDS:
    if "padding" in record.name or "max" in record.name:
        record.gradient = False
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("features", [1, 7, 16, 33, 64, 65, 130])
def test_gradient_is_the_sum_per_row(features, dtype):
    """Small integers: exact. Rows named never, once and very often; the padding row."""
    rng = np.random.default_rng(features)
    index = np.concatenate([rng.integers(0, 20, 300), np.full(500, 3)])
    g = rng.integers(-8, 9, (800, features)).astype(dtype)
    expected = np.zeros((25, features))
    np.add.at(expected, index, g)
    expected[5] = 0
    for isa in ISAS:
        with instruction_set(isa):
            w = pydl.zeros(25, features, dtype=dtype, requires_grad=True)
            pydl.embedding(pydl.tensor(index), w, padding_idx=5).backward(pydl.tensor(g))
            np.testing.assert_array_equal(w.grad.numpy(), expected)


def test_gradient_of_a_frequent_row_is_accurate():
    n = 300_000
    w = pydl.zeros(2, 3, requires_grad=True)
    g = np.random.default_rng(0).uniform(0, 1, (n, 3)).astype(np.float32)
    pydl.embedding(pydl.tensor(np.ones(n, np.int64)), w).backward(pydl.tensor(g))
    np.testing.assert_allclose(w.grad.numpy()[1], g.sum(0, dtype=np.float64), rtol=1e-6)


def test_scale_by_frequency():
    w = pydl.zeros(4, 2, dtype=np.float64, requires_grad=True)
    index = pydl.tensor([1, 3, 1, 1])
    g = np.arange(8.0).reshape(4, 2)
    pydl.embedding(index, w, scale_grad_by_freq=True).backward(pydl.tensor(g), create_graph=True)
    np.testing.assert_allclose(w.grad.detach().numpy(), [[0, 0], g[[0, 2, 3]].mean(0), [0, 0], g[1]])
    leaf = pydl.tensor(g, requires_grad=True)
    (dw,) = pydl.autograd.grad(pydl.embedding(index, w, 3, None, 2.0, True), [w], leaf, create_graph=True)
    weights = np.random.default_rng(0).normal(size=(4, 2))
    (dg,) = pydl.autograd.grad(dw, [leaf], pydl.tensor(weights))
    np.testing.assert_allclose(dg.numpy(), [weights[1] / 3, [0, 0], weights[1] / 3, weights[1] / 3])


def test_bag_gradients_skip_padding_and_follow_the_maximum():
    weight = np.random.default_rng(0).normal(size=(6, 40))
    index = np.array([[0, 1, 1], [5, 2, 1], [1, 1, 1]])
    g = np.random.default_rng(1).normal(size=(3, 40))
    mean, largest = np.zeros_like(weight), np.zeros_like(weight)
    for b in range(3):
        counted = [i for i in index[b] if i != 1]
        for i in counted:
            mean[i] += g[b] / len(counted)
        for c in range(40 if counted else 0):
            largest[counted[int(np.argmax(weight[counted, c]))], c] += g[b, c]
    for mode, expected in (("mean", mean), ("max", largest)):
        w = pydl.tensor(weight, requires_grad=True)
        pydl.embedding_bag(pydl.tensor(index), w, mode=mode, padding_idx=1).backward(pydl.tensor(g))
        np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12)


def test_of_equal_maxima_the_first_gets_the_gradient():
    w = pydl.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    pydl.embedding_bag(pydl.tensor([[0, 2, 1]]), w, mode="max").sum().backward()
    assert w.grad.tolist() == [[0], [0], [1]]


def test_max_bag_gradient_does_not_depend_on_threads():
    rng = np.random.default_rng(0)
    index, weight, g = rng.integers(0, 50, (4000, 6)), rng.normal(size=(50, 90)), rng.normal(size=(4000, 90))
    found = set()
    for n in (1, 2, 3):
        with threads(n):
            w = pydl.tensor(weight.astype(np.float32), requires_grad=True)
            pydl.embedding_bag(pydl.tensor(index), w, mode="max").backward(pydl.tensor(g.astype(np.float32)))
            found.add(w.grad.numpy().tobytes())
    assert len(found) == 1


def test_include_last_offset():
    w = pydl.tensor(np.arange(12.0).reshape(6, 2), requires_grad=True)
    out = pydl.embedding_bag(pydl.tensor([0, 1, 2, 5, 5]), w, [0, 2, 4], mode="sum", include_last_offset=True)
    np.testing.assert_array_equal(out.detach().numpy(), [[2, 4], [14, 16]])
    out.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy()[:, 0], [1, 1, 1, 0, 0, 1])


def test_max_norm_changes_named_rows_only():
    w = pydl.tensor(np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]]))
    out = pydl.embedding(pydl.tensor([0, 1]), w, max_norm=1.0)
    np.testing.assert_allclose(out.numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(w.numpy(), [[0.6, 0.8], [0.3, 0.4], [6, 8]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_index_types(dtype):
    w = pydl.tensor(np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(pydl.embedding(pydl.tensor(np.array([2, 0], dtype)), w).numpy(), [[4, 5], [0, 1]])
    np.testing.assert_array_equal(pydl.embedding([2, 0], w).numpy(), [[4, 5], [0, 1]])


def test_layers():
    pydl.manual_seed(0)
    layer = nn.Embedding(1000, 30, padding_idx=-1)
    values = layer.weight.detach().numpy()
    assert layer.padding_idx == 999
    assert not values[999].any()
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.03
    assert layer(pydl.tensor([[1, 999]])).shape == (1, 2, 30)
    layer(pydl.tensor([[1, 999]])).sum().backward()
    assert layer.weight.grad.numpy()[[1, 999], 0].tolist() == [1, 0]
    assert repr(layer) == "Embedding(1000, 30, padding_idx=999)"

    given = pydl.tensor(np.arange(6, dtype=np.float32).reshape(3, 2))
    frozen = nn.Embedding.from_pretrained(given)
    assert not frozen.weight.requires_grad
    assert list(frozen.state_dict()) == ["weight"]
    np.testing.assert_array_equal(frozen(pydl.tensor([2])).numpy(), [[4, 5]])
    assert nn.Embedding.from_pretrained(given, freeze=False).weight.requires_grad
    bags = nn.EmbeddingBag.from_pretrained(given, mode="max")
    np.testing.assert_array_equal(bags(pydl.tensor([0, 2, 1]), pydl.tensor([0, 2])).numpy(), [[4, 5], [2, 3]])
    assert nn.EmbeddingBag(5, 3)(pydl.tensor([[1, 2], [3, 4]])).shape == (2, 3)


def test_layer_errors():
    with pytest.raises(ArgumentError, match="Embedding: padding_idx=3 is out of range for num_embeddings=3"):
        nn.Embedding(3, 2, padding_idx=3)
    with pytest.raises(ShapeError, match=r"weight of shape \(2, 2\); expected \(3, 2\)"):
        nn.Embedding(3, 2, _weight=pydl.zeros(2, 2))
    with pytest.raises(ArgumentError, match="sparse"):
        nn.EmbeddingBag(3, 2, sparse=True)
    with pytest.raises(ArgumentError, match="mode='product'"):
        nn.EmbeddingBag(3, 2, mode="product")


def test_native_code_checks_what_it_reads():
    w, i, out = np.zeros((4, 3), np.float32), np.array([0, 3]), np.zeros((2, 3), np.float32)
    assert _core.embedding(w, i, out) == -1
    assert _core.embedding(w, np.array([0, 4]), out) == 1
    for args in ((w, i, out[:1]), (w[:, ::2], i, out), (w, i.astype(np.int32), out), (w.astype(np.float64), i, out)):
        with pytest.raises(_core.NativeError):
            _core.embedding(*args)
    for index, source, scale in ((np.array([0, 4]), None, None), (np.array([-1, 0]), None, None), (np.array([0]), None, None),
                                 (i, np.array([0, 2]), None), (i, None, np.zeros(1, np.float32))):
        with pytest.raises(_core.NativeError):
            _core.embedding_backward(out, index, source, scale, w, -1, False)
    for offsets in ([0, 1], [0, 3, 2], [0, 1, 3], [-1, 1, 2]):
        with pytest.raises(_core.NativeError):
            _core.embedding_bag(0, w, i, np.array(offsets), None, -1, out, None)
    with pytest.raises(_core.NativeError):
        _core.embedding_bag(2, w, i, np.array([0, 1, 2]), None, -1, out, None)
    with pytest.raises(_core.NativeError):
        _core.embedding_max_backward(out, np.zeros((2, 3), np.int64), np.array([0, 4]), w)
    with pytest.raises(_core.NativeError):
        _core.embedding_dots(out, w, i, np.array([0, 2]), np.zeros(2, np.float32), -1)
