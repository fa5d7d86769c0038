"""Normalisation: records against float64 NumPy, running statistics, accuracy far from 0, layers and errors."""

import math

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records, threads

import pydl
from pydl import _core, nn
from pydl.errors import ArgumentError, DTypeError, GraphError, ShapeError
from pydl.ops._common import channel_rows, empty_channels_last
from pydl.ops.norm import BatchNorm

EPS = 1e-5


def standard(x, axes):
    if x.size == 0:
        return x
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)


def per_channel(v, x):
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


def batch_reference(x, w, b):
    return standard(x, (0, *range(2, x.ndim))) * per_channel(w, x) + per_channel(b, x)


def instance_reference(x, w, b):
    return standard(x, tuple(range(2, x.ndim))) * per_channel(w, x) + per_channel(b, x)


def group_reference(groups):
    def reference(x, w, b):
        parts = x.reshape(x.shape[0], groups, x[0].size // groups if len(x) else 0)
        return standard(parts, 2).reshape(x.shape) * per_channel(w, x) + per_channel(b, x)

    return reference


def rms_reference(x, w):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * w


def local_reference(size, alpha, beta, k):
    def reference(x):
        d = np.full_like(x, k)
        for c in range(x.shape[1]):
            near = x[:, max(c - size // 2, 0) : c + (size - 1) // 2 + 1]
            d[:, c] += alpha / size * (near**2).sum(1)
        return x / d**beta

    return reference


def batch(x, w, b):
    return pydl.batch_norm(x, None, None, w, b, training=True)


MEAN, VAR = np.linspace(-1, 1, 5), np.linspace(0.3, 2, 5)


def batch_eval(x, w, b):
    return pydl.batch_norm(x, pydl.tensor(MEAN.astype(x.dtype)), pydl.tensor(VAR.astype(x.dtype)), w, b)


def batch_eval_reference(x, w, b):
    exact = w.astype(np.float32).astype(np.float64)
    mean, var = (MEAN, VAR) if not np.array_equal(w, exact) else (a.astype(np.float32).astype(float) for a in (MEAN, VAR))
    return (x - per_channel(mean, x)) / np.sqrt(per_channel(var, x) + EPS) * per_channel(w, x) + per_channel(b, x)


def channels(c):
    return draw(c, low=0.5, high=1.5), draw(c)


RECORDS = [
    OpRecord("batch_norm", batch, batch_reference, (draw(4, 5, 3, 2), *channels(5)),
             large=(draw(30, 19, 15, 17), *channels(19)), zero_size=(draw(2, 3, 0), *channels(3)),
             errors=[
                 (lambda: pydl.batch_norm(pydl.zeros(3), None, None, training=True), ShapeError, r"\[batch_norm\].*\(3,\)"),
                 (lambda: pydl.batch_norm(pydl.zeros(1, 3), None, None, training=True), ArgumentError,
                  r"Expected more than 1 value per channel when training, got input size \[1, 3\]"),
                 (lambda: pydl.batch_norm(pydl.zeros(2, 3), None, None), ArgumentError, "needs running_mean"),
                 (lambda: batch(pydl.zeros(2, 3), pydl.zeros(4), None), ShapeError, r"weight of shape \(4,\); expected \(3,\)"),
                 (lambda: batch(pydl.zeros(2, 3), pydl.zeros(3).double(), None), DTypeError, "weight float64"),
                 (lambda: pydl.batch_norm(pydl.zeros(2, 3), pydl.zeros(3), None, training=True), ArgumentError, "together"),
             ]),
    OpRecord("batch_norm_matrix", batch, batch_reference, (draw(7, 20), *channels(20)),
             large=(draw(3000, 70), *channels(70))),
    OpRecord("batch_norm_folded", batch, batch_reference, (draw(1, 6, 91), *channels(6)), large=(draw(9, 6, 9999), *channels(6))),
    OpRecord("batch_norm_eval", batch_eval, batch_eval_reference, (draw(4, 5, 3, 2), *channels(5)),
             large=(draw(40, 5, 17, 31), *channels(5))),
    OpRecord("batch_norm_plain", lambda x: pydl.batch_norm(x, None, None, training=True), lambda x: standard(x, (0, 2)),
             (draw(3, 4, 5),)),
    OpRecord("instance_norm", lambda x, w, b: pydl.instance_norm(x, weight=w, bias=b), instance_reference,
             (draw(3, 5, 4, 3), *channels(5)), large=(draw(7, 18, 40, 41), *channels(18)),
             errors=[
                 (lambda: pydl.instance_norm(pydl.zeros(2, 3)), ShapeError, r"\[instance_norm\]"),
                 (lambda: pydl.instance_norm(pydl.zeros(2, 3, 1)), ArgumentError, "more than 1 spatial element"),
                 (lambda: pydl.instance_norm(pydl.zeros(2, 3, 4), use_input_stats=False), ArgumentError, "needs running_mean"),
             ]),
    OpRecord("group_norm", lambda x, w, b: pydl.group_norm(x, 2, w, b), group_reference(2), (draw(3, 6, 2, 3), *channels(6)),
             large=(draw(6, 34, 33, 31), *channels(34)), zero_size=(draw(0, 4, 3), *channels(4)),
             errors=[(lambda: pydl.group_norm(pydl.zeros(2, 6), 4), ArgumentError, "num_groups=4 must divide the 6 channels")]),
    OpRecord("group_norm_one", lambda x, w, b: pydl.group_norm(x, 1, w, b), group_reference(1), (draw(2, 5), *channels(5)),
             large=(draw(900, 65), *channels(65))),
    OpRecord("layer_norm", lambda x, w, b: pydl.layer_norm(x, 5, w, b), lambda x, w, b: standard(x, -1) * w + b,
             (draw(3, 4, 5), *channels(5)), large=(draw(30000, 5), *channels(5)), zero_size=(draw(0, 5), *channels(5)),
             errors=[
                 (lambda: pydl.layer_norm(pydl.zeros(2, 6), 5), ShapeError, r"normalized_shape=\(5,\).*\(2, 6\)"),
                 (lambda: pydl.layer_norm(pydl.zeros(2, 6), 6, pydl.zeros(5)), ShapeError, r"weight of shape \(5,\)"),
                 (lambda: pydl.layer_norm(pydl.zeros(6), (2, 6)), ShapeError, "is not the end"),
             ]),
    OpRecord("layer_norm_axes", lambda x, w, b: pydl.layer_norm(x, w.shape, w, b),
             lambda x, w, b: standard(x, (1, 2)) * w + b, (draw(3, 4, 9), draw(4, 9), draw(4, 9)),
             large=(draw(300, 11, 101), draw(11, 101), draw(11, 101))),
    OpRecord("layer_norm_plain", lambda x: pydl.layer_norm(x, (33,)), lambda x: standard(x, -1), (draw(3, 33),)),
    OpRecord("rms_norm", lambda x, w: pydl.rms_norm(x, w.shape, w, EPS), rms_reference, (draw(3, 4, 19), draw(19)),
             large=(draw(700, 130), draw(130)), zero_size=(draw(0, 5), draw(5))),
    OpRecord("local_response_norm", lambda x: pydl.local_response_norm(x, 5, 0.3, 0.75, 2.0),
             local_reference(5, 0.3, 0.75, 2.0), (draw(2, 7, 3),), large=(draw(9, 35, 20, 19),), zero_size=(draw(2, 0, 3),),
             errors=[(lambda: pydl.local_response_norm(pydl.zeros(2, 3), 0), ArgumentError, "size=0"),
                     (lambda: pydl.local_response_norm(pydl.zeros(3), 2), ShapeError, r"\(3,\)")]),
    OpRecord("local_response_norm_even", lambda x: pydl.local_response_norm(x, 4, 0.5, 0.6, 1.0),
             local_reference(4, 0.5, 0.6, 1.0), (draw(2, 3, 2, 2),)),
    OpRecord("normalize", lambda x: pydl.normalize(x, dim=-1), lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True),
             (draw(4, 6),), double_backward=True),
]
for record in RECORDS:  # second derivatives go through a formula of simple operations
    record.double_backward = "local" not in record.name
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 65, 100])
@pytest.mark.parametrize("positions", [1, 3, 63, 64, 65, 300])
def test_every_width(n_channels, positions):
    """All tails, folds and block boundaries, with the layout of a convolution's output."""
    rng = np.random.default_rng(n_channels)
    x = rng.normal(size=(2, positions, n_channels)).astype(np.float32).transpose(0, 2, 1)
    w, b = rng.normal(size=(2, n_channels)).astype(np.float32)
    for isa in ISAS:
        with instruction_set(isa):
            y = batch(pydl.from_numpy(x), pydl.tensor(w), pydl.tensor(b)).numpy()
            np.testing.assert_allclose(y, batch_reference(*(a.astype(float) for a in (x, w, b))), atol=3e-6, rtol=3e-6)


def standard_gradient(x, g, axes, w=1.0, centred=True):
    """d(sum(g * w * xhat)) / dx, xhat = (x - mean) / sqrt(var + eps) over the axes."""
    mean = x.mean(axes, keepdims=True) if centred else 0.0
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + EPS)
    xhat, gw = (x - mean) * rstd, g * w
    first = gw.mean(axes, keepdims=True) if centred else 0.0
    return xhat, rstd * (gw - first - xhat * (gw * xhat).mean(axes, keepdims=True))


@pytest.mark.parametrize(("kind", "shape", "axes"), [
    ("batch", (9, 6, 9999), (0, 2)), ("batch", (3000, 70), (0,)), ("batch", (30, 19, 65, 37), (0, 2, 3)),
    ("instance", (3, 18, 140, 141), (2, 3)), ("instance", (200, 5, 7), (2,)), ("layer", (5000, 21), (1,)),
    ("layer", (300, 1111), (1,)), ("layer", (3, 70_001), (1,)), ("rms", (700, 130), (1,)),
])
def test_large(kind, shape, axes):
    """Enough data for several slots, blocks and folds: value and gradients against the formula in float64."""
    rng = np.random.default_rng(0)
    size = shape[1]
    x, g, w = (rng.normal(size=s).astype(np.float32) for s in (shape, shape, (size,)))
    x = x * 2 + 1
    t, v, b = pydl.tensor(x, requires_grad=True), pydl.tensor(w, requires_grad=True), pydl.zeros(size, requires_grad=True)
    y = {
        "batch": lambda: batch(t, v, b), "instance": lambda: pydl.instance_norm(t, weight=v, bias=b),
        "layer": lambda: pydl.layer_norm(t, size, v, b), "rms": lambda: pydl.rms_norm(t, size, v, EPS),
    }[kind]()
    y.backward(pydl.tensor(g))
    x, g, w = x.astype(float), g.astype(float), w.astype(float).reshape(1, -1, *(1,) * (len(shape) - 2))
    xhat, dx = standard_gradient(x, g, axes, w, centred=kind != "rms")
    others = (0, *range(2, len(shape)))
    np.testing.assert_allclose(y.detach().numpy(), xhat * w, atol=5e-6)
    np.testing.assert_allclose(t.grad.numpy(), dx, atol=5e-6)
    np.testing.assert_allclose(v.grad.numpy(), (g * xhat).sum(others), atol=1e-6 * np.abs(g * xhat).sum(others).max())
    if kind != "rms":
        np.testing.assert_allclose(b.grad.numpy(), g.sum(others), atol=1e-6 * np.abs(g).sum(others).max())


@pytest.mark.parametrize("offset", [1e3, 1e5])
@pytest.mark.parametrize(("function", "axes"), [
    (lambda x: pydl.batch_norm(x, None, None, training=True), (0, 2, 3)), (lambda x: pydl.layer_norm(x, (3, 5, 5)), (1, 2, 3)),
    (lambda x: pydl.group_norm(x, 1), (1, 2, 3)), (pydl.instance_norm, (2, 3)),
])
def test_mean_far_from_zero(offset, function, axes):
    """x^2 - mean^2 would lose all digits here; the input itself, rounded, is what is normalised."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 3, 5, 5)) + offset).astype(np.float32)
    g = x - np.float32(offset)  # goes with the input, so that no term of the gradient vanishes
    t = pydl.tensor(x, requires_grad=True)
    y = function(t)
    y.backward(pydl.tensor(g))
    xhat, dx = standard_gradient(x.astype(float), g.astype(float), axes)
    np.testing.assert_allclose(y.detach().numpy(), xhat, atol=5e-6)
    np.testing.assert_allclose(t.grad.numpy(), dx, atol=5e-6)


def test_running_statistics():
    rng = np.random.default_rng(0)
    layer, average = nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=None)
    mean, var, means, variances = np.zeros(3), np.ones(3), [], []
    for step in range(4):
        x = rng.normal(loc=step, scale=1 + step, size=(5, 3, 4, 4)).astype(np.float32)
        layer(pydl.tensor(x))
        average(pydl.tensor(x))
        means.append(x.astype(float).mean((0, 2, 3)))
        variances.append(x.astype(float).var((0, 2, 3), ddof=1))
        mean, var = 0.7 * mean + 0.3 * means[-1], 0.7 * var + 0.3 * variances[-1]
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-6)
    np.testing.assert_allclose(average.running_mean.numpy(), np.mean(means, 0), rtol=1e-6)
    np.testing.assert_allclose(average.running_var.numpy(), np.mean(variances, 0), rtol=1e-6)
    assert layer.num_batches_tracked.item() == 4
    layer.eval()
    before = layer.running_mean.numpy().copy()
    y = layer(pydl.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y, (x - per_channel(mean, x)) / np.sqrt(per_channel(var, x) + EPS), atol=1e-5)
    np.testing.assert_array_equal(layer.running_mean.numpy(), before)
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1, 1, 1]
    assert layer.num_batches_tracked.item() == 0


def test_running_statistics_of_instances():
    x = np.random.default_rng(0).normal(size=(4, 3, 11)).astype(np.float32)
    layer = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    layer(pydl.tensor(x))
    assert layer.num_batches_tracked.item() == 0  # only batch norm counts, as in PyTorch
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * x.mean(2).mean(0), atol=1e-7)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * x.var(2, ddof=1).mean(0), rtol=1e-6)
    y = layer.eval()(pydl.tensor(x)).detach().numpy()
    expected = (x - per_channel(layer.running_mean.numpy(), x)) / np.sqrt(per_channel(layer.running_var.numpy(), x) + EPS)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_state_dict_keys():
    assert list(nn.BatchNorm1d(2).state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(nn.BatchNorm1d(2, affine=False, track_running_stats=False).state_dict()) == []
    assert list(nn.InstanceNorm2d(2).state_dict()) == []
    assert list(nn.LayerNorm(2, bias=False).state_dict()) == list(nn.RMSNorm(2).state_dict()) == ["weight"]
    assert list(nn.GroupNorm(1, 2).state_dict()) == ["weight", "bias"]


def test_layers():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
    t = pydl.tensor(x)
    for layer, expected in (
        (nn.BatchNorm2d(4), standard(x, (0, 2, 3))),
        (nn.BatchNorm2d(4, track_running_stats=False).eval(), standard(x, (0, 2, 3))),
        (nn.InstanceNorm2d(4), standard(x, (2, 3))),
        (nn.GroupNorm(2, 4), group_reference(2)(x, np.ones(4), np.zeros(4))),
        (nn.LayerNorm([4, 6, 6]), standard(x, (1, 2, 3))),
        (nn.RMSNorm(6, eps=EPS), rms_reference(x, 1)),
        (nn.LocalResponseNorm(3, alpha=0.5), local_reference(3, 0.5, 0.75, 1.0)(x)),
    ):
        np.testing.assert_allclose(layer(t).detach().numpy(), expected, atol=2e-6)
    single = nn.InstanceNorm2d(4)(pydl.tensor(x[0]))
    np.testing.assert_allclose(single.numpy(), standard(x[0], (1, 2)), atol=2e-6)
    assert repr(nn.BatchNorm2d(4)) == "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"


def test_layer_errors():
    with pytest.raises(ShapeError, match=r"BatchNorm2d: input of shape \(2, 3\); expected \(N, C, H, W\)"):
        nn.BatchNorm2d(3)(pydl.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"InstanceNorm1d.*has 4 channels; expected num_features=3 on axis 1"):
        nn.InstanceNorm1d(3)(pydl.zeros(2, 4, 5))
    with pytest.raises(ShapeError, match=r"InstanceNorm1d.*has 4 channels; expected num_features=3 on axis 0"):
        nn.InstanceNorm1d(3)(pydl.zeros(4, 5))
    with pytest.raises(ShapeError, match=r"BatchNorm1d.*has 4 channels"):
        nn.BatchNorm1d(3, affine=False, track_running_stats=False)(pydl.zeros(2, 4))
    with pytest.raises(ShapeError, match=r"GroupNorm: input of shape \(2, 6\); expected \(N, 4, ...\)"):
        nn.GroupNorm(2, 4, affine=False)(pydl.zeros(2, 6))
    with pytest.raises(ArgumentError, match="num_groups=3 must divide num_channels=4"):
        nn.GroupNorm(3, 4)
    with pytest.raises(ArgumentError, match="more than 1 value per channel"):
        nn.Sequential(nn.BatchNorm1d(3))(pydl.zeros(1, 3))


def test_input_changed_before_backward_is_noticed():
    x = pydl.ones(4, 3)
    w = pydl.ones(3, requires_grad=True)
    y = pydl.layer_norm(x, 3, w)
    x.fill_(2)
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()


def test_gradient_penalty_and_third_derivatives():
    """The gradient's norm as a loss (WGAN-GP), against differences; beyond that a clear error."""
    rng = np.random.default_rng(0)
    x, w = pydl.tensor(rng.normal(size=(6, 4)), requires_grad=True), pydl.tensor(rng.normal(size=4), requires_grad=True)

    def penalty():
        (dx,) = pydl.autograd.grad((pydl.layer_norm(x, 4, w) ** 3).sum(), [x], create_graph=True)
        return (dx * dx).sum()

    penalty().backward()
    for t in (x, w):
        at = (2,) * t.ndim
        values = []
        for step in (1e-5, -1e-5):
            t.data[at] += step
            values.append(penalty().item())
            t.data[at] -= step
        np.testing.assert_allclose(t.grad.numpy()[at], (values[0] - values[1]) / 2e-5, rtol=1e-5)
    with pytest.raises(GraphError, match="no third derivatives"):
        penalty().backward(create_graph=True)


def test_layout_is_kept():
    """Channels-last in, channels-last out and in the gradient: nothing is reordered between layers."""
    x = pydl.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32).transpose(0, 3, 1, 2))
    x.requires_grad = True
    y = pydl.group_norm(pydl.batch_norm(x, None, None, training=True), 3)
    assert y.data.strides == x.data.strides
    (y * y * y).sum().backward()
    assert x.grad.data.strides == x.data.strides


def test_threads_with_running_statistics():
    found = []
    for n in (1, 2, 3):
        with threads(n):
            layer = nn.BatchNorm2d(12)
            layer(pydl.tensor(np.random.default_rng(0).normal(size=(9, 12, 50, 51)).astype(np.float32)))
            found.append(layer.running_var.numpy().tobytes())
    assert len(set(found)) == 1


def test_channel_rows_are_views():
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 1, 4, 5), (0, 3, 2, 2)):
        x = empty_channels_last(shape)
        x[...] = np.arange(x.size).reshape(shape)
        expected = np.moveaxis(x, 1, -1).reshape(shape[0], math.prod(shape[2:]), shape[1])
        for joined, same in ((False, expected), (True, expected.reshape(1, -1, shape[1]))):
            rows = channel_rows(x, joined)
            np.testing.assert_array_equal(rows, same)
            assert x.size == 0 or np.shares_memory(rows, x)
    with pytest.raises(ValueError, match="not channels-last"):
        channel_rows(np.zeros((2, 3, 4), np.float32))


def test_cost_counts_what_moves():
    x = np.zeros((4, 3, 8, 8), np.float32)
    # training, residual, relu; gradients wanted of the input, the vectors, the residual; arrays moved by forward and backward
    for training, residual, relu, dx, vectors, passed_on, forward, backward in (
        (True, None, True, True, True, False, 3, 5), (True, x, True, True, True, True, 4, 8),
        (True, x, True, True, True, False, 4, 7), (True, x, False, True, True, True, 4, 5),
        (True, None, True, False, True, False, 3, 2), (False, None, True, True, True, False, 2, 5),
        (False, None, True, True, False, False, 2, 3), (False, x, True, False, False, True, 3, 5),
    ):  # fmt: skip
        args = (x, *[None] * 4, training, 0.1, EPS, 3, True, residual, relu)
        cost = BatchNorm.cost(x.shape, *args)
        needs = (dx, vectors, vectors, *[False] * 7, passed_on, False)
        assert (cost.bytes, BatchNorm.backward_cost(cost, needs, *args).bytes) == (forward * x.nbytes, backward * x.nbytes)


def test_native_code_checks_what_it_reads():
    x, y, v, s = (np.zeros(n, np.float32) for n in ((2, 3, 4), (2, 3, 4), 4, 4))
    stat, rows = np.zeros((2, 4)), np.zeros(2)
    good = [x, y, v, v, None, None, stat, stat.copy(), True, 0.1, EPS, x, True, False]
    _core.column_norm(*good)
    for at, bad in ((0, x[:, ::2]), (1, y[:1]), (2, np.zeros(3, np.float32)), (3, v.astype(np.float64)), (4, s), (6, stat[:1]),
                    (6, stat.astype(np.float32)), (7, np.zeros((2, 3))), (8, False), (11, x[:1])):
        with pytest.raises(_core.NativeError):
            _core.column_norm(*good[:at], bad, *good[at + 1 :])
    good = [x, x, v, stat, stat, y, s, s.copy(), True, True, x, v, y.copy()]
    _core.column_norm_backward(*good)
    for at, bad in ((0, x[:1]), (2, v[:3]), (3, stat[:, :3]), (5, y[:, :, :2]), (6, s[:2]), (7, s.astype(np.float64)), (9, False),
                    (10, None), (10, x[:1]), (11, v[:3]), (12, y[:1])):
        with pytest.raises(_core.NativeError):
            _core.column_norm_backward(*good[:at], bad, *good[at + 1 :])
    m = np.zeros((2, 4), np.float32)
    good = [m, m.copy(), v, v, rows, rows.copy(), EPS]
    _core.row_norm(*good)
    for at, bad in ((0, m.T), (1, m[:1]), (2, v[:3]), (4, rows[:1]), (5, None), (5, rows.astype(np.float32))):
        with pytest.raises(_core.NativeError):
            _core.row_norm(*good[:at], bad, *good[at + 1 :])
    with pytest.raises(_core.NativeError):
        _core.local_norm_backward(m, m[:1], m.copy(), 3, 1.0, 1.0, 1.0)
    with pytest.raises(_core.NativeError):
        _core.local_norm(m, m.copy(), 0, 1.0, 1.0, 1.0)
