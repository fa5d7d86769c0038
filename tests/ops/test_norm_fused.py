"""Batch norm with residual and ReLU in one pass: records, and the same values as the operations one after the other."""

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records

import pydl
from pydl import nn
from pydl.errors import ShapeError
from pydl.models.registry import create


def reference(x, w, b, r=None, relu=True):
    if x.size == 0:
        return x
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *(1,) * (x.ndim - 2))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) * w.reshape(shape) + b.reshape(shape)
    y = y if r is None else y + r
    return np.maximum(y, 0) if relu else y


def fused(x, w, b, r=None, relu=True):
    return pydl.batch_norm(x, None, None, w, b, training=True, residual=r, relu=relu)


def channels(c):
    return draw(c, low=0.5), draw(c)


RECORDS = [
    OpRecord("batch_norm_relu", fused, reference, (draw(4, 5, 3, 2), *channels(5)), rtol=1e-5,
             large=(draw(30, 19, 15, 17), *channels(19)), zero_size=(draw(2, 3, 0), *channels(3)), double_backward=True),
    OpRecord("batch_norm_residual_relu", fused, reference, (draw(3, 6, 5), *channels(6), draw(3, 6, 5)), rtol=1e-5,
             large=(draw(9, 6, 9999), *channels(6), draw(9, 6, 9999)), double_backward=True,
             errors=[(lambda: fused(pydl.zeros(2, 3), None, None, pydl.zeros(2, 1)), ShapeError,
                      r"residual of shape \(2, 1\); expected \(2, 3\)")]),
    OpRecord("batch_norm_residual", lambda *a: fused(*a, relu=False), lambda *a: reference(*a, relu=False),
             (draw(7, 20), *channels(20), draw(7, 20)), rtol=1e-5),
]
test_ops = run_records(RECORDS)


def results(build, x, hooked):
    """Output and gradients of a model in training, with a hook on each layer or on none."""
    pydl.manual_seed(0)
    model = build()
    seen = []
    if hooked:
        for name, layer in model.named_modules():
            layer.register_forward_hook(lambda m, a, y, name=name: seen.append((name, y.detach().numpy().copy())))
    x = pydl.from_numpy(x.copy()).requires_grad_()
    y = model(x)
    (y * y).sum().backward()
    state = [v.numpy() for v in model.state_dict().values()]
    return [y.detach().numpy(), *state], [x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())], dict(seen)


def small():
    # Without bias: its gradient before a batch norm is nothing but rounding.
    return nn.Sequential(nn.Conv2d(3, 9, 3, bias=False), nn.BatchNorm2d(9), nn.ReLU(), nn.Conv2d(9, 5, 3, bias=False),
                         nn.BatchNorm2d(5), nn.ReLU())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("build", [small, lambda: create("resnet18", width=8, num_classes=5, small_stem=True)])
def test_layers_compute_the_same_with_and_without_hooks(build, isa):
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    with instruction_set(isa):
        values, gradients, seen = results(build, x, hooked=True)
        fused_values, fused_gradients, _ = results(build, x, hooked=False)
    for a, b in zip(values, fused_values, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(gradients, fused_gradients, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max() + 1e-6)
    assert any((y < 0).any() for y in seen.values())  # hooks see what ReLU has not touched


def test_a_hook_on_the_activation_sees_its_input():
    model = small()
    seen = []
    model[2].register_forward_pre_hook(lambda m, args: seen.append(args[0].detach().numpy().min()))
    model(pydl.randn(2, 3, 8, 8))
    assert seen[0] < 0


def test_not_a_number_passes():
    x = pydl.tensor([[1.0, 2.0], [3.0, float("nan")]])
    y = fused(x, None, None)
    assert np.isnan(y.numpy()[:, 1]).all()
    assert np.isfinite(y.numpy()[:, 0]).all()


def test_no_gradient_for_the_input_only_for_the_residual():
    x, r = pydl.randn(4, 3), pydl.randn(4, 3, requires_grad=True)
    y = fused(x, None, None, r)
    y.sum().backward()
    np.testing.assert_array_equal(r.grad.numpy(), (y.detach().numpy() > 0).astype(np.float32))


def test_evaluation_uses_the_running_statistics():
    norm, x, r = nn.BatchNorm2d(7), pydl.randn(3, 7, 5, 4), pydl.randn(3, 7, 5, 4)
    norm(pydl.randn(8, 7, 5, 4) * 3 + 1)
    norm.eval()
    np.testing.assert_array_equal(nn.norm_act(norm, nn.ReLU(), x, r).detach().numpy(),
                                  pydl.relu(norm(x) + r).detach().numpy())
