"""Convolution and ReLU in one pass: the bits of one after the other, on every path, forward and backward."""

import numpy as np
import pytest
from records import ISAS, instruction_set, threads

import pydl
from pydl import _core, nn
from pydl.models.registry import create

# input, weight, options: each kernel that writes results, with tails; more than one block of the sum.
PATHS = {
    "direct": ((2, 3, 17, 15), (21, 3, 5, 5), {"stride": 2, "padding": 2}),
    "direct, 1-d": ((4, 2, 33), (15, 2, 3), {}),
    "1x1": ((2, 40, 9, 7), (37, 40, 1, 1), {}),
    "1x1, stride 2": ((2, 300, 9, 7), (20, 300, 1, 1), {"stride": 2}),
    "gemm": ((2, 33, 9, 10), (19, 33, 3, 3), {"stride": 2, "padding": 1}),
    "gemm, 3-d": ((1, 17, 5, 6, 7), (9, 17, 3, 2, 3), {"padding": 1}),
    "groups": ((2, 36, 8, 9), (40, 18, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 19, 12, 11), (19, 1, 3, 3), {"groups": 19, "padding": 1}),
    "winograd": ((2, 48, 13, 15), (35, 48, 3, 3), {"padding": 1}),
    "dilated": ((1, 20, 12, 12), (3, 20, 3, 3), {"dilation": 2}),
}


def tensors(x, w, dtype=np.float32):
    rng = np.random.default_rng(sum(x) + sum(w))
    return [pydl.from_numpy(rng.normal(size=s).astype(dtype)).requires_grad_() for s in (x, w, w[:1])]


def both(x, w, options, bias=True, dtype=np.float32):
    """[output, gradients...] of the two operations, and of the one."""
    function = getattr(pydl, f"conv{len(x) - 2}d")
    results = []
    for fused in (False, True):
        args = tensors(x, w, dtype)[: 3 if bias else 2]
        y = function(*args, **options, relu=True) if fused else pydl.relu(function(*args, **options))
        y.backward(pydl.from_numpy(np.random.default_rng(0).normal(size=y.shape).astype(dtype)))
        results.append([y.detach().numpy(), *(t.grad.numpy() for t in args)])
    return results


def check(first, second):
    for name, a, b in zip(("output", "input", "weight", "bias"), first, second, strict=False):
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b), err_msg=name)
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert len(first) == len(second)
    assert 0.2 < np.mean(first[0] == 0) < 0.8


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("path", PATHS)
def test_same_bits_as_one_after_the_other(path, isa):
    x, w, options = PATHS[path]
    with instruction_set(isa):
        check(*both(x, w, options))
        check(*both(x, w, options, bias=False))
        check(*both(x, w, options, dtype=np.float64))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("method", ["gemm", "winograd2", "winograd4"])
def test_each_method(method, isa):
    _core.set_conv_method(method)
    try:
        with instruction_set(isa):
            check(*both((1, 35, 9, 11), (34, 35, 3, 3), {"padding": 1}))
            check(*both((1, 300, 5, 4), (130, 300, 3, 3), {"padding": 1}))  # panels, two blocks of the sum
    finally:
        _core.set_conv_method("automatic")


@pytest.mark.parametrize("size", [(1, 20, 1, 1), (1, 20, 16, 16), (1, 20, 16, 17), (3, 20, 40, 41)])
def test_bias_gradient_over_pieces(size):
    check(*both(size, (67, 20, 1, 1), {}))


def test_same_bits_for_every_number_of_threads():
    results = []
    for count in (1, 2, 5):
        with threads(count):
            results.append(both((3, 20, 40, 41), (67, 20, 1, 1), {})[1])
    for other in results[1:]:
        check(results[0], other)


def test_values_by_the_definition():
    x, w, b = tensors((2, 20, 8, 8), (7, 20, 3, 3), np.float64)
    y = pydl.conv2d(x, w, b, relu=True)
    windows = np.lib.stride_tricks.sliding_window_view(x.detach().numpy(), (3, 3), (2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, w.detach().numpy()) + b.detach().numpy()[:, None, None]
    np.testing.assert_allclose(y.detach().numpy(), np.maximum(expected, 0), atol=1e-12)
    g = np.random.default_rng(0).normal(size=y.shape)
    y.backward(pydl.from_numpy(g))
    g = g * (expected > 0)
    np.testing.assert_allclose(w.grad.numpy(), np.einsum("nchwij,nohw->ocij", windows, g), atol=1e-12)
    np.testing.assert_allclose(b.grad.numpy(), g.sum((0, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("path", ["direct", "1x1", "gemm", "depthwise"])
def test_not_a_number_passes(path):
    x, w, options = PATHS[path]
    a, k, b = tensors(x, w)
    a.data[0, :, 4, 4] = np.nan
    y = getattr(pydl, f"conv{len(x) - 2}d")(a, k, b, **options, relu=True)
    plain = pydl.relu(getattr(pydl, f"conv{len(x) - 2}d")(a, k, b, **options))
    assert np.isnan(y.detach().numpy()).any()
    np.testing.assert_array_equal(y.detach().numpy(), plain.detach().numpy())


def test_no_pixels_and_no_channels():
    w, b = pydl.zeros(4, 20, 3, 3, requires_grad=True), pydl.zeros(4, requires_grad=True)
    y = pydl.conv2d(pydl.zeros(0, 20, 5, 5), w, b, relu=True)
    y.sum().backward()
    assert y.shape == (0, 4, 3, 3)
    np.testing.assert_array_equal(b.grad.numpy(), 0)
    y = pydl.conv2d(pydl.zeros(1, 0, 5, 5), pydl.zeros(2, 0, 3, 3), pydl.tensor([-1.0, 2.0]), relu=True)
    np.testing.assert_array_equal(y.numpy()[0, :, 0, 0], [0, 2])


def test_a_changed_output_is_noticed():
    x, w, b = tensors((1, 3, 5, 5), (4, 3, 3, 3))
    y = pydl.conv2d(x, w, b, relu=True)
    with pydl.no_grad():
        y.mul_(2)
    with pytest.raises(pydl.errors.GraphError, match="changed in place"):
        y.sum().backward()


def run(build, x, hooked):
    """Output and gradients, with a hook on each layer or on none."""
    pydl.manual_seed(0)
    model, seen = build(), []
    if hooked:
        for layer in model.modules():
            layer.register_forward_hook(lambda m, a, y: seen.append(y.detach().numpy().min()))
    x = pydl.from_numpy(x.copy()).requires_grad_()
    y = model(x)
    (y * y).sum().backward()
    return [y.detach().numpy(), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())], seen


def small():
    first, second = nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(20, 18, 3)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(18, 5, 1))


@pytest.mark.parametrize("build", [small, lambda: create("vgg11", width=8, num_classes=5)], ids=["small", "vgg11"])
def test_layers_compute_the_same_with_and_without_hooks(build):
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    plain, seen = run(build, x, hooked=True)
    fused, _ = run(build, x, hooked=False)
    assert min(seen[:-1]) < 0  # hooks see what ReLU has not touched
    for a, b in zip(plain, fused, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_node_for_both():
    conv, relu, x = nn.Conv2d(3, 20, 3), nn.ReLU(), pydl.randn(1, 3, 8, 8)
    assert nn.conv_act(conv, relu, x).node.name == "conv"
    assert nn.Sequential(conv, relu)(x).node.name == "conv"
    handle = relu.register_forward_pre_hook(lambda m, args: None)
    assert nn.conv_act(conv, relu, x).node.name == "relu"
    handle.remove()
    assert nn.conv_act(conv, nn.Tanh(), x).node.name == "tanh"
