"""Reductions: every check of tests/ops/records.py, all axis subsets and layouts, and what happens at the edges."""

import itertools

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records, threads

import pydl
from pydl.errors import ArgumentError, DTypeError

SHAPE = (3, 5, 7)
LARGE = (draw(7, 41, 431),)
inf, nan = float("inf"), float("nan")


def distinct(*shape):
    """Distinct values well apart: no ties, no kink within the step of central differences."""
    return lambda rng: (rng.permutation(int(np.prod(shape))).reshape(shape) - 11.3) * 0.1


def reduction(name, reference, inputs=None, label=None, large=LARGE, errors=(), **options):
    kwargs = options.pop("kwargs", {})
    function = getattr(pydl, name)
    label = label or name
    return OpRecord(
        label, lambda x: function(x, **kwargs), lambda x: reference(x, **kwargs), (inputs or draw(*SHAPE),), large=large,
        errors=[(lambda: function(pydl.zeros(2, 3), dim=2), ArgumentError, rf"\[.*{name}.*dim=2.*2 axes"), *errors], **options)


def axis(f, **fixed):
    """A NumPy reduction under PyTorch's argument names."""
    return lambda x, dim=None, keepdim=False: f(x, axis=dim, keepdims=keepdim, **fixed)


def np_logsumexp(x, dim=None, keepdim=False):
    return np.log(np.exp(x).sum(axis=dim, keepdims=keepdim))


def np_norm(x, p=2.0, dim=None, keepdim=False):
    return (np.abs(x) ** p).sum(axis=dim, keepdims=keepdim) ** (1 / p)


def np_extremum(values, indices):
    return lambda x, dim: (values(x, axis=dim), indices(x, axis=dim))


smooth = {"double_backward": True}
RECORDS = [
    reduction("sum", axis(np.sum), **smooth),
    reduction("sum", axis(np.sum), label="sum_middle", kwargs={"dim": 1}, zero_size=(draw(4, 0, 3),), **smooth),
    reduction("sum", axis(np.sum), label="pair", kwargs={"dim": (0, -1), "keepdim": True}, zero_size=(draw(0, 2, 0),), **smooth),
    reduction("mean", axis(np.mean), **smooth),
    reduction("mean", axis(np.mean), label="mean_first", kwargs={"dim": 0}, **smooth),
    reduction("var", axis(np.var, ddof=1), **smooth),
    reduction("var", axis(np.var, ddof=1), label="var_last", kwargs={"dim": -1, "keepdim": True}, **smooth),
    reduction("std", axis(np.std, ddof=1), kwargs={"dim": (0, 2)}, **smooth),
    reduction("max", np_extremum(np.max, np.argmax), distinct(*SHAPE), label="max_dim", kwargs={"dim": 1}),
    reduction("min", np_extremum(np.min, np.argmin), distinct(*SHAPE), label="min_dim", kwargs={"dim": -1}),
    reduction("max", axis(np.max), distinct(*SHAPE)),
    reduction("min", axis(np.min), distinct(*SHAPE)),
    reduction("amax", axis(np.max), distinct(*SHAPE), kwargs={"dim": (0, 2)}, zero_size=(draw(0, 4, 3),)
              and (lambda rng: np.ones((3, 0, 4)),)),
    reduction("amin", axis(np.min), distinct(*SHAPE), kwargs={"dim": (1,), "keepdim": True}),
    reduction("argmax", axis(np.argmax), distinct(*SHAPE), kwargs={"dim": 1}, gradient=False),
    reduction("argmin", axis(np.argmin), distinct(*SHAPE), kwargs={"dim": 2, "keepdim": True}, gradient=False),
    reduction("logsumexp", np_logsumexp, kwargs={"dim": (0, 1)}, **smooth),
    reduction("norm", np_norm, **smooth),
    reduction("norm", np_norm, draw(*SHAPE, away_from=0.0), label="norm_3", kwargs={"p": 3.0, "dim": 1}, rtol=1e-5),
    reduction("norm", np_norm, draw(*SHAPE, away_from=0.0), label="norm_1", kwargs={"p": 1.0, "dim": (0, 1)}),
    reduction("norm", lambda x, p, dim: np.abs(x).max(axis=dim), distinct(*SHAPE), label="norm_inf", kwargs={"p": inf, "dim": 1}),
    reduction("prod", axis(np.prod), draw(*SHAPE, low=0.7, high=1.4), large=(draw(4, 30, 31, low=0.8, high=1.2),),
              kwargs={"dim": 1}, rtol=1e-5),
    OpRecord("cumsum", lambda x: pydl.cumsum(x, 1), lambda x: np.cumsum(x, 1), (draw(*SHAPE),), large=LARGE,
             zero_size=(draw(2, 0, 3),), **smooth),
    OpRecord("cumsum_last", lambda x: pydl.cumsum(x, -1), lambda x: np.cumsum(x, -1), (draw(*SHAPE),), large=LARGE, **smooth),
    reduction("any", lambda x, dim: np.any(x > 0.9, axis=dim), kwargs={"dim": 1}, gradient=False),
    reduction("all", lambda x, dim: np.all(x > -0.9, axis=dim), kwargs={"dim": (0,)}, gradient=False),
    reduction("count_nonzero", lambda x, dim: (x > 0).sum(dim), kwargs={"dim": 2}, gradient=False),
]
for r, f in ((RECORDS[-3], lambda x: pydl.any(x > 0.9, 1)), (RECORDS[-2], lambda x: pydl.all(x > -0.9, (0,))),
             (RECORDS[-1], lambda x: pydl.count_nonzero(x > 0, 2))):
    r.function = f
test_ops = run_records(RECORDS)


SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(range(4), n)]
LAYOUTS = list(itertools.permutations(range(4)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("axes", SUBSETS, ids=str)
def test_every_axis_subset_in_every_layout(axes, isa):
    """Small integers: sums are exact, so every order of summation must give the same number."""
    x = np.random.default_rng(0).integers(-9, 10, (2, 3, 5, 17)).astype(np.float32)
    with instruction_set(isa):
        for order in LAYOUTS:
            view = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
            t = pydl.from_numpy(view)
            np.testing.assert_array_equal(pydl.sum(t, axes).numpy(), x.sum(axes))
            np.testing.assert_array_equal(pydl.sum(t, axes, True).numpy(), x.sum(axes, keepdims=True))
            np.testing.assert_array_equal(pydl.amax(t, axes).numpy(), x.max(axes))
            np.testing.assert_array_equal(pydl.amin(t, axes, True).numpy(), x.min(axes, keepdims=True))


@pytest.mark.parametrize("dim", range(4))
def test_positions_in_every_layout(dim):
    x = np.random.default_rng(1).permutation(2 * 3 * 5 * 17).reshape(2, 3, 5, 17).astype(np.float32)
    for order in LAYOUTS:
        t = pydl.from_numpy(np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order)))
        values, indices = pydl.max(t, dim)
        np.testing.assert_array_equal(indices.numpy(), x.argmax(dim))
        np.testing.assert_array_equal(values.numpy(), x.max(dim))
        np.testing.assert_array_equal(pydl.argmin(t, dim, True).numpy(), x.argmin(dim, keepdims=True))
        assert pydl.argmax(t).item() == x.argmax()  # the flat position counts in the logical order
        np.testing.assert_array_equal(pydl.cumsum(t, dim).numpy(), x.cumsum(dim))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 257, 4095, 4096, 4097, 3 * 4096 + 1])
def test_every_tail_length(n, isa):
    x = np.random.default_rng(n).integers(-8, 9, (3, n, 3)).astype(np.float32)
    with instruction_set(isa):
        np.testing.assert_array_equal(pydl.sum(pydl.from_numpy(x), 1).numpy(), x.sum(1))
        np.testing.assert_array_equal(pydl.sum(pydl.from_numpy(x[..., 0].copy()), 1).numpy(), x[..., 0].sum(1))
        np.testing.assert_array_equal(pydl.amax(pydl.from_numpy(x), 1).numpy(), x.max(1))
        np.testing.assert_array_equal(pydl.argmax(pydl.from_numpy(x), 1).numpy(), x.argmax(1))


@pytest.mark.parametrize("isa", ISAS)
def test_long_sums_are_accurate(isa):
    with instruction_set(isa):
        assert pydl.ones(10_000_000).sum().item() == 1e7
        x = np.random.default_rng(0).uniform(0, 1, (1 << 20, 3)).astype(np.float32)
        exact = x.astype(np.float64).sum(0)
        assert np.abs(pydl.sum(pydl.from_numpy(x), 0).numpy() / exact - 1).max() < 2e-7
        assert np.abs(pydl.sum(pydl.from_numpy(x)).item() / exact.sum() - 1) < 2e-7
        assert pydl.mean(pydl.full((1 << 20,), 0.1)).item() == pytest.approx(np.float32(0.1), rel=2e-7)


@pytest.mark.parametrize("n", [3, 10, 49, 1000, 12345])
def test_mean_of_equal_values_is_that_value(n):
    assert pydl.ones(n).mean().item() == 1.0
    assert pydl.full((n,), 3.0).mean().item() == 3.0


def test_variance_far_from_zero():
    x = (1e4 + np.random.default_rng(0).normal(size=5000)).astype(np.float32)
    assert pydl.var(pydl.from_numpy(x)).item() == pytest.approx(x.astype(np.float64).var(ddof=1), rel=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_nan_wins_every_extremum(isa):
    with instruction_set(isa):
        for n, at in [(5, 0), (5, 4), (40, 17), (5000, 4500)]:
            x = np.arange(n, dtype=np.float32)
            x[at] = nan
            for t in (pydl.from_numpy(x), pydl.from_numpy(-x)):
                assert np.isnan(pydl.max(t).item())
                assert np.isnan(pydl.min(t).item())
                assert pydl.argmax(t).item() == pydl.argmin(t).item() == at
                values, indices = pydl.min(t, 0)
                assert np.isnan(values.item())
                assert indices.item() == at
            wide = np.tile(np.arange(n, dtype=np.float32)[:, None], (1, 21))
            wide[at, 3] = nan
            expected = np.isnan(wide.max(0))
            np.testing.assert_array_equal(np.isnan(pydl.amax(pydl.from_numpy(wide), 0).numpy()), expected)
            assert pydl.argmax(pydl.from_numpy(wide), 0).tolist() == [at if i == 3 else n - 1 for i in range(21)]


def test_infinities():
    x = pydl.tensor([-inf, -inf])
    assert pydl.max(x).item() == pydl.logsumexp(x, 0).item() == -inf
    assert pydl.argmax(x).item() == 0
    assert pydl.logsumexp(pydl.tensor([inf, 1.0]), 0).item() == inf
    assert pydl.logsumexp(pydl.tensor([1000.0, 1000.0]), 0).item() == pytest.approx(1000 + np.log(2), rel=1e-7)


def test_empty():
    empty = pydl.zeros(0, 3)
    assert pydl.sum(empty).item() == 0
    assert pydl.prod(empty).item() == 1
    assert np.isnan(pydl.mean(empty).item())
    assert np.isnan(pydl.var(empty, 0).numpy()).all()
    assert pydl.logsumexp(empty, 0).tolist() == [-inf] * 3
    assert pydl.amax(empty, 1).shape == (0,)
    for f in (pydl.max, pydl.min, pydl.amax, pydl.amin, pydl.argmax, pydl.argmin):
        with pytest.raises(ArgumentError, match=r"axis 0 of shape \(0, 3\) is empty"):
            f(empty)
        with pytest.raises(ArgumentError, match=r"axis 0 of shape \(0, 3\) is empty"):
            f(empty, dim=0)


def test_scalars():
    x = pydl.tensor(2.5, requires_grad=True)
    for f in (pydl.sum, pydl.mean, pydl.amax, pydl.amin, pydl.prod, pydl.norm):
        for dim in (None, 0, -1):
            y = f(x, dim=dim)
            assert y.shape == ()
            assert y.item() == 2.5
            assert pydl.autograd.grad(y, [x])[0].item() == 1.0
    assert pydl.argmax(x).item() == pydl.argmax(x, 0).item() == 0
    assert pydl.logsumexp(x, 0).item() == 2.5
    assert tuple(v.item() for v in pydl.max(x, 0)) == (2.5, 0)
    assert pydl.cumsum(x, 0).item() == 2.5


def test_integers_and_booleans():
    i = pydl.tensor([[1, -2, 3], [4, 5, -6]])
    assert pydl.sum(i).dtype == pydl.int64
    assert pydl.sum(i, 1).tolist() == [2, 3]
    assert pydl.prod(i, 0).tolist() == [4, -10, -18]
    assert pydl.sum(i > 0).item() == 4
    assert pydl.sum(i, dtype=pydl.float32).dtype == pydl.float32
    assert pydl.mean(i, dtype=pydl.float32).item() == pytest.approx(5 / 6)
    assert pydl.prod(i, dtype=pydl.float64).item() == 720.0
    assert pydl.cumsum(i, 1).tolist() == [[1, -1, 2], [4, 9, 3]]
    assert pydl.cumsum(i, 1, dtype=pydl.float32).dtype == pydl.float32
    values, indices = pydl.max(i, 1)
    assert values.tolist() == [3, 5]
    assert indices.tolist() == [2, 1]
    with pytest.raises(DTypeError, match=r"\[mean\].*int64"):
        pydl.mean(i)
    assert pydl.all(pydl.tensor([True, False]), 0).dtype == pydl.bool


def test_ties_share_the_gradient_of_amax_but_max_chooses_the_first():
    x = pydl.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    pydl.amax(x, 1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0.5, 0.5], [1 / 3] * 3], rtol=1e-6)
    x.grad = None
    values, indices = pydl.max(x, 1)
    assert indices.tolist() == [1, 0]
    values.sum().backward()
    assert x.grad.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_product_with_zeros_has_the_right_gradient():
    x = pydl.tensor([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]], requires_grad=True)
    pydl.prod(x, 1).sum().backward()
    assert x.grad.tolist() == [[0, 6, 0], [0, 0, 0]]


def test_gradients_where_a_root_has_no_slope_are_zero():
    x = pydl.zeros(4, requires_grad=True)
    for f in (pydl.norm, pydl.std):
        x.grad = None
        f(x).backward()
        assert x.grad.tolist() == [0.0] * 4
    assert pydl.norm(pydl.tensor([0.0, 2.0, -1.0]), 0).item() == 2


def test_logsumexp_of_a_masked_row_has_no_gradient():
    x = pydl.tensor([[-inf, -inf], [-inf, 1.0]], requires_grad=True)
    pydl.logsumexp(x, 1).sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 1]]


def test_variance_with_corrections():
    x = np.random.default_rng(0).normal(size=6)
    t = pydl.tensor(x)
    assert pydl.var(t, unbiased=False).item() == pytest.approx(x.var())
    assert pydl.var(t, correction=3).item() == pytest.approx(x.var(ddof=3))
    assert np.isnan(pydl.var(pydl.tensor([1.0])).item())  # 0 / 0
    assert pydl.var(pydl.tensor([1.0, 2.0]), correction=2).item() == inf


def test_axes_named_twice():
    with pytest.raises(ArgumentError, match=r"\[sum\] dim=\(1, -1\) names an axis twice"):
        pydl.sum(pydl.zeros(2, 3), (1, -1))


@pytest.mark.parametrize("shape", [(7, 300_001), (300_001, 7), (3, 90_001, 5)])
def test_threads_do_not_change_a_bit(shape):
    x = pydl.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    results = []
    for n in (1, 2, 5):
        with threads(n):
            results.append([f(x, d).numpy().tobytes() for f in (pydl.sum, pydl.var, pydl.argmax) for d in range(len(shape))])
    assert results[0] == results[1] == results[2]
