"""A linear layer and ReLU in one pass: the bits of one after the other, forward and backward, and twice differentiable."""

import numpy as np
import pytest
from records import ISAS, instruction_set, threads

import pydl
from pydl import nn

# rows, inputs, outputs: few rows by dots and by panels, tails, several passes over K, one block, nothing at all
SHAPES = [(5, 300, 311), (21, 300, 311), (33, 40, 37), (70, 800, 65), (1, 3, 2), (2, 0, 4), (0, 3, 4)]


def tensors(m, k, n, dtype=np.float32):
    rng = np.random.default_rng(m + 10 * k + 100 * n)
    return [pydl.from_numpy(rng.normal(size=s).astype(dtype)).requires_grad_() for s in ((m, k), (n, k), (n,))]


def both(m, k, n, bias=True, dtype=np.float32):
    results = []
    for fused in (False, True):
        x, w, b = tensors(m, k, n, dtype)
        args = (x, w, b) if bias else (x, w)
        y = pydl.linear(*args, relu=True) if fused else pydl.relu(pydl.linear(*args))
        y.backward(pydl.from_numpy(np.random.default_rng(0).normal(size=y.shape).astype(dtype)))
        results.append([y.detach().numpy(), *(t.grad.numpy() for t in args)])
    return results


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_as_one_after_the_other(shape, isa):
    with instruction_set(isa):
        first, second = both(*shape)
        same(first, second)
        if first[0].size > 100:
            assert 0.2 < np.mean(first[0] == 0) < 0.8
        same(*both(*shape, bias=False))
        same(*both(*shape, dtype=np.float64))


def test_same_bits_for_every_number_of_threads():
    results = []
    for count in (1, 2, 5):
        with threads(count):
            results.append(both(300, 700, 130)[1])
    same(results[0], results[1])
    same(results[0], results[2])


def test_nan_stays():
    y = pydl.linear(pydl.tensor([[float("nan"), 1.0]]), pydl.tensor([[1.0, 1.0]]), relu=True)
    assert np.isnan(y.numpy()).all()


def test_gradients_of_gradients():
    grads = []
    for fused in (False, True):
        x, w, b = tensors(6, 5, 4, np.float64)
        y = pydl.linear(x, w, b, relu=True) if fused else pydl.relu(pydl.linear(x, w, b))
        (dx,) = pydl.autograd.grad((y * y).sum(), [x], create_graph=True)
        (dx * dx).sum().backward()
        grads.append([t.grad.numpy() for t in (x, w, b)])
    for a, c in zip(*grads, strict=True):
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(a, c, rtol=1e-12)


def test_gradients_by_differences():
    x, w, b = tensors(4, 3, 5, np.float64)
    assert pydl.autograd.gradcheck(lambda *t: pydl.linear(*t, relu=True), (x, w, b))


def names(y):
    """The operations behind a result, the last one first."""
    found, node = [], y.node
    while node is not None and not isinstance(node, pydl.Tensor):
        found.append(node.name)
        node = next((n for n in node.next_nodes if not (n is None or isinstance(n, pydl.Tensor))), None)
    return found


def test_sequential_fuses_and_hooks_see_the_values_between():
    x = pydl.randn(3, 4, requires_grad=True)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    assert names(model(x)) == ["linear", "linear"]
    fused = model(x).detach().numpy()
    seen = []
    handle = model[0].register_forward_hook(lambda module, args, out: seen.append(out))
    assert "relu" in names(model(x))
    np.testing.assert_array_equal(model(x).detach().numpy(), fused)
    assert (seen[0].detach().numpy() < 0).any()
    handle.remove()
    assert names(model(x)) == ["linear", "linear"]


class Shifted(nn.Linear):
    def forward(self, input):
        return super().forward(input) + 1


def test_subclasses_are_called():
    model = nn.Sequential(Shifted(4, 5), nn.ReLU())
    assert names(model(pydl.randn(3, 4, requires_grad=True)))[:2] == ["relu", "add"]


def test_transformer_layer_keeps_its_bits():
    pydl.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0)
    x = pydl.randn(5, 3, 16)
    results = []
    for activation in (pydl.relu, lambda t: pydl.relu(t)):
        layer.activation = activation
        layer.zero_grad()
        y = layer(x)
        (y * y * y).sum().backward()
        results.append([y.detach().numpy(), *(p.grad.numpy() for p in layer.parameters())])
    same(*results)
