"""Losses: every check of tests/ops/records.py for each reduction, saturated and ignored targets, bad targets."""

import math

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records

import pydl
from pydl.errors import ArgumentError, DTypeError, ShapeError

inf, nan = float("inf"), float("nan")
SHAPE, LARGE = (4, 5), (300, 141)


def reduced(loss, reduction, count=None):
    return {"none": lambda: loss, "sum": loss.sum, "mean": lambda: loss.sum() / (loss.size if count is None else count)}[
        reduction
    ]()


def signs(*shape):
    return lambda rng: rng.choice([-1.0, 1.0], shape)


def apart(*shape):
    """Inputs whose differences and products keep clear of the kinks at 0 and +-1."""
    return lambda rng: rng.choice([-1.4, -0.6, 0.6, 1.4], shape) + rng.uniform(-0.1, 0.1, shape)


def zeros(*shape):
    return lambda rng: np.zeros(shape)


def pair(
    name, formula, first=draw, second=draw, double=True, rtol=5e-6, reductions=("mean", "sum", "none"), label=None, **options
):
    """Records of a loss of two arrays of one shape."""
    function = getattr(pydl, name)

    def one(reduction):
        mismatch = (
            lambda: function(pydl.zeros(2, 3), pydl.zeros(3), **options),
            ShapeError,
            rf"\[{'l1_loss|huber_loss' if name == 'smooth_l1_loss' else name}\] input \(2, 3\) and target \(3,\)",
        )
        unknown = (
            lambda: function(pydl.zeros(2), pydl.zeros(2), reduction="avg", **options),
            ArgumentError,
            r"reduction='avg'; expected 'mean', 'sum' or 'none'",
        )
        return OpRecord(
            f"{label or name}_{reduction}",
            lambda x, t: function(x, t, reduction=reduction, **options),
            lambda x, t: reduced(formula(x, t), reduction),
            (first(*SHAPE), second(*SHAPE)),
            double_backward=double,
            rtol=rtol,
            large=(first(*LARGE), second(*LARGE)),
            errors=[mismatch, unknown],
            zero_size=None if reduction == "mean" else (draw(0, 3), draw(0, 3)),
        )

    return [one(r) for r in reductions]


def probability(*shape):
    return draw(*shape, low=0.05, high=0.95)


def np_huber(delta):
    return lambda x, t: np.where(np.abs(x - t) <= delta, (x - t) ** 2 / 2, delta * (np.abs(x - t) - delta / 2))


def np_bce(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def np_bce_logits(x, t, pos=1.0):
    p = 1 / (1 + np.exp(-x))
    return -(pos * t * np.log(p) + (1 - t) * np.log(1 - p))


def np_kl(x, t):
    return t * (np.log(t) - x)


def np_stirling(t):
    big = np.maximum(t, 1)
    return np.where(t > 1, big * np.log(big) - big + 0.5 * np.log(2 * np.pi * big), 0)


def np_cosine(a, b):
    return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def np_cosine_embedding(a, b, t):
    return np.where(t == 1, 1 - np_cosine(a, b), np.maximum(0, np_cosine(a, b) - 0.2))


def np_distance(a, b, p):
    return (np.abs(a - b + 1e-6) ** p).sum(-1) ** (1 / p)


def np_triplet(a, p, n, margin=1.0, power=2.0, swap=False):
    far = np_distance(a, n, power)
    far = np.minimum(far, np_distance(p, n, power)) if swap else far
    return np.maximum(0, np_distance(a, p, power) - far + margin)


def several(label, function, reference, *inputs, large=None, double=True, errors=(), zero=None):
    return OpRecord(
        label, function, reference, inputs, double_backward=double, rtol=1e-5, large=large, errors=list(errors), zero_size=zero
    )


REGRESSION = [
    *pair("mse_loss", lambda x, t: (x - t) ** 2),
    *pair("l1_loss", lambda x, t: np.abs(x - t), apart, zeros),
    *pair("huber_loss", np_huber(1.0), apart, zeros),
    *pair("huber_loss", np_huber(0.3), apart, zeros, label="huber_delta", delta=0.3, reductions=("mean",)),
    *pair("smooth_l1_loss", lambda x, t: np_huber(0.5)(x, t) / 0.5, apart, zeros, beta=0.5),
]
CLASSIFICATION = [
    *pair("binary_cross_entropy", np_bce, probability, probability),
    *pair("binary_cross_entropy_with_logits", np_bce_logits, second=probability),
    several(
        "bce_logits_weights",
        lambda x, t, w: pydl.binary_cross_entropy_with_logits(x, t, w, pos_weight=pydl.full((5,), 3.0).to(x)),
        lambda x, t, w: (np_bce_logits(x, t, 3.0) * w).mean(),
        draw(4, 5),
        probability(4, 5),
        probability(5),
    ),
    several(
        "bce_weight",
        lambda p, t, w: pydl.binary_cross_entropy(p, t, w, "sum"),
        lambda p, t, w: (np_bce(p, t) * w).sum(),
        probability(4, 5),
        probability(4, 5),
        probability(4, 1),
    ),
    *pair("kl_div", np_kl, second=probability),
    several(
        "kl_div_batchmean",
        lambda x, t: pydl.kl_div(x, t, "batchmean"),
        lambda x, t: np_kl(x, t).sum() / 4,
        draw(4, 5),
        probability(4, 5),
    ),
    several("kl_div_log", lambda x, t: pydl.kl_div(x, t, "none", True), lambda x, t: np.exp(t) * (t - x), draw(4, 5), draw(4, 5)),
]
MARGINS = [
    *pair("hinge_loss", lambda x, t: np.maximum(0, 1 - t * x), apart, signs),
    *pair("hinge_embedding_loss", lambda x, t: np.where(t == 1, x, np.maximum(0, 1 - x)), apart, signs, double=False),
    *pair("soft_margin_loss", lambda x, t: np.log1p(np.exp(-t * x)), second=signs),
    several(
        "margin_ranking",
        lambda a, b, t: pydl.margin_ranking_loss(a, b, t, 0.3),
        lambda a, b, t: np.maximum(0, -t * (a - b) + 0.3).mean(),
        apart(7),
        zeros(7),
        signs(7),
    ),
    several(
        "cosine_similarity",
        lambda a, b: pydl.cosine_similarity(a, b, 2),
        np_cosine,
        draw(2, 3, 4),
        draw(2, 3, 4),
        large=(draw(30, 40, 50), draw(30, 40, 50)),
        zero=(draw(0, 3, 4), draw(0, 3, 4)),
    ),
    several(
        "cosine_embedding",
        lambda a, b, t: pydl.cosine_embedding_loss(a, b, t, 0.2),
        lambda a, b, t: np_cosine_embedding(a, b, t).mean(),
        draw(6, 4),
        draw(6, 4),
        lambda rng: np.array([1, -1, 1, -1, -1, 1]),
    ),
    several("triplet", pydl.triplet_margin_loss, lambda a, p, n: np_triplet(a, p, n).mean(), draw(5, 4), draw(5, 4), draw(5, 4)),
    several(
        "triplet_swap",
        lambda a, p, n: pydl.triplet_margin_loss(a, p, n, 0.5, 3.0, swap=True, reduction="none"),
        lambda a, p, n: np_triplet(a, p, n, 0.5, 3.0, True),
        draw(5, 4),
        draw(5, 4),
        draw(5, 4),
        double=False,
    ),
]
LIKELIHOODS = [
    *pair("poisson_nll_loss", lambda x, t: np.exp(x) - t * x, second=probability),
    several(
        "poisson_full",
        lambda x, t: pydl.poisson_nll_loss(x, t, full=True, reduction="none"),
        lambda x, t: np.exp(x) - t * x + np_stirling(t),
        draw(4, 5),
        lambda rng: rng.integers(0, 9, (4, 5)),
    ),
    several(
        "poisson_rates",
        lambda x, t: pydl.poisson_nll_loss(x, t, log_input=False),
        lambda x, t: (x - t * np.log(x + 1e-8)).mean(),
        probability(4, 5),
        probability(4, 5),
    ),
    several(
        "gaussian",
        lambda x, t, v: pydl.gaussian_nll_loss(x, t, v, full=True),
        lambda x, t, v: (0.5 * (np.log(v) + (x - t) ** 2 / v) + 0.5 * np.log(2 * np.pi)).mean(),
        draw(4, 5),
        draw(4, 5),
        probability(4, 5),
        errors=[
            (
                lambda: pydl.gaussian_nll_loss(pydl.zeros(2), pydl.zeros(2), -pydl.ones(2)),
                ArgumentError,
                r"\[gaussian_nll_loss\] var must not be negative",
            )
        ],
    ),
    several(
        "gaussian_rows",
        lambda x, t, v: pydl.gaussian_nll_loss(x, t, v, reduction="none"),
        lambda x, t, v: 0.5 * (np.log(v)[:, None] + (x - t) ** 2 / v[:, None]),
        draw(4, 5),
        draw(4, 5),
        probability(4),
    ),
]


def np_log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def np_nll(logp, t, weight=None, ignore=-100, reduction="mean", smoothing=0.0):
    """Written position by position."""
    weight = np.ones(logp.shape[1]) if weight is None else weight
    loss, total = np.zeros(t.shape), 0.0
    for at in np.ndindex(t.shape):
        if t[at] != ignore:
            row = logp[(at[0], slice(None), *at[1:])]
            q = np.full(row.size, smoothing / row.size)
            q[t[at]] += 1 - smoothing
            loss[at] = -(q * weight * row).sum()
            total += weight[t[at]]
    return reduced(loss, reduction, total)


WEIGHT = np.array([0.5, 2.0, 1.0, 0.25])


def numbers(*shape):
    return lambda rng: np.where(rng.random(shape) < 0.2, 9, rng.integers(0, 4, shape))


def cross_entropy(label, shape, reduction="mean", smoothing=0.0, weighted=False, nll=False, large=None, zero=None):
    weight = WEIGHT if weighted else None
    name = "nll_loss" if nll else "cross_entropy"
    options = {"reduction": reduction, "ignore_index": 9, **({} if nll else {"label_smoothing": smoothing})}
    function = getattr(pydl, name)

    def ours(x, t):
        return function(x, t, None if weight is None else pydl.tensor(WEIGHT.astype(x.dtype)), **options)

    def reference(x, t):
        return np_nll(x if nll else np_log_softmax(x), t, weight, 9, reduction, smoothing)

    def positions(s):
        return (s[0], *s[2:])

    return OpRecord(
        label,
        ours,
        reference,
        (draw(*shape), numbers(*positions(shape))),
        rtol=5e-6,
        double_backward=nll,
        large=large and (draw(*large), numbers(*positions(large))),
        zero_size=zero and (draw(*zero), numbers(*positions(zero))),
        errors=[
            (
                lambda: function(pydl.zeros(3, 4), pydl.tensor([0, 4, 1])),
                ArgumentError,
                rf"\[{name}\] target holds class 4 at position \(1,\).*4 classes",
            ),
            (lambda: function(pydl.zeros(3, 4), pydl.tensor([0, -1, 1])), ArgumentError, rf"\[{name}\] target holds class -1 at"),
            (
                lambda: function(pydl.zeros(3, 4), pydl.tensor([0, 1])),
                ShapeError,
                rf"\[{name}\] target of shape \(2,\).*expected.*\(3,\)",
            ),
            (
                lambda: function(pydl.zeros(3, 4), pydl.tensor([0, 1, 2]), pydl.ones(3)),
                ShapeError,
                rf"\[{name}\] weight of shape \(3,\).*\(4,\)",
            ),
        ],
    )


CLASSES = [
    cross_entropy("ce", (6, 4), large=(3000, 4)),
    cross_entropy("ce_sum", (6, 4), "sum", zero=(0, 4)),
    cross_entropy("ce_none_2d", (2, 4, 2, 3), "none", large=(3, 4, 70, 80), zero=(2, 4, 0, 3)),
    cross_entropy("ce_weight", (6, 4), weighted=True),
    cross_entropy("ce_smooth", (3, 4, 2), smoothing=0.2, large=(30, 4, 200)),
    cross_entropy("ce_smooth_weight", (6, 4), smoothing=0.3, weighted=True),
    cross_entropy("nll", (6, 4), nll=True, large=(3000, 4)),
    cross_entropy("nll_weight_2d", (2, 4, 3, 2), nll=True, weighted=True),
    cross_entropy("nll_none", (3, 4, 2), "none", nll=True, zero=(0, 4, 2)),
    several(
        "ce_probabilities",
        lambda x, t: pydl.cross_entropy(x, t, label_smoothing=0.1),
        lambda x, t: -((0.9 * t + 0.025) * np_log_softmax(x)).sum() / 6,
        draw(6, 4),
        probability(6, 4),
        double=False,
    ),
    several(
        "multi_margin",
        lambda x, t: pydl.multi_margin_loss(x, t, 2, 0.7),
        lambda x, t: np.mean([sum(max(0, 0.7 - x[i, t[i]] + x[i, c]) ** 2 for c in range(4) if c != t[i]) / 4 for i in range(5)]),
        draw(5, 4),
        lambda rng: rng.integers(0, 4, 5),
        errors=[
            (lambda: pydl.multi_margin_loss(pydl.zeros(2, 3), pydl.tensor([0, 1]), p=3), ArgumentError, r"p=3; expected 1 or 2"),
            (lambda: pydl.multi_margin_loss(pydl.zeros(2, 3), pydl.tensor([0, 3])), ArgumentError, r"class 3 at position \(1,\)"),
        ],
    ),
]
RECORDS = REGRESSION + CLASSIFICATION + MARGINS + LIKELIHOODS + CLASSES
test_ops = run_records(RECORDS)


def gradient(loss, *tensors):
    return [g.tolist() for g in pydl.autograd.grad(loss, list(tensors))]


def test_saturated_probabilities_have_finite_gradients():
    p = pydl.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    t = pydl.tensor([0.0, 1.0, 1.0, 0.0])
    loss = pydl.binary_cross_entropy(p, t, reduction="none")
    assert loss.tolist() == [0, 0, 100, 100]
    (g,) = gradient(loss.sum(), p)
    assert g[:2] == [0, 0]
    np.testing.assert_allclose(g[2:], [-1e12, 1e12], rtol=1e-6)
    with pytest.raises(ArgumentError, match=r"\[binary_cross_entropy\] input must be probabilities.*with_logits"):
        pydl.binary_cross_entropy(pydl.tensor([1.5]), pydl.tensor([1.0]))
    assert pydl.binary_cross_entropy(pydl.tensor([0.5]), pydl.tensor([True])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("isa", ISAS)
def test_large_scores_neither_overflow_nor_lose_digits(isa):
    with instruction_set(isa):
        x = pydl.tensor([1e4, -1e4, 80.0, -80.0], requires_grad=True)
        t = pydl.tensor([0.0, 1.0, 1.0, 0.0])
        loss = pydl.binary_cross_entropy_with_logits(x, t, reduction="none")
        np.testing.assert_allclose(loss.detach().numpy(), [1e4, 1e4, np.exp(-80), 0], rtol=1e-5, atol=1e-34)
        np.testing.assert_allclose(gradient(loss.sum(), x)[0], [1, -1, -np.exp(-80), 0], rtol=1e-5, atol=1e-34)
        scores = pydl.tensor([[10000.0, 9999.0, -1e4], [-1e30, 0.0, 1e30]], requires_grad=True)
        loss = pydl.cross_entropy(scores, pydl.tensor([1, 2]), reduction="none")
        np.testing.assert_allclose(loss.detach().numpy(), [1 + np.log1p(np.exp(-1)), 0], rtol=1e-6)
        p = 1 / (1 + np.exp(1))
        np.testing.assert_allclose(gradient(loss.sum(), scores)[0], [[1 - p, p - 1, 0], [0, 0, 0]], rtol=1e-5, atol=1e-7)


def test_ignored_positions_stay_out_even_where_scores_are_infinite():
    x = pydl.tensor([[-inf, 0.0, 1.0], [0.0, 1.0, 2.0]], requires_grad=True)
    expected = np.log(1 + np.exp(-1) + np.exp(-2))
    target = pydl.tensor([-100, 2])
    for loss in (pydl.cross_entropy(x, target), pydl.nll_loss(pydl.log_softmax(x, 1), target)):
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        assert gradient(loss, x)[0][0] == [0, 0, 0]
    assert np.isnan(pydl.cross_entropy(x, pydl.tensor([-100, -100])).item())
    assert pydl.cross_entropy(x, pydl.tensor([-100, -100]), reduction="sum").item() == 0


def test_a_single_sample():
    x, t = pydl.tensor([0.0, 1.0, 2.0]), pydl.tensor(1)
    expected = 1 + np.log(1 + np.exp(-1) + np.exp(-2))
    for reduction in ("mean", "sum", "none"):
        for loss in (
            pydl.cross_entropy(x, t, reduction=reduction),
            pydl.nll_loss(pydl.log_softmax(x, 0), t, reduction=reduction),
        ):
            assert loss.shape == ()
            assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert pydl.multi_margin_loss(x, t, reduction="none").shape == ()
    with pytest.raises(ShapeError, match=r"\[cross_entropy\].*scalar"):
        pydl.cross_entropy(pydl.tensor(1.0), t)
    with pytest.raises(ShapeError, match=r"\[nll_loss\] input must have shape .*got \(\)"):
        pydl.nll_loss(pydl.tensor(1.0), t)
    with pytest.raises(DTypeError, match=r"\[nll_loss\] class numbers must be integers.*float32"):
        pydl.nll_loss(x[None], pydl.tensor([1.0]))


def test_zero_vectors_and_equal_points_have_finite_gradients():
    a, b = pydl.zeros(2, 3, requires_grad=True), pydl.ones(2, 3, requires_grad=True)
    for loss in (
        pydl.cosine_similarity(a, b).sum(),
        pydl.cosine_embedding_loss(a, b, pydl.tensor([1, -1])),
        pydl.triplet_margin_loss(a, a, b),
        pydl.l1_loss(a, a * 1),
        pydl.kl_div(b, a),
        pydl.huber_loss(a, a * 1),
    ):
        found = pydl.autograd.grad(loss, [a, b], allow_unused=True)
        assert all(np.isfinite(g.numpy()).all() for g in found if g is not None)


def test_options_out_of_range():
    x = pydl.zeros(3)
    for call, text in [
        (lambda: pydl.huber_loss(x, x, delta=0), "delta must be positive"),
        (lambda: pydl.smooth_l1_loss(x, x, beta=-1), "beta must not be negative"),
        (lambda: pydl.cross_entropy(x[None], pydl.tensor([0]), label_smoothing=2), "between 0 and 1"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            call()
    assert pydl.smooth_l1_loss(x + 2, x, beta=0).item() == 2
    assert np.isnan(pydl.mse_loss(pydl.zeros(0), pydl.zeros(0)).item())
