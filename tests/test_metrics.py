import itertools
import json
import math

import numpy as np
import pytest

import pydl
from pydl import metrics as m
from pydl.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(5)
N, C = 203, 7
SCORES = RNG.normal(size=(N, C)).astype(np.float32)
TARGET = np.where(RNG.random(N) < 0.5, SCORES.argmax(1), RNG.integers(0, C - 1, N))  # class 6 is rare
LABELS = SCORES.argmax(1)
PROBABILITY = RNG.random(N)
BINARY = (RNG.random(N) < PROBABILITY).astype(np.int64)
X, Y = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 3)) * [1, 5, 0.1] + [0, 1e4, 0]
X = Y + 0.3 * X
CUTS = [0, 1, 17, 17, 100, N]

ALL = {
    "accuracy": (lambda: m.Accuracy(), SCORES, TARGET),
    "top_k": (lambda: m.TopKAccuracy(3), SCORES, TARGET),
    "confusion": (lambda: m.ConfusionMatrix(C, normalize="true"), SCORES, TARGET),
    "precision": (lambda: m.Precision(), SCORES, TARGET),
    "recall": (lambda: m.Recall(None), LABELS, TARGET),
    "f_score": (lambda: m.FScore(2.0, "weighted"), SCORES, TARGET),
    "mse": (lambda: m.MeanSquaredError(), X, Y),
    "rmse": (lambda: m.MeanSquaredError(squared=False), X, Y),
    "mae": (lambda: m.MeanAbsoluteError(), X, Y),
    "r2": (lambda: m.R2Score("raw_values"), X, Y),
    "mean": (lambda: m.Mean(), X, np.abs(Y)),
}


@pytest.mark.parametrize("name", list(ALL))
def test_batches_add_up(name):
    make, output, target = ALL[name]
    whole, cut = make(), make()
    assert np.isnan(whole.compute()).all() or name in ("confusion", "recall")
    whole.update(output, target)
    for a, b in itertools.pairwise(CUTS):
        cut.update(pydl.from_numpy(output[a:b]), pydl.from_numpy(target[a:b]))
    assert np.isfinite(whole.compute()).all()
    np.testing.assert_allclose(cut.compute(), whole.compute(), rtol=1e-12)
    cut.reset()
    cut.update(output[:50], target[:50])
    fresh = make()
    fresh.update(output[:50], target[:50])
    np.testing.assert_array_equal(cut.compute(), fresh.compute())
    assert type(cut).__name__ in repr(cut)


@pytest.mark.parametrize("name", list(ALL))
def test_state_is_saved_and_restored(name):
    make, output, target = ALL[name]
    first, second, whole = make(), make(), make()
    first.update(output[:90], target[:90])
    state = first.state_dict()
    json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()})
    first.update(output[90:], target[90:])  # does not change the state that was taken
    second.load_state_dict(state)
    second.update(output[90:], target[90:])
    whole.update(output[:90], target[:90])
    whole.update(output[90:], target[90:])
    np.testing.assert_array_equal(second.compute(), whole.compute())
    np.testing.assert_array_equal(second.compute(), first.compute())
    with pytest.raises(ArgumentError, match="of another metric"):
        second.load_state_dict({"other": 1})


def test_state_of_another_number_of_classes():
    with pytest.raises(ShapeError, match=r"matrix of shape \(3, 3\), expected \(2, 2\)"):
        m.ConfusionMatrix(2).load_state_dict(m.ConfusionMatrix(3).state_dict())


# --------------------------------------------------------------------------- against scikit-learn


@pytest.fixture(scope="module")
def sk():
    return pytest.importorskip("sklearn.metrics")


def test_accuracies(sk):
    assert m.accuracy(SCORES, TARGET) == pytest.approx(sk.accuracy_score(TARGET, LABELS))
    assert m.accuracy(LABELS, TARGET) == pytest.approx(sk.accuracy_score(TARGET, LABELS))
    assert m.accuracy(PROBABILITY, BINARY) == pytest.approx(sk.accuracy_score(BINARY, PROBABILITY > 0.5))
    assert m.accuracy(PROBABILITY[:, None], BINARY) == m.accuracy(PROBABILITY, BINARY)
    logits = np.log(PROBABILITY / (1 - PROBABILITY))
    assert m.accuracy(logits, BINARY, threshold=0) == m.accuracy(PROBABILITY, BINARY)
    for k in (1, 2, 6):
        expected = sk.top_k_accuracy_score(TARGET, SCORES, k=k, labels=range(C))
        assert m.top_k_accuracy(SCORES, TARGET, k) == pytest.approx(expected)
    assert m.top_k_accuracy(SCORES, TARGET, C) == 1


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion_matrix(sk, normalize):
    expected = sk.confusion_matrix(TARGET, LABELS, labels=range(C), normalize=normalize)
    np.testing.assert_allclose(m.confusion_matrix(SCORES, TARGET, C, normalize), expected)
    if normalize is None:
        assert m.confusion_matrix(SCORES, TARGET, C).dtype == np.int64
        assert expected[6].sum() > 0


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("labels", [LABELS, np.where(LABELS == 2, 3, LABELS)])  # class 2 is never predicted
@pytest.mark.parametrize("zero_division", [0.0, 1.0])
def test_precision_recall_f_score(sk, average, labels, zero_division):
    target = np.where(TARGET == 4, 0, TARGET)  # class 4 is only predicted
    options = {"average": average, "zero_division": zero_division}
    np.testing.assert_allclose(m.precision(labels, target, **options), sk.precision_score(target, labels, **options))
    np.testing.assert_allclose(m.recall(labels, target, **options), sk.recall_score(target, labels, **options))
    for beta in (0.5, 1.0, 2.0):
        expected = sk.fbeta_score(target, labels, beta=beta, **options)
        np.testing.assert_allclose(m.f_score(labels, target, beta, **options), expected)


def test_macro_leaves_absent_classes_out(sk):
    labels, target = np.array([0, 2, 2, 5]), np.array([0, 2, 5, 5])
    expected = sk.f1_score(target, labels, average="macro")
    assert m.f_score(labels, target) == pytest.approx(expected)
    assert m.f_score(labels, target, num_classes=9) == pytest.approx(expected)
    assert m.f_score(labels, target, average=None, num_classes=9).shape == (9,)


def test_binary_per_class(sk):
    found = m.precision(PROBABILITY, BINARY, average=None)
    assert found[1] == pytest.approx(sk.precision_score(BINARY, PROBABILITY > 0.5))


@pytest.mark.parametrize("multioutput", ["uniform_average", "variance_weighted", "raw_values"])
def test_regression(sk, multioutput):
    np.testing.assert_allclose(m.r2_score(X, Y, multioutput), sk.r2_score(Y, X, multioutput=multioutput), rtol=1e-9)
    assert m.mean_squared_error(X, Y) == pytest.approx(sk.mean_squared_error(Y, X))
    assert m.mean_squared_error(X, Y, squared=False) == pytest.approx(sk.mean_squared_error(Y.ravel(), X.ravel()) ** 0.5)
    assert m.mean_absolute_error(X, Y) == pytest.approx(sk.mean_absolute_error(Y, X))
    column = m.R2Score()
    for a, b in itertools.pairwise(CUTS):
        column.update(X[a:b, 1], Y[a:b, 1])
    assert column.compute() == pytest.approx(sk.r2_score(Y[:, 1], X[:, 1]), rel=1e-9)


def test_r2_of_constant_targets(sk):
    for output in ([1.0, 1, 1], [1.0, 1, 2]):
        assert m.r2_score(np.array(output), np.ones(3)) == sk.r2_score(np.ones(3), output)
    assert m.r2_score(np.ones((3, 2)), np.ones((3, 2)), "variance_weighted") == 1


def test_r2_far_from_zero_in_float32():
    target = (1e4 + np.arange(1000) % 7).astype(np.float32)
    output = target + np.where(np.arange(1000) % 2, 1, -1).astype(np.float32)
    streamed = m.R2Score()
    for i in range(0, 1000, 10):
        streamed.update(output[i : i + 10], target[i : i + 10])
    assert streamed.compute() == pytest.approx(1 - 1 / np.var(np.arange(1000) % 7), rel=1e-9)


# --------------------------------------------------------------------------- by hand


def test_pictures_and_ignored_targets():
    scores = RNG.normal(size=(2, 3, 4, 5))
    target = RNG.integers(0, 3, (2, 4, 5))
    right = scores.argmax(1) == target
    assert m.accuracy(scores, target) == pytest.approx(right.mean())
    ignored = target.copy()
    ignored[0, :2] = -100
    keep = ignored != -100
    assert m.accuracy(scores, ignored, ignore_index=-100) == pytest.approx(right[keep].mean())
    assert m.top_k_accuracy(scores, ignored, 1, ignore_index=-100) == pytest.approx(right[keep].mean())
    assert m.recall(scores, ignored, "micro", ignore_index=-100) == pytest.approx(right[keep].mean())
    assert m.confusion_matrix(scores, ignored, 3, ignore_index=-100).sum() == keep.sum()
    assert math.isnan(m.accuracy(scores, np.full_like(target, -100), ignore_index=-100))
    assert m.accuracy(np.array([0.9, 0.1, 0.9]), np.array([1, 1, 255]), ignore_index=255) == 0.5


def test_equal_scores_and_nan():
    equal = np.zeros((3, 4))
    assert [m.top_k_accuracy(equal, [c, c, c], 2) for c in range(4)] == [1, 1, 0, 0]
    assert m.top_k_accuracy(equal, [0, 1, 2], 1) == m.accuracy(equal, [0, 1, 2])
    broken = np.array([[np.nan, 1, 2], [0, np.nan, 9], [3, 2, 1]])
    assert m.top_k_accuracy(broken, [0, 2, 0], 1) == pytest.approx(1 / 3)
    assert m.accuracy(np.array([np.nan, 0.9]), np.array([1, 1])) == 0.5


def test_mean():
    mean = m.Mean()
    mean.update(pydl.tensor(2.0), 3)
    mean.update(7.0)
    assert mean.compute() == pytest.approx(13 / 4)
    mean.update(np.array([1.0, 2.0]), np.array([0.0, 4.0]))
    assert mean.compute() == pytest.approx(21 / 8)


def test_low_precision_and_lists():
    assert m.accuracy(SCORES.astype(pydl.bfloat16), TARGET) == pytest.approx(m.accuracy(SCORES, TARGET), abs=0.02)
    assert m.accuracy([1, 0, 1], [1.0, 0.0, 0.0]) == pytest.approx(2 / 3)
    assert m.accuracy([True, False], [1, 1]) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: m.accuracy(SCORES, TARGET[:-1]), ShapeError, r"\[accuracy\] output \(203, 7\) and target \(202,\)"),
        (lambda: m.accuracy(LABELS, TARGET[:1]), ShapeError, "do not fit"),
        (lambda: m.accuracy(SCORES[:, 0], TARGET), ArgumentError, "means two classes, but the targets go from 0 to"),
        (lambda: m.accuracy(SCORES, TARGET + 0.5), DTypeError, "with fractions"),
        (lambda: m.accuracy(np.array(["a"]), [0]), DTypeError, "output of dtype <U1"),
        (lambda: m.accuracy(SCORES, TARGET + 5), ArgumentError, r"target has classes from 5 to \d+; expected 0 to 6"),
        (lambda: m.top_k_accuracy(LABELS, TARGET), ShapeError, "expected scores"),
        (lambda: m.top_k_accuracy(SCORES, TARGET + 1), ArgumentError, "target has classes from 1"),
        (lambda: m.TopKAccuracy(0), ArgumentError, "k=0"),
        (lambda: m.confusion_matrix(LABELS, TARGET, 5), ArgumentError, "expected 0 to 4"),
        (lambda: m.confusion_matrix(LABELS, TARGET - 1, 7), ArgumentError, "target has classes from -1"),
        (lambda: m.ConfusionMatrix(1), ArgumentError, "num_classes=1"),
        (lambda: m.ConfusionMatrix(2, "rows"), ArgumentError, "normalize='rows'"),
        (lambda: m.precision(LABELS, TARGET, "binary"), ArgumentError, "average='binary'"),
        (lambda: m.precision(LABELS, TARGET, num_classes=3), ArgumentError, r"\[precision\] target has classes"),
        (lambda: m.precision(LABELS - 9, TARGET), ArgumentError, "output has classes from -9"),
        (lambda: m.FScore(0), ArgumentError, "beta=0"),
        (lambda: m.mean_squared_error(np.zeros((3, 1)), np.zeros(3)), ShapeError, r"output \(3, 1\) and target \(3,\)"),
        (lambda: m.r2_score(np.zeros((3, 1, 1)), np.zeros((3, 1, 1))), ShapeError, r"expected \(N,\) or \(N, D\)"),
        (lambda: m.R2Score("all"), ArgumentError, "multioutput='all'"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_columns_must_not_change():
    score = m.R2Score()
    score.update(X, Y)
    with pytest.raises(ShapeError, match="1 columns after batches with 3"):
        score.update(X[:, 0], Y[:, 0])
