"""Averages of weights: hand-computed values, saving in the middle, what is refused."""

import numpy as np
import pytest

from pydl import from_numpy, load, nn, optim, save
from pydl.errors import ArgumentError
from pydl.nn import Parameter
from pydl.optim import swa_utils


class Point(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.w = Parameter(np.array([value], np.float32))


def averages(average, values):
    model, found = Point(0.0), []
    for value in values:
        model.w.data[:] = value
        average.update_parameters(model)
        found.append(float(average.module.w.data[0]))
    return found


def test_hand_computed_averages():
    assert averages(swa_utils.AveragedModel(Point(9.0)), [1, 3, 8]) == pytest.approx([1, 2, 4])
    ema = swa_utils.AveragedModel(Point(9.0), multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    assert averages(ema, [1, 3, 8]) == pytest.approx([1, 2, 5])


def test_averaging_goes_on_from_a_saved_state(tmp_path):
    whole = swa_utils.AveragedModel(Point(0.0))
    expected = averages(whole, [1, 3, 8, 4])
    part = swa_utils.AveragedModel(Point(0.0))
    averages(part, [1, 3])
    save(part.state_dict(), tmp_path / "average.safetensors")
    again = swa_utils.AveragedModel(Point(0.0))
    again.load_state_dict(load(tmp_path / "average.safetensors"))
    assert averages(again, [8, 4]) == expected[2:]
    assert again.n_averaged.item() == 4


def test_the_network_itself_is_left_alone():
    model = nn.Sequential(nn.Linear(2, 2))
    before = model[0].weight.data.copy()
    average = swa_utils.AveragedModel(model)
    average.update_parameters(model)
    average.module[0].weight.data[:] = 0
    np.testing.assert_array_equal(model[0].weight.data, before)


def test_update_bn_takes_the_mean_over_batches_and_puts_all_back():
    model = nn.Sequential(nn.BatchNorm1d(1, momentum=0.3), nn.Dropout(0.5)).eval()
    batches = [from_numpy(np.array([[a], [b]], np.float32)) for a, b in ((0, 2), (4, 8))]
    swa_utils.update_bn(batches, model)
    assert model[0].running_mean.item() == pytest.approx(3.5)
    assert model[0].running_var.item() == pytest.approx((2 + 8) / 2)
    assert model[0].momentum == 0.3
    assert not any(m.training for m in model.modules())


def test_refused():
    model = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match="not both"):
        swa_utils.AveragedModel(model, avg_fn=swa_utils.get_swa_avg_fn(), multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    with pytest.raises(ArgumentError, match="other shapes"):
        swa_utils.AveragedModel(model).update_parameters(nn.Linear(3, 2))
    with pytest.raises(ArgumentError, match="decay"):
        swa_utils.get_ema_multi_avg_fn(1.5)
    with pytest.raises(ArgumentError, match="anneal_strategy"):
        swa_utils.SWALR(optim.SGD(model.parameters(), lr=0.1), 0.05, anneal_strategy="exp")
