"""Standardisation: scikit-learn's numbers, statistics of the training set alone, what is refused."""

import numpy as np
import pytest

import pydl
from pydl.data import Standardizer
from pydl.errors import ArgumentError, ShapeError


def test_the_numbers_of_scikit_learn_from_the_training_set_alone():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(0)
    x = rng.normal([0, 1e6, -3], [1, 20, 0.01], (50, 3))
    x[:, 2] = 0.1  # constant
    train, test = x[:40], x[40:]
    ours, theirs = Standardizer().fit(train), preprocessing.StandardScaler().fit(train)
    np.testing.assert_allclose(ours(test), theirs.transform(test), atol=1e-9)
    np.testing.assert_allclose(ours(train).mean(0), 0, atol=1e-9)
    assert abs(ours(test)[:, :2].mean(0)).max() > 1e-3
    np.testing.assert_allclose(ours.inverse(ours(test)), test, rtol=1e-12)


def test_channels_of_images_as_tensors():
    x = np.random.default_rng(1).integers(0, 255, (6, 3, 4, 4)).astype(np.uint8)
    out = Standardizer((0, 2, 3)).fit_transform(pydl.from_numpy(x))
    assert isinstance(out, pydl.Tensor)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.numpy().std((0, 2, 3)), 1, atol=1e-6)


def test_saving():
    first, second = Standardizer().fit(np.arange(6.0).reshape(3, 2)), Standardizer()
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first(np.ones((1, 2))), second(np.ones((1, 2))))


def test_refused():
    with pytest.raises(ArgumentError, match="not fitted"):
        Standardizer()(np.ones((2, 2)))
    with pytest.raises(ArgumentError, match="NaN"):
        Standardizer().fit(np.array([[np.nan]]))
    with pytest.raises(ShapeError, match="does not fit"):
        Standardizer().fit(np.ones((2, 2)))(np.ones((2, 3)))
