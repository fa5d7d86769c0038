"""Diagnosis, averaged predictions, loss surfaces: known answers."""

import numpy as np
import pytest

import pydl
from pydl import nn, train
from pydl.data import TensorDataset
from pydl.errors import ArgumentError, ShapeError


class Constant(nn.Module):
    """Says one class."""

    def __init__(self, scores):
        super().__init__()
        self.scores = np.asarray(scores, np.float32)

    def forward(self, x):
        return pydl.from_numpy(np.tile(self.scores, (len(x), 1)))


def labelled(labels):
    return TensorDataset(np.zeros((len(labels), 1), np.float32), np.asarray(labels))


def test_error_rate():
    model = Constant([0, 1, 0]).train()
    assert train.error_rate(model, labelled([1, 1, 0, 2])) == 0.5
    assert model.training


def test_a_learning_curve_grows_by_samples_and_scores_what_was_learnt_from():
    seen = []

    def fit(part):
        seen.append([int(part[i][1]) for i in range(len(part))])
        return Constant([1, 0])

    points = train.learning_curve(fit, labelled(range(10)), labelled([0, 0, 0, 1]), [2, 5])
    assert [len(s) for s in seen] == [2, 5]
    assert seen[1][:2] == seen[0]
    assert [p.dev for p in points] == [0.25, 0.25]
    assert points[1].train == sum(c != 0 for c in seen[1]) / 5
    with pytest.raises(ArgumentError, match="size 11"):
        train.learning_curve(fit, labelled(range(10)), labelled([0]), [11])


def test_grid_and_validation_curve():
    data, dev = labelled([0, 1]), labelled([0, 0, 1, 2])
    trials = train.grid_search(lambda d, a, b: Constant(np.eye(3)[a + b]), {"a": [0, 1], "b": [0, 1]}, data, dev)
    assert [t.dev for t in trials] == [0.5, 0.75, 0.75, 0.75]
    assert trials[0].options == {"a": 0, "b": 0}
    lines = train.trials_table(trials).splitlines()
    assert len(lines) == 6
    assert lines[2].split("|")[1:5] == [" 0 ", " 0 ", " 0.5000      ", " 0.5000    "]
    points = train.validation_curve(lambda d, k: Constant(np.eye(3)[k]), [0, 1, 2], data, dev)
    assert [(p.value, p.train, p.dev) for p in points] == [(0, 0.5, 0.5), (1, 0.5, 0.75), (2, 1.0, 0.75)]


@pytest.mark.parametrize(("train_error", "dev", "verdict"), [
    (0.15, 0.155, "bias"), (0.01, 0.11, "variance"), (0.15, 0.31, "bias and variance, variance most"),
    (0.05, 0.055, "bias"), (0.005, 0.01, "neither bias nor variance"),
])  # fmt: skip
def test_readings_of_the_book(train_error, dev, verdict):
    reading = train.read_errors(train_error, dev, human=0.0)
    assert reading.verdict == verdict
    assert reading.bias == pytest.approx(train_error)
    assert reading.variance == pytest.approx(dev - train_error)


def test_human_error_changes_the_reading():
    assert train.read_errors(0.08, 0.10, human=0.01).verdict == "bias and variance, bias most"
    assert train.read_errors(0.08, 0.10, human=0.075).verdict == "variance"
    assert "development set" in train.read_errors(0.0, 0.0, test=0.1).advice


def test_gradient_norms_by_hand():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    model[0].weight.data[:], model[0].bias.data[:] = [[1, 2]], 0
    model[1].weight.data[:] = 3
    model(pydl.tensor([[3.0, 4.0]])).sum().backward()
    assert train.gradient_norms(model) == {"0.weight": pytest.approx(15.0), "1.weight": pytest.approx(11.0)}
    assert train.gradient_norms(model, per_weight=True)["0.weight"] == pytest.approx(15 / 2**0.5)
    model.zero_grad()
    with pytest.raises(ArgumentError, match="call backward"):
        train.gradient_norms(model)


def test_average_predictions():
    models = [Constant([0, 0]), Constant([np.log(3), 0])]
    models[0].train()
    models[1].eval()
    x = pydl.zeros(2, 1)
    np.testing.assert_allclose(train.average_predictions(models, x).numpy(), [[0.625, 0.375]] * 2, rtol=1e-6)
    scores = train.average_predictions(models, x, probabilities=False).numpy()
    np.testing.assert_allclose(scores[0], [np.log(3) / 2, 0], rtol=1e-6)
    assert [m.training for m in models] == [True, False]
    with pytest.raises(ArgumentError, match="no models"):
        train.average_predictions([], x)
    with pytest.raises(ShapeError, match="model 1"):
        train.average_predictions([models[0], Constant([0, 0, 0])], x)


def test_directions_are_as_long_as_the_filters():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    first, second = train.filter_normalised_directions(model, seed=1)
    weight = model[0].weight.data
    np.testing.assert_allclose((first[0] ** 2).sum((1, 2, 3)), (weight**2).sum((1, 2, 3)), rtol=1e-5)
    assert not np.allclose(first[0], second[0])
    assert not any(d.any() for d, p in zip(first, model.parameters(), strict=True) if p.ndim < 2)


def test_a_quadratic_surface_is_found_and_the_weights_put_back():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data[:] = [[1, 2]]
    before = model.weight.data.copy()
    directions = [[np.array([[1, 0]], np.float32)], [np.array([[0, 1]], np.float32)]]
    a, b = [-1.0, 0.0, 2.0], [0.0, 1.0]
    surface = train.loss_surface(model, lambda: (model.weight**2).sum(), directions, a, b)
    np.testing.assert_allclose(surface, [[(1 + x) ** 2 + (2 + y) ** 2 for y in b] for x in a])
    np.testing.assert_array_equal(model.weight.data, before)
    np.testing.assert_allclose(train.loss_surface(model, lambda: model.weight.sum(), directions[:1], a)[:, 0], [2, 3, 5])
    with pytest.raises(ShapeError, match="other shapes"):
        train.loss_surface(nn.Linear(3, 1), lambda: 0.0, directions, a, b)
