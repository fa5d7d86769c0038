"""The layer table against numbers by hand; LeNet-5 is in test_models.py."""

import io
import re

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.graph import observe
from pydl.summary import summary


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return pydl.relu(x + self.conv2(pydl.relu(self.conv1(x))))


def test_functions_called_in_forward_have_rows():
    table = summary(nn.Sequential(nn.Conv2d(1, 3, 3), Residual()), (2, 1, 8, 8))
    assert [(row.path, row.type) for row in table] == [
        ("0", "Conv2d"), ("1.conv1", "Conv2d"), ("1", "relu"), ("1.conv2", "Conv2d"), ("1", "add, relu")]  # fmt: skip
    assert [row.receptive_field[0] for row in table] == [3, 5, 5, 7, 7]
    assert table.layers[-1].activation_bytes == 2 * (2 * 3 * 6 * 6) * 4


def test_depth_sums_up_what_is_inside():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), Residual())
    full, short, whole = (summary(model, (2, 1, 8, 8), depth=d) for d in (None, 1, 0))
    assert [(row.path, row.type) for row in short] == [("0", "Conv2d"), ("1", "Residual")]
    assert [(row.path, row.type) for row in whole] == [("", "Sequential")]
    for table in (short, whole):
        assert (table.flops, table.activation_bytes) == (full.flops, full.activation_bytes)
        assert sum(row.parameters for row in table) == full.parameters
    assert whole[""].receptive_field == (7, 7)


def test_a_module_called_twice_has_one_row():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x))

    (row,) = summary(Twice(), (3, 4))
    assert (row.calls, row.parameters, row.flops) == (2, 20, 2 * 3 * 4 * 9)


def test_parameters_of_lists_unused_parts_and_frozen_ones_are_counted():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.ParameterList([nn.Parameter(np.ones((4, 4), np.float32))])
            self.unused = nn.Linear(2, 3)
            self.scale = nn.Parameter(np.ones(4, np.float32))

        def forward(self, x):
            return x @ self.used[0] * self.scale

    model = Odd()
    model.unused.freeze()
    table = summary(model, (2, 4))
    assert table[""].parameters == 16 + 4
    assert (table["unused"].parameters, table["unused"].output_shape) == (9, None)
    assert (table.parameters, table.trainable_parameters) == (29, 20)
    assert "of these 9 fixed" in str(table)


def test_transposed_dilated_and_strided_windows():
    model = nn.Sequential(nn.Conv1d(1, 1, 3, dilation=4), nn.Conv1d(1, 1, 3, stride=2), nn.ConvTranspose1d(1, 1, 4, stride=2),
                          nn.Conv1d(1, 1, 3))  # fmt: skip
    # 1 + 2*4 = 9; 9 + 2 = 11, step 2; each output of the transposed sees 2 neighbours: 13, step 1; 13 + 2 = 15
    assert [row.receptive_field for row in summary(model, (1, 1, 64))] == [(9,), (11,), (13,), (15,)]


def test_reshaping_in_space_makes_the_field_unknown():
    class Shuffle(nn.Module):
        def forward(self, x):
            return x.reshape(x.shape[0], 1, -1, 2)

    table = summary(nn.Sequential(nn.Conv2d(1, 2, 3), Shuffle(), nn.Conv2d(1, 1, 1)), (1, 1, 10, 10))
    assert [row.receptive_field for row in table] == [(3, 3), None, None]


def test_global_mean_sees_everything():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    table = summary(nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), Mean()), (1, 1, 11, 9))
    assert table["1"].receptive_field == (3 + 4 * 2, 3 + 3 * 2)


def test_pooling_windows():
    model = nn.Sequential(nn.MaxPool1d(3, 2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(3), nn.AdaptiveMaxPool1d(1))
    # lengths 25 -> 12 -> 6 -> 3 -> 1; 3, step 2; 3 + 2 = 5, step 4; 5 + 4 = 9, step 8; 9 + 2 * 8 = 25: everything
    assert [row.receptive_field for row in summary(model, (1, 2, 25))] == [(3,), (5,), (9,), (25,)]
    unequal = nn.Sequential(nn.Conv1d(2, 2, 3), nn.AdaptiveAvgPool1d(4))
    assert summary(unequal, (1, 2, 9))["1"].receptive_field is None


def test_locally_connected_window():
    table = summary(nn.Sequential(nn.Conv2d(1, 2, 3), nn.LocallyConnected2d(2, 3, 8, 3)), (1, 1, 10, 10))
    assert table["1"].receptive_field == (5, 5)


def test_resampling_and_a_skip_connection():
    class Hourglass(nn.Module):
        def __init__(self, mode):
            super().__init__()
            self.first, self.down, self.inner = nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1)
            self.up, self.last = nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(4, 1, 1)

        def forward(self, x):
            x = self.first(x)
            return self.last(pydl.cat([x, self.up(self.inner(self.down(x)))], 1))

    # 3; pooled 4, step 2; 4 + 2 * 2 = 8; enlarged: the same from the nearest, one neighbour more if linear; step 1 again
    for mode, reach in (("nearest", 8), ("bilinear", 10)):
        table = summary(Hourglass(mode), (1, 1, 8, 8))
        assert [row.receptive_field[0] for row in table] == [3, 4, 8, reach, reach, reach]
        assert [row.path for row in table] == ["first", "down", "inner", "up", "", "last"]
    shrunk = summary(nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.Upsample(scale_factor=0.5, mode="linear")), (1, 1, 8))
    assert shrunk["1"].receptive_field == (4,)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[1].eval()
    state = pydl.get_rng_state()
    summary(model, (2, 4))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert not any(m._pre_hooks or m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert str(pydl.get_rng_state()) == str(state)


def test_hooks_and_observer_are_removed_after_an_error():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3))
    with pytest.raises(ShapeError, match="in module 1"):
        summary(model, (2, 4))
    assert not any(m._pre_hooks or m._forward_hooks for m in model.modules())
    seen = []

    def watch(op, ctx, arrays):
        seen.append(op.name)
        return op.forward(ctx, *arrays)

    with observe(watch):
        y = pydl.ones(2) + 1
    pydl.ones(2).exp()
    assert seen == ["add"]
    np.testing.assert_array_equal(y.numpy(), [2, 2])


def test_several_inputs_and_integers():
    class Two(nn.Module):
        def forward(self, x, index):
            return pydl.index_select(x, 0, index)

    table = summary(Two(), [(5, 3), (2,)], [pydl.float32, pydl.int64])
    assert table.inputs == [(5, 3), (2,)]
    assert table.input_bytes == 60 + 16
    assert table[""].output_shape == (2, 3)


def test_recomputation_is_counted_once():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return pydl.checkpoint(self.layer, x)

    assert summary(Checkpointed(), (2, 4)).flops == summary(nn.Linear(4, 4), (2, 4)).flops == 2 * 4 * 9


@pytest.mark.parametrize(("arguments", "message"), [
    ((nn.ReLU(), (1, -2)), r"input_size=\(1, -2\)"),
    ((nn.ReLU(), "1x2"), "input_size="),
    ((nn.ReLU(), [(1,), (2,)], [np.float32]), "1 dtypes for 2 inputs"),
    ((nn.ReLU(), (1,), np.float32, -1), "depth=-1"),
    ((abs, (1,)), "expected a Module"),
])  # fmt: skip
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        summary(*arguments)


def test_missing_row_names_the_rows():
    with pytest.raises(ArgumentError, match=r"no row 'x'; there are \['0', '1'\]"):
        summary(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), (1, 2))["x"]


def test_text_and_terminal_show_the_same_numbers():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    table = summary(nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU()), (1, 1, 28, 28))
    plain, terminal = io.StringIO(), Terminal()
    table.show(plain)
    table.show(terminal)
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    for text in (plain.getvalue(), coloured):
        for part in ("Conv2d", "1x6x24x24", "156", "176,256", "13.5 KiB", "179,712", "27.0 KiB"):
            assert part in text
    assert "\x1b" not in plain.getvalue()
    lines = plain.getvalue().splitlines()
    assert len({len(line) for line in lines[1:6]}) == 1  # columns line up


@pytest.mark.parametrize(("function", "flops"), [
    (lambda x: x + 1, 24), (pydl.relu, 24), (lambda x: x.sum(), 24), (lambda x: x.mean(1), 24), (lambda x: x.amax(0), 24),
    (lambda x: x.logsumexp(1), 72), (lambda x: x @ x.T, 2 * 4 * 6 * 4), (pydl.clone, 0), (lambda x: pydl.cat([x, x]), 0),
    (lambda x: x[1:3], 0), (lambda x: x[[0, 2]], 0), (lambda x: pydl.pad(x, (1, 1)), 0), (lambda x: x.to(pydl.float64), 0),
    (lambda x: x.reshape(6, 4).T, 0),
])  # fmt: skip
def test_operations_counted(function, flops):
    class Part(nn.Module):
        def forward(self, x):
            return function(x)

    assert summary(Part(), (4, 6)).flops == flops
