"""The networks by name; LeNet-5 is worked out line by line."""

import numpy as np
import pytest

import pydl
from pydl import models, nn
from pydl.errors import ArgumentError
from pydl.summary import summary

# path: output shape; parameters (k k C_in + 1) C_out or (D_in + 1) D_out; FLOPs, 2 for a multiplication with addition, 1 for a
# bias or an activation, 4 an output for 2 x 2 pooling; receptive field 1 + sum (F_j - 1) prod S_i
LENET5 = {
    "c1": ((1, 6, 28, 28), 156, 6 * 28 * 28 * (2 * 25 + 1), 5),
    "act1": ((1, 6, 28, 28), 0, 4704, 5),
    "s2": ((1, 6, 14, 14), 0, 1176 * 4, 6),
    "c3": ((1, 16, 10, 10), 2416, 16 * 10 * 10 * (2 * 150 + 1), 14),
    "act3": ((1, 16, 10, 10), 0, 1600, 14),
    "s4": ((1, 16, 5, 5), 0, 400 * 4, 16),
    "flatten": ((1, 400), 0, 0, 32),
    "c5": ((1, 120), 48120, 120 * (2 * 400 + 1), 32),
    "act5": ((1, 120), 0, 120, 32),
    "f6": ((1, 84), 10164, 84 * (2 * 120 + 1), 32),
    "act6": ((1, 84), 0, 84, 32),
    "output": ((1, 10), 850, 10 * (2 * 84 + 1), 32),
}


@pytest.mark.parametrize("form", ["modern", "classic"])
def test_lenet5_line_by_line(form):
    table = summary(models.LeNet5(form), (1, 1, 28, 28))
    assert [layer.path for layer in table] == list(LENET5)
    for layer, (path, (shape, parameters, flops, reach)) in zip(table, LENET5.items(), strict=True):
        assert (layer.path, layer.output_shape, layer.parameters) == (path, shape, parameters)
        assert layer.receptive_field == (reach, reach)
        assert layer.calls == 1
        assert layer.flops == flops, path
        copies = path == "flatten"  # channels-last memory has to be reordered there, an NCHW view need not be
        assert layer.activation_bytes == 4 * np.prod(shape) or (copies and layer.activation_bytes == 0)
    assert table.parameters == table.trainable_parameters == 61706 == sum(layer.parameters for layer in table)
    assert table.parameter_bytes == 4 * 61706
    assert table.input_bytes == 4 * 784
    assert table.flops == 239904 + 4704 + 4704 + 481600 + 1600 + 1600 + 96120 + 120 + 20244 + 84 + 1690


def test_lenet5_as_published_has_60000_parameters():
    table = summary(models.LeNet5("original"), (1, 1, 28, 28))
    assert table.parameters == 60_000
    by_layer = {path: sum(row.parameters for row in table if row.path.split(".")[0] == path) for path in ("c1", "s2", "c3", "s4")}
    assert by_layer == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32}
    assert table["output"].output_shape == (1, 10)


def test_mnist1d_networks():
    table = summary(models.MNIST1DConv(), (1, 1, 40))
    assert [row.output_shape for row in table if row.type == "Conv1d"] == [(1, 15, 19), (1, 15, 9), (1, 15, 4)]
    assert [row.receptive_field for row in table if row.type == "Conv1d"] == [(3,), (7,), (15,)]
    assert table["6"].receptive_field == (15 + 3 * 8,)  # four positions, eight samples apart
    assert table.parameters == 15 * 4 + 2 * 15 * 46 + 61 * 10 == 2050
    assert summary(models.MNIST1DDense(), (1, 1, 40)).parameters == 59065


def test_every_registered_network_runs_on_its_input():
    assert {"lenet5", "mlp", "mnist1d-conv", "mnist1d-dense"} <= set(models.list())
    for name in ("lenet5", "mlp", "mnist1d-conv", "mnist1d-dense"):
        y = models.create(name)(pydl.zeros(2, *models.entry(name).input_size))
        assert y.shape == (2, 10)


def test_mlp():
    model = models.MLP((6, 5, 4, 2), activation=nn.Tanh, dropout=0.5)
    assert [type(m).__name__ for m in model] == ["Flatten", "Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert model(pydl.zeros(3, 2, 3)).shape == (3, 2)
    with pytest.raises(ArgumentError, match=r"sizes=\(3,\); expected at least two"):
        models.MLP((3,))


def test_registering(monkeypatch):
    monkeypatch.setattr("pydl.models.registry._ENTRIES", dict(models.registry._ENTRIES))

    @models.register("tiny", input_size=(2,))
    def tiny(classes=3):
        return nn.Linear(2, classes)

    assert "tiny" in models.list()
    assert models.create("tiny", classes=5).out_features == 5
    with pytest.raises(ArgumentError, match="'tiny' is taken"):
        models.register("tiny")(nn.Linear)
    with pytest.raises(ArgumentError, match="cannot be a name"):
        models.register("a:b")


@pytest.mark.parametrize("form", ["modern", "classic", "original"])
def test_every_form_of_lenet5_learns(form):
    """Four pictures, bright in one quarter each, are told apart after a few steps; every parameter has a gradient."""
    pydl.manual_seed(1)
    model = models.LeNet5(form)
    pictures = np.zeros((4, 1, 28, 28), np.float32)
    for i in range(4):
        pictures[i, 0, 14 * (i // 2) :, 14 * (i % 2) :][:14, :14] = 1
    x, y = pydl.from_numpy(pictures), pydl.tensor([0, 1, 2, 3])
    optimizer = pydl.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = pydl.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in model.parameters())
    assert losses[-1] < 0.2 * losses[0]


def test_sparse_connections_of_c3():
    """Zeroing an input map changes only the output maps that the paper's table connects to it."""
    layer = models.LeNet5("original").c3
    x = pydl.randn(1, 6, 14, 14)
    before = layer(x).detach().numpy()
    for c, connected in enumerate(([0, 4, 5, 6, 9, 10, 11, 12, 14, 15], [0, 1, 5, 6, 7, 10, 11, 12, 13, 15])):
        changed = x.clone().numpy()
        changed[:, c] = 0
        moved = np.abs(layer(pydl.from_numpy(changed)).detach().numpy() - before).max((0, 2, 3)) > 1e-6
        assert np.flatnonzero(moved).tolist() == connected


def test_output_codes_are_ten_different_pictures():
    codes = models.LeNet5("original").output.codes.numpy()
    assert set(np.unique(codes)) == {-1, 1}
    assert len({c.tobytes() for c in codes}) == 10
    scores = models.LeNet5("original").output(pydl.from_numpy(codes)).numpy()
    assert (scores.argmax(1) == np.arange(10)).all()
    np.testing.assert_array_equal(np.diag(scores), 0)


def test_lenet5_wrong_arguments():
    with pytest.raises(ArgumentError, match="form='old'; expected modern, classic or original"):
        models.LeNet5("old")
    with pytest.raises(ArgumentError, match="num_classes=7"):
        models.LeNet5("original", num_classes=7)
