"""Convolution with batch norm by running statistics, residual and ReLU in one pass, beside float64 sums and the layers apart."""

import copy

import numpy as np
import pytest
from records import ISAS, instruction_set, threads
from test_conv_relu import PATHS

import pydl
from pydl import nn
from pydl.errors import DTypeError, GraphError, ShapeError
from pydl.graph.engine import set_observer
from pydl.models.registry import create

CONVS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
NORMS = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def layers(x, w, options, bias, dtype=np.float32):
    rng = np.random.default_rng(sum(x) + sum(w))
    groups = options.get("groups", 1)
    conv = CONVS[len(x)](x[1], w[0], w[2:], bias=bias, **options).to(dtype=dtype)
    norm = NORMS[len(x)](w[0], eps=1e-3).to(dtype=dtype).eval()
    assert conv.weight.shape == w
    assert x[1] == w[1] * groups
    norm.weight.data[...] = rng.uniform(-2, 2, w[0])
    for t in (norm.bias, norm.running_mean):
        t.data[...] = rng.normal(size=w[0]) / 4
    norm.running_var.data[...] = rng.uniform(0.5, 2, w[0])
    return conv, norm, pydl.from_numpy(rng.normal(size=x).astype(dtype))


def exact(conv, norm, x, residual, relu):
    """In float64, by the layers' own formula on a convolution that is checked elsewhere."""
    wide = copy.deepcopy(conv).to(dtype=np.float64)
    with pydl.no_grad():
        y = wide(x.to(pydl.float64)).numpy()
    along = (slice(None), *(None,) * (y.ndim - 2))
    mean, var, weight, bias = (t.detach().numpy().astype(np.float64)[along] for t in (
        norm.running_mean, norm.running_var, norm.weight, norm.bias))
    y = (y - mean) / np.sqrt(var + norm.eps) * weight + bias + (0 if residual is None else residual.numpy())
    return np.maximum(y, 0) if relu else y


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("path", PATHS)
def test_each_kernel(path, isa):
    x, w, options = PATHS[path]
    for dtype, tolerance in ((np.float32, 5e-6), (np.float64, 1e-14)):
        for bias in (False, True):
            conv, norm, input = layers(x, w, options, bias, dtype)
            with instruction_set(isa), pydl.no_grad():
                shape = conv(input).shape
                residual = pydl.from_numpy(np.random.default_rng(1).normal(size=shape).astype(dtype))
                for r in (None, residual):
                    for act in (None, nn.ReLU()):
                        found = nn.conv_norm_act(conv, norm, act, input, r).numpy()
                        expected = exact(conv, norm, input, r, act is not None)
                        assert found.dtype == dtype
                        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)
                        assert np.mean(expected == 0) < 0.8


def test_same_bits_for_any_number_of_threads():
    for path in ("direct", "gemm", "winograd", "1x1", "depthwise"):
        conv, norm, x = layers(*PATHS[path], False)
        with pydl.no_grad():
            found = []
            for n in (1, 4):
                with threads(n):
                    found.append(nn.conv_norm_act(conv, norm, nn.ReLU(), x).numpy())
        np.testing.assert_array_equal(*found)


def operations(function):
    """Names of the operations that run."""
    seen = []

    def observe(op, ctx, arrays):
        seen.append(op.name)
        return op.forward(ctx, *arrays)

    previous = set_observer(observe)
    try:
        function()
    finally:
        set_observer(previous)
    return seen


def test_sequential_folds_only_what_nobody_can_tell_apart():
    conv, norm, x = layers(*PATHS["gemm"], True)
    model = nn.Sequential(conv, norm, nn.ReLU(), nn.MaxPool2d(2)).eval()
    before = {n: t.numpy().copy() for n, t in model.state_dict().items()}
    with pydl.no_grad():
        assert operations(lambda: model(x)) == ["conv_norm", "max_pool"]
        assert operations(lambda: model[:2](x)) == ["conv_norm"]
        assert operations(lambda: nn.Sequential(conv, norm, nn.Tanh())(x)) == ["conv_norm", "tanh"]
        model.train()
        assert operations(lambda: model(x)) == ["conv", "batch_norm", "max_pool"]
        model.eval()
        model.load_state_dict({n: pydl.from_numpy(v) for n, v in before.items()})
        handle = norm.register_forward_hook(lambda *_: None)
        assert operations(lambda: model(x)) == ["conv", "batch_norm", "max_pool", "relu"]
        handle.remove()
    assert operations(lambda: model(x)) == ["conv", "batch_norm", "max_pool"]  # gradients are wanted
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


NETWORKS = ["resnet18", "resnet50", "googlenet", "densenet121", "mobilenet_v1", "efficientnet_lite0", "unet"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_what_they_give_with_gradients(name):
    """Recording a graph, each layer runs by itself."""
    pydl.manual_seed(0)
    model = create(name).eval()
    rng = np.random.default_rng(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.data[...] = rng.uniform(0.8, 1.2, module.num_features)
            module.running_mean.data[...] = rng.normal(0, 0.1, module.num_features)
    x = pydl.from_numpy(rng.normal(size=(1, model_channels(model), 64, 64)).astype(np.float32))
    apart = model(x).detach().numpy()
    with pydl.no_grad():
        names = operations(lambda: model(x))
        found = model(x).numpy()
    assert "conv_norm" in names
    if name.startswith("resnet"):
        assert "batch_norm" not in names
    assert np.linalg.norm(found - apart) <= 2e-5 * np.linalg.norm(apart)


def model_channels(model):
    return next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels


def test_a_captured_step_sees_a_changed_norm():
    conv, norm, x = layers(*PATHS["gemm"], True)

    @pydl.capture
    def step(x):
        with pydl.no_grad():
            return nn.conv_norm_act(conv, norm, nn.ReLU(), x)

    for _ in range(4):
        first = step(x).numpy()
    assert step.replays
    norm.running_mean.add_(1.0)
    with pytest.warns(UserWarning, match="recorded anew"):
        second = step(x).numpy()
    assert np.abs(first - second).max() > 0.1
    for _ in range(4):
        np.testing.assert_array_equal(step(x).numpy(), second)


def test_refusals():
    conv, norm, x = layers(*PATHS["gemm"], True)
    vectors = norm.running_mean, norm.running_var
    rest = (conv.stride, conv.padding, conv.dilation, conv.groups)
    with pytest.raises(GraphError, match=r"\[conv_norm\] has no gradient"):
        pydl.ops.conv_norm(x, conv.weight, conv.bias, *rest, *vectors)
    with pydl.no_grad():
        with pytest.raises(ShapeError, match=r"\[conv_norm\] running_var of shape \(3,\); expected \(19,\)"):
            pydl.ops.conv_norm(x, conv.weight, conv.bias, *rest, norm.running_mean, pydl.ones(3))
        with pytest.raises(ShapeError, match=r"\[conv_norm\] residual of shape \(2, 19, 1, 1\)"):
            pydl.ops.conv_norm(x, conv.weight, conv.bias, *rest, *vectors, residual=pydl.ones(2, 19, 1, 1))
        with pytest.raises(DTypeError, match=r"\[conv_norm\].*norm_bias float64"):
            pydl.ops.conv_norm(x, conv.weight, conv.bias, *rest, *vectors, None, pydl.zeros(19, dtype=np.float64))
