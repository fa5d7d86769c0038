"""Weights that are generated, tied over depth, shared by two arms, or shared by places: counts, gradients, parity."""

import re

import numpy as np
import pytest

import pydl
from pydl import models, nn


def count(module):
    return sum(p.numel() for p in module.parameters())


# --------------------------------------------------------------------------- hypernetwork


def test_generator_has_the_published_number_of_parameters():
    """Section 4.1: 4,240 parameters in the place of a kernel of 16 x 16 x 7 x 7 = 12,544."""
    assert count(models.KernelGenerator(16, 16, 7, 4, 4)) == 4240
    assert count(models.create("hypernetwork")) == 4240 + (16 * 49 + 16) + (4 + 16) + (784 * 10 + 10)


def test_kernel_by_the_formula():
    """K_i = W_out (W_i z + b_i) + b_out, by loops in float64."""
    g = models.KernelGenerator(3, 2, 5, embedding=4, hidden=6).double()
    for p in g.parameters():
        nn.init.normal_(p)
    z = np.random.default_rng(0).normal(size=(2, 4))
    kernels = g(pydl.tensor(z)).detach().numpy()
    assert kernels.shape == (2, 2, 3, 5, 5)
    w, b, out, shift = (p.detach().numpy() for p in (g.project.weight, g.project.bias, g.out.weight, g.out.bias))
    for u in range(2):
        for i in range(3):
            a = w[6 * i : 6 * i + 6] @ z[u] + b[6 * i : 6 * i + 6]
            np.testing.assert_allclose(kernels[u, :, i], (out @ a + shift).reshape(2, 5, 5), rtol=1e-12, atol=1e-12)


def test_large_kernels_are_tiles_of_small_ones():
    g = models.KernelGenerator(2, 3, 3)
    layer = models.HyperConv2d(g, 4, 9)
    tiles = g(layer.embeddings).detach().numpy()
    weight = layer.weight().detach().numpy()
    assert weight.shape == (9, 4, 3, 3)
    np.testing.assert_array_equal(weight[3:6, 2:4], tiles[3])  # second line, second column
    np.testing.assert_array_equal(weight[6:9, 0:2], tiles[4])
    assert layer(pydl.randn(1, 4, 6, 7)).shape == (1, 9, 6, 7)


def test_layers_share_the_generator_and_its_gradient_is_their_sum():
    pydl.manual_seed(0)
    model = models.HyperNetwork(generated=3).double()
    assert count(model) == count(models.HyperNetwork(generated=1)) + 2 * (4 + 16)
    x = pydl.randn(2, 1, 28, 28, dtype=pydl.float64)

    def loss():
        return (model(x) ** 2).sum()

    loss().backward()
    total = model.generator.out.weight.grad.numpy().copy()
    parts = []
    for layer in model.layers:  # the gradient through one layer, the other two generated without a tape
        others = [o for o in model.layers if o is not layer]
        for other in others:
            constant = other.weight().detach()
            object.__setattr__(other, "weight", lambda w=constant: w)
        model.zero_grad()
        loss().backward()
        parts.append(model.generator.out.weight.grad.numpy().copy())
        for other in others:
            del other.weight
    np.testing.assert_allclose(sum(parts), total, rtol=1e-9, atol=1e-12)
    assert all(np.abs(p).max() > 0 for p in parts)


def test_generated_layers_start_like_hes():
    pydl.manual_seed(0)
    layer = models.HyperConv2d(models.KernelGenerator(16, 16, 7, 64, 64), 64, 64)
    deviation = float(layer.weight().detach().numpy().std())
    assert deviation == pytest.approx((2 / (16 * 49)) ** 0.5, rel=0.15)


# --------------------------------------------------------------------------- tied over depth


@pytest.mark.parametrize("steps", [1, 3])
def test_tied_weights_do_not_grow_and_add_their_gradients(steps):
    pydl.manual_seed(1)
    tied = models.RecursiveConvNet(steps=steps, width=6).double()
    untied = models.RecursiveConvNet(steps=steps, width=6, tied=False).double()
    assert count(tied) == count(models.RecursiveConvNet(steps=1, width=6))
    assert count(untied) == count(tied) + (steps - 1) * (6 * 6 * 9 + 6)
    values = tied.state_dict()
    untied.load_state_dict({k: values[re.sub(r"^inner\.\d+", "inner.0", k)] for k in untied.state_dict()})
    x = pydl.randn(2, 3, 20, 20, dtype=pydl.float64)
    a, b = tied(x), untied(x)
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    (a**2).sum().backward()
    (b**2).sum().backward()
    total = sum(layer.weight.grad.numpy() for layer in untied.inner)
    np.testing.assert_allclose(tied.inner[0].weight.grad.numpy(), total, rtol=1e-10, atol=1e-12)
    assert np.abs(total).max() > 0


# --------------------------------------------------------------------------- two arms


def test_siamese_distance():
    pydl.manual_seed(0)
    model = models.create("siamese", width=4, features=8).eval()
    x, y = pydl.randn(3, 1, 32, 28), pydl.randn(3, 1, 32, 28)
    with pydl.no_grad():
        apart, back, same = (model(*pair).numpy() for pair in ((x, y), (y, x), (x, x)))
        a, b = model.embed(x).numpy(), model.embed(y).numpy()
    np.testing.assert_array_equal(apart, back)
    np.testing.assert_allclose(same, 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(apart, np.linalg.norm(a - b, axis=1), rtol=1e-4)


def test_contrastive_loss_by_hand():
    distance, same = pydl.tensor([0.5, 0.25, 2.0]), pydl.tensor([1.0, 0.0, 0.0])
    assert models.Siamese.contrastive_loss(distance, same).item() == pytest.approx((0.25 + 0.75**2 + 0) / 3)


def test_siamese_learns_to_tell_apart():
    """Two kinds of pictures, bright above or below: pairs of one kind come near, others move away."""
    pydl.manual_seed(0)
    model = models.create("siamese", width=4, features=8)
    optimizer = pydl.optim.Adam(model.parameters(), lr=0.01)
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, (40, 16, 2))
    for kind in kinds:
        images = rng.normal(0, 0.3, (16, 2, 1, 16, 16)).astype(np.float32)
        for i, j in np.ndindex(16, 2):
            images[i, j, 0, 8 * kind[i, j] :][:8] += 1
        optimizer.zero_grad()
        distance = model(*(pydl.from_numpy(np.ascontiguousarray(images[:, j])) for j in (0, 1)))
        same = (kind[:, 0] == kind[:, 1]).astype(np.float32)
        model.contrastive_loss(distance, pydl.from_numpy(same)).backward()
        optimizer.step()
    d = distance.detach().numpy()
    assert d[same == 1].max() < d[same == 0].min()


# --------------------------------------------------------------------------- LeCun 1989


@pytest.mark.parametrize(
    ("net", "connections", "parameters"), [(1, 2570, 2570), (2, 3214, 3214), (3, 1226, 1226), (4, 2266, 1132), (5, 5194, 1060)]
)
def test_connections_and_parameters_of_the_report(net, connections, parameters):
    model = models.LeCun1989(net)
    assert (model.connections(), count(model)) == (connections, parameters)
    assert model(pydl.zeros(2, 1, 16, 16)).shape == (2, 10)


def test_local_connections_of_net_3():
    """Each unit of the first layer sees nine pixels; units with equal filters make it a convolution."""
    model = models.LeCun1989(3).double()
    first = model[0]
    x = pydl.rand(1, 1, 16, 16, dtype=pydl.float64).requires_grad_()
    first(x)[0, 0, 2, 5].backward()
    rows, columns = np.nonzero(x.grad.numpy()[0, 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 9, 11)
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3))
    first.weight.data[...] = kernel
    nn.init.zeros_(first.bias)
    convolved = pydl.conv2d(x, pydl.tensor(kernel), stride=2, padding=1)
    np.testing.assert_allclose(first(x).detach().numpy(), convolved.detach().numpy(), rtol=1e-12, atol=1e-12)
