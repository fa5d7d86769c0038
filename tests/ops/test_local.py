"""Locally connected layers: every check of tests/ops/records.py against a loop over positions."""

import numpy as np
import pytest
from records import OpRecord, draw, run_records

import pydl
from pydl import nn
from pydl.errors import ShapeError
from pydl.ops import local


def reference(x, w, b=None, stride=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1)):
    x = np.pad(x, ((0, 0), (0, 0), *pads))
    rows, columns, outputs, _, kh, kw = w.shape
    y = np.zeros((x.shape[0], outputs, rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride[0], j * stride[1]
            window = x[:, :, top : top + dilation[0] * (kh - 1) + 1 : dilation[0],
                       left : left + dilation[1] * (kw - 1) + 1 : dilation[1]]
            y[:, :, i, j] = np.einsum("nckl,ockl->no", window, w[i, j])
    return y if b is None else y + b


RECORDS = [
    OpRecord("plain", pydl.locally_connected2d, reference, (draw(2, 1, 4, 3), draw(2, 2, 2, 1, 3, 2), draw(2, 2, 2)),
             large=(draw(8, 4, 18, 18), draw(16, 16, 12, 4, 3, 3), draw(12, 16, 16)), zero_size=(draw(0, 3, 5, 6),
             draw(3, 5, 4, 3, 3, 2), draw(4, 3, 5)), errors=[
        (lambda: pydl.locally_connected2d(pydl.zeros(1, 3, 5, 6), pydl.zeros(3, 4, 4, 3, 3, 2)), ShapeError,
         r"\[locally_connected2d\] weight of shape \(3, 4, 4, 3, 3, 2\).*\(3, 4\) positions.*\(5, 6\).*has \(3, 5\)"),
        (lambda: pydl.locally_connected2d(pydl.zeros(1, 2, 5, 6), pydl.zeros(3, 5, 4, 3, 3, 2)), ShapeError,
         "2 channels.*expects 3"),
        (lambda: pydl.locally_connected2d(pydl.zeros(1, 3, 5, 6), pydl.zeros(3, 5, 4, 3)), ShapeError, "weight must be"),
        (lambda: pydl.locally_connected2d(pydl.zeros(1, 3, 5, 6), pydl.zeros(3, 5, 4, 3, 3, 2), pydl.zeros(4)), ShapeError,
         r"bias of shape \(4,\).*\(4, 3, 5\)"),
    ]),
    OpRecord("strided", lambda x, w: pydl.locally_connected2d(x, w, None, (2, 1), (1, 2), (1, 2)),
             lambda x, w: reference(x, w, None, (2, 1), ((1, 1), (2, 2)), (1, 2)), (draw(2, 2, 4, 3), draw(2, 3, 2, 2, 3, 3))),
    OpRecord("same", lambda x, w: pydl.locally_connected2d(x, w, padding="same"),
             lambda x, w: reference(x, w, None, pads=((0, 1), (1, 1))), (draw(3, 1, 4, 3), draw(4, 3, 2, 1, 2, 3))),
]  # fmt: skip
test_ops = run_records(RECORDS)


def test_equal_filters_are_a_convolution():
    rng = np.random.default_rng(0)
    x = pydl.tensor(rng.integers(-4, 5, (2, 3, 8, 9)).astype(np.float32))
    w = pydl.tensor(rng.integers(-4, 5, (5, 3, 3, 2)).astype(np.float32))
    everywhere = w.expand(6, 8, 5, 3, 3, 2)
    np.testing.assert_array_equal(pydl.locally_connected2d(x, everywhere).numpy(), pydl.conv2d(x, w).numpy())


def test_many_steps_give_the_same(monkeypatch):
    """However few rows are gathered at a time; only the input's gradient is summed in another order."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((3, 4, 12, 12), (10, 10, 6, 4, 3, 3))]
    results = []
    for limit in (8 << 20, 40_000, 1):
        monkeypatch.setattr(local, "_GATHERED_BYTES", limit)
        x, w = (pydl.tensor(a, requires_grad=True) for a in arrays)
        y = pydl.locally_connected2d(x, w)
        (y * y).sum().backward()
        results.append([a.copy() for a in (y.detach().numpy(), w.grad.numpy(), x.grad.numpy())])
    for other in results[1:]:
        np.testing.assert_array_equal(other[0], results[0][0])
        np.testing.assert_array_equal(other[1], results[0][1])
        np.testing.assert_allclose(other[2], results[0][2], rtol=1e-5, atol=1e-4)


def test_memory_is_not_the_gathered_image():
    x, w = pydl.zeros(64, 8, 32, 32), pydl.zeros(30, 30, 4, 8, 3, 3)
    gathered = 64 * 900 * 72 * 4
    before = pydl.memory.current()
    pydl.memory.reset_peak()
    pydl.locally_connected2d(x, w)
    assert pydl.memory.peak() - before < gathered, "all windows were gathered at once"


def test_module():
    pydl.manual_seed(0)
    layer = nn.LocallyConnected2d(3, 4, (7, 6), 3, stride=2, padding=1)
    layer(pydl.ones(2, 3, 7, 6)).sum().backward()
    assert layer.weight.grad.data.strides == layer.weight.data.strides  # channels innermost, nothing is reordered
    assert layer.weight.data.strides[3] == 4
    assert layer.weight.shape == (4, 3, 4, 3, 3, 3)
    assert layer.bias.shape == (4, 4, 3)
    bound = 27**-0.5
    assert 0.9 * bound < np.abs(layer.weight.detach().numpy()).max() <= bound
    assert layer(pydl.ones(2, 3, 7, 6)).shape == (2, 4, 4, 3)
    assert layer(pydl.ones(3, 7, 6)).shape == (4, 4, 3)
    assert "input_size=(7, 6)" in repr(layer)
    assert list(nn.LocallyConnected2d(1, 1, 3, 3, bias=False).state_dict()) == ["weight"]
    with pytest.raises(ShapeError, match="smaller than the kernel"):
        nn.LocallyConnected2d(1, 1, 3, 4)
    with pytest.raises(ShapeError, match=r"\(4, 3\) positions.*has \(5, 3\)"):
        layer(pydl.ones(2, 3, 9, 6))
