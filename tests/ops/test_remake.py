"""Outputs that are made again in backward instead of kept: same gradients, less memory, the tape's promises still hold."""

import gc

import numpy as np
import pytest
from records import ISAS, instruction_set

import pydl
from pydl import _core, nn
from pydl.autograd import grad
from pydl.errors import GraphError


def draw(*shape, seed=0):
    return pydl.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def layers(relu):
    """Normalisation and ReLU in one pass (made again) or one after the other (the result of ReLU is kept)."""

    def run(x, w, b, kernel):
        y = pydl.batch_norm(x, None, None, w, b, training=True, relu=relu)
        y = y if relu else pydl.relu(y)
        z = pydl.conv2d(y, kernel, padding=1)
        return pydl.conv2d(z, kernel).square().sum()

    return run


def operands():
    return [t.requires_grad_() for t in (draw(4, 16, 30, 31), draw(16, seed=1), draw(16, seed=2), draw(16, 16, 3, 3, seed=3))]


def test_gradients_are_those_of_kept_outputs():
    found = []
    for relu in (True, False):
        arguments = operands()
        layers(relu)(*arguments).backward()
        found.append([a.grad.numpy() for a in arguments])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_the_output_is_not_kept():
    x, w, b, kernel = operands()
    held = []
    for relu in (True, False):
        gc.collect()
        before = pydl.memory.current()
        out = layers(relu)(x, w, b, kernel)
        held.append(pydl.memory.current() - before)
        del out
    assert held[0] <= held[1] - x.data.nbytes + 10_000


def test_backward_twice_and_what_others_hold():
    found = []
    for times in (1, 2):
        x, w, b, kernel = operands()
        y = pydl.batch_norm(x, None, None, w, b, training=True, relu=True)
        z = pydl.conv2d(y, kernel).square().sum()
        if times == 2:
            del y
            z.backward(retain_graph=True)
        z.backward()
        found.append([t.grad.numpy() / times for t in (x, w, b, kernel)])
        with pytest.raises(GraphError, match="second time"):
            z.backward()
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("through_view", [False, True])
def test_a_change_in_place_is_noticed(through_view):
    x, w, b, kernel = operands()
    y = pydl.batch_norm(x, None, None, w, b, training=True, relu=True)
    view = y.detach()[0] if through_view else y.detach()
    z = pydl.conv2d(y, kernel).sum()
    with pydl.no_grad():
        view.add_(1.0)
    with pytest.raises(GraphError, match="changed in place"):
        z.backward()


def test_what_was_changed_before_is_kept_as_it_is():
    x, w, b, kernel = operands()
    y = pydl.batch_norm(x, None, None, w, b, training=True, relu=True)
    with pydl.no_grad():
        y.detach().add_(1.0)
    changed = y.detach().numpy().copy()
    pydl.conv2d(y, kernel).sum().backward()
    expected = pydl.from_numpy(changed)
    other = kernel.detach().clone().requires_grad_()
    pydl.conv2d(expected, other).sum().backward()
    np.testing.assert_array_equal(kernel.grad.numpy(), other.grad.numpy())


def test_second_derivatives_go_through_what_is_made_again():
    def penalty(relu):
        x = draw(4, 16, 20, 20).requires_grad_()
        w = draw(16, seed=4).requires_grad_()
        y = pydl.batch_norm(x, None, None, w, None, training=True, relu=relu)
        y = (y if relu else pydl.relu(y)).square().sum()
        (g,) = grad(y, [x], create_graph=True)
        g.square().sum().backward()
        return x.grad.numpy(), w.grad.numpy()

    for a, b in zip(penalty(True), penalty(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [5, 64, 200])
def test_the_mask_agrees_with_the_output_to_the_last_bit(isa, dtype, channels):
    """x w + b is chosen to round to 0, so that only the bits beyond rounding decide what is positive."""
    rng = np.random.default_rng(0)
    weight, value = rng.normal(size=channels).astype(dtype), rng.normal(size=channels).astype(dtype)
    x = np.broadcast_to(value[None, :, None], (3, channels, 50)).copy()
    with instruction_set(isa):
        t = [pydl.from_numpy(v).requires_grad_() for v in (x, weight, -(value * weight))]
        zeros, ones = (pydl.from_numpy(np.full(channels, v, dtype)) for v in (0, 1))
        y = pydl.batch_norm(t[0], zeros, ones, *t[1:], training=False, eps=0.0, relu=True)
        y.sum().backward()
    positive = y.detach().numpy() > 0
    np.testing.assert_array_equal(t[0].grad.numpy() != 0, positive)
    np.testing.assert_array_equal(t[2].grad.numpy(), positive.sum((0, 2)))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1, dilation=1, ceil_mode=True)])
@pytest.mark.parametrize("before", [nn.Conv2d(3, 8, 3), nn.Identity()])
def test_relu_behind_pooling_changes_no_bit(pool, before):
    x = np.round(np.random.default_rng(0).normal(size=(2, 3, 15, 17)) * 2).astype(np.float32)  # many equal values
    x[0, 0, 3, 4] = np.nan
    found = []
    for one_by_one in (False, True):
        model = nn.Sequential(before, nn.ReLU(), pool)
        handle = model[1].register_forward_hook(lambda *_: None) if one_by_one else None
        t = pydl.from_numpy(x.copy()).requires_grad_()
        y = model(t)
        (y * pydl.arange(y.data.size, dtype=pydl.float32).reshape(y.shape)).nansum().backward()
        found.append([y.detach().numpy(), t.grad.numpy()])
        if handle:
            handle.remove()
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_large_result_is_not_kept_for_relu():
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    x = draw(2, 3, 64, 64)
    model(x)
    before = pydl.memory.current()
    y = model(x)
    large = 2 * 32 * 64 * 64 * 4
    assert pydl.memory.current() - before < large
    assert y.shape == (2, 32, 32, 32)


def test_native_code_takes_known_statistics():
    x = np.random.default_rng(0).normal(size=(1, 50, 7)).astype(np.float32)
    mean, rstd, first, again = np.zeros((1, 7)), np.zeros((1, 7)), np.empty_like(x), np.empty_like(x)
    _core.column_norm(x, first, None, None, None, None, mean, rstd, True, 0.1, 1e-5, None, True, False)
    for s in (mean, rstd):
        s.flags.writeable = False
    _core.column_norm(x, again, None, None, None, None, mean, rstd, False, 0.1, 1e-5, None, True, True)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("residual", [False, True])
def test_gradients_that_others_hold_are_not_written_to(residual):
    """The memory of a gradient serves again; hooks, retained gradients and targets still see what was there."""
    found = []
    for watched in (False, True):
        x, w, b, kernel = operands()
        r = draw(4, 16, 30, 31, seed=5).requires_grad_() if residual else None
        y = pydl.batch_norm(x, None, None, w, b, training=True, residual=r, relu=True)
        seen = []
        if watched:
            y.retain_grad()
            y.register_hook(lambda g, seen=seen: seen.append((g, g.numpy().copy())))
        pydl.conv2d(y, kernel).square().sum().backward()
        for g, before in seen:
            np.testing.assert_array_equal(g.numpy(), before)
            np.testing.assert_array_equal(y.grad.numpy(), before)
        found.append([t.grad.numpy() for t in (x, w, b, kernel, *([r] if residual else []))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
