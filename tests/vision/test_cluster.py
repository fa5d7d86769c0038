"""k-means beside scikit-learn from the same start, on data whose best clusters are known, and with boxes."""

import itertools

import numpy as np
import pytest

import pydl
from pydl.cluster import KMeans, box_iou_wh
from pydl.errors import ArgumentError, ShapeError

rng = np.random.default_rng(0)


def blobs(dtype=np.float64):
    centres = np.array([[0, 0, 0], [10, 0, 5], [0, 12, -5], [-9, -9, 9]])
    labels = np.repeat(np.arange(4), 50)
    return (centres[labels] + rng.normal(size=(200, 3))).astype(dtype), labels, centres


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_finds_separate_blobs(dtype, init):
    x, labels, _ = blobs(dtype)
    found = KMeans(4, init, n_init=5, seed=0).fit(x + 1000)
    for c in range(4):
        mine = found.labels_[labels == c]
        assert len(set(mine)) == 1
        np.testing.assert_allclose(found.cluster_centers_[mine[0]], x[labels == c].mean(0) + 1000, rtol=1e-6)
    assert found.cluster_centers_.dtype == dtype
    cost = sum(((x[labels == c] - x[labels == c].mean(0)) ** 2).sum() for c in range(4))
    assert found.inertia_ == pytest.approx(cost, rel=1e-3)
    assert np.array_equal(found.predict(x + 1000), found.labels_)


def test_as_scikit_learn_from_the_same_start():
    sk = pytest.importorskip("sklearn.cluster")
    from sklearn.datasets import load_digits

    x = load_digits().data
    start = x[rng.choice(len(x), 10, replace=False)]
    ours = KMeans(10, start, tol=0).fit(x)
    theirs = sk.KMeans(10, init=start, n_init=1, tol=0, algorithm="lloyd").fit(x)
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    np.testing.assert_allclose(ours.transform(x[:5]), theirs.transform(x[:5]), rtol=1e-9)


def test_iris_reaches_the_known_optimum():
    datasets = pytest.importorskip("sklearn.datasets")
    assert KMeans(3, n_init=10, seed=0).fit(datasets.load_iris().data).inertia_ == pytest.approx(78.8514, abs=1e-3)


def test_cost_never_grows():
    x = rng.random((2000, 5))
    history = KMeans(12, "random", seed=1, tol=0).fit(x).history_
    assert len(history) > 5
    assert all(b <= a for a, b in itertools.pairwise(history))


def test_good_starts_beat_random_ones():
    x, _, _ = blobs()
    plus = [KMeans(4, "k-means++", max_iter=1, seed=s).fit(x).inertia_ for s in range(20)]
    random = [KMeans(4, "random", max_iter=1, seed=s).fit(x).inertia_ for s in range(20)]
    assert np.mean(plus) < 0.5 * np.mean(random)


def test_empty_clusters_start_again():
    x = np.array([[0.0], [0.1], [10.0], [10.1], [20.0]])
    found = KMeans(3, np.array([[0.0], [500.0], [600.0]])).fit(x)
    assert sorted(found.cluster_centers_.ravel().tolist()) == pytest.approx([0.05, 10.05, 20])
    same = KMeans(3, seed=0).fit(np.ones((5, 2)))
    assert same.inertia_ == 0


def test_seeds_and_tensors():
    x, _, _ = blobs(np.float32)
    assert np.array_equal(KMeans(4, seed=3).fit_predict(x), KMeans(4, seed=3).fit_predict(pydl.tensor(x)))
    results = []
    for _ in range(2):
        pydl.manual_seed(4)
        results.append(KMeans(7).fit(x).cluster_centers_)
    assert np.array_equal(*results)


def test_anchors_by_iou():
    """Small and large boxes count alike: Euclidean distances would spend all centres on the large ones."""
    shapes = np.array([[10, 20], [20, 10], [100, 100], [300, 200]])
    boxes = np.repeat(shapes, 60, 0) * rng.uniform(0.85, 1.15, (240, 2))
    found = KMeans(4, n_init=5, seed=0, distance="iou").fit(boxes)
    centres = found.cluster_centers_[np.argsort(found.cluster_centers_.prod(1) + found.cluster_centers_[:, 0])]
    np.testing.assert_allclose(centres, shapes, rtol=0.06)
    assert found.inertia_ / 240 == pytest.approx(1 - box_iou_wh(boxes, centres).max(1).mean(), rel=1e-6)
    assert box_iou_wh(np.array([[2.0, 4.0]]), np.array([[4.0, 2.0]]))[0, 0] == pytest.approx(4 / 12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: KMeans(0), ArgumentError, "n_clusters=0"),
        (lambda: KMeans(2, "best"), ArgumentError, r"k-means\+\+"),
        (lambda: KMeans(2, distance="cosine"), ArgumentError, "iou"),
        (lambda: KMeans(3).fit(np.zeros((2, 2))), ArgumentError, "2 points"),
        (lambda: KMeans(1).fit(np.zeros(5)), ShapeError, r"\(N, D\)"),
        (lambda: KMeans(1).fit(np.full((3, 2), np.nan)), ArgumentError, "NaN"),
        (lambda: KMeans(2, np.zeros((3, 2))).fit(np.zeros((5, 2))), ShapeError, "init must be"),
        (lambda: KMeans(2, distance="iou").fit(np.zeros((5, 2))), ShapeError, "positive"),
        (lambda: KMeans(2).predict(np.zeros((5, 2))), ArgumentError, "fit before"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
