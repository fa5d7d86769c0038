"""Losses, sampling of images, reparametrised weights, lazy layers and derivatives as tensors, beside PyTorch."""

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
rng = np.random.default_rng(5)


def pair(array):
    return pydl.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)


def check(own, peer, *pairs, rtol=1e-9):
    np.testing.assert_allclose(own.detach().numpy(), peer.detach().numpy(), rtol=rtol, atol=1e-12)
    weights = rng.uniform(0.5, 1.5, own.shape)
    (own * pydl.tensor(weights)).sum().backward()
    (peer * torch.tensor(weights)).sum().backward()
    for a, b in pairs:
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=rtol, atol=1e-10)


# --------------------------------------------------------------------------- losses


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction):
    x, y, z = (pair(rng.standard_normal((4, 5))) for _ in range(3))
    target = np.array([[3, 0, -1, 1, 2], [0, 1, 2, 3, 4], [-1, 0, 0, 0, 0], [2, -1, 2, -1, 2]])
    own = F.multilabel_margin_loss(x[0], pydl.tensor(target), reduction=reduction)
    check(own, TF.multilabel_margin_loss(x[1], torch.tensor(target), reduction=reduction), x)
    hot, weight = (target > 0).astype(float), rng.random(5)
    own = F.multilabel_soft_margin_loss(y[0], pydl.tensor(hot), pydl.tensor(weight), reduction=reduction)
    peer = TF.multilabel_soft_margin_loss(y[1], torch.tensor(hot), torch.tensor(weight), reduction=reduction)
    check(own, peer, y)
    x, y = pair(rng.standard_normal((4, 5))), pair(rng.standard_normal((4, 5)))
    own = F.triplet_margin_with_distance_loss(x[0], y[0], z[0], margin=0.7, swap=True, reduction=reduction)
    peer = TF.triplet_margin_with_distance_loss(x[1], y[1], z[1], margin=0.7, swap=True, reduction=reduction)
    check(own, peer, x, y, z)
    x, y = pair(rng.standard_normal((4, 5))), pair(rng.standard_normal((4, 5)))
    check(nn.PairwiseDistance(3.0, keepdim=True)(x[0], y[0]), torch.nn.PairwiseDistance(3.0, keepdim=True)(x[1], y[1]), x, y)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("joined", [False, True])
def test_ctc(reduction, joined):
    """Unequal lengths, repeated labels, an empty target, and one that is too long for its input."""
    lengths, sizes = np.array([7, 5, 3, 2, 7]), np.array([3, 4, 0, 3, 1])
    labels = rng.integers(1, 6, (5, 4))
    labels[0, :3] = 2
    given = np.concatenate([row[:n] for row, n in zip(labels, sizes, strict=True)]) if joined else labels
    x = pair(rng.standard_normal((7, 5, 6)))
    own = F.ctc_loss(F.log_softmax(x[0], 2), pydl.tensor(given), lengths.tolist(), pydl.tensor(sizes), 0, reduction, True)
    peer = TF.ctc_loss(TF.log_softmax(x[1], 2), *map(torch.tensor, (given, lengths, sizes)), 0, reduction, True)
    check(own, peer, x)
    x = pair(rng.standard_normal((6, 4)))
    own = nn.CTCLoss(3)(F.log_softmax(x[0], 1), pydl.tensor([1, 1, 0]), 6, 3)
    peer = torch.nn.CTCLoss(3)(TF.log_softmax(x[1], 1), torch.tensor([1, 1, 0]), torch.tensor(6), torch.tensor(3))
    check(own, peer, x)


# --------------------------------------------------------------------------- images at any places


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [False, True])
def test_grid_sample(mode, padding, align):
    x, grid = pair(rng.standard_normal((2, 3, 5, 6))), pair(rng.uniform(-1.9, 1.9, (2, 4, 7, 2)))
    own, peer = (m.grid_sample(a, g, mode, padding, align) for m, a, g in ((F, x[0], grid[0]), (TF, x[1], grid[1])))
    np.testing.assert_allclose(own.detach().numpy(), peer.detach().numpy(), rtol=1e-9, atol=1e-12)
    check(own, peer, x, *([grid] if mode == "bilinear" else []))
    theta = pair(rng.standard_normal((2, 2, 3)))
    check(F.affine_grid(theta[0], (2, 3, 4, 5), align), TF.affine_grid(theta[1], (2, 3, 4, 5), align), theta)


def test_identity_grid_changes_nothing():
    x = pydl.tensor(rng.standard_normal((1, 2, 4, 5)))
    theta = pydl.tensor(np.array([[[1.0, 0, 0], [0, 1, 0]]]))
    np.testing.assert_allclose(F.grid_sample(x, F.affine_grid(theta, x.shape)).numpy(), x.numpy(), atol=1e-12)


# --------------------------------------------------------------------------- weights


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(dim):
    own, peer = nn.Linear(5, 4).double(), torch.nn.Linear(5, 4).double()
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in own.state_dict().items()})
    nn.utils.weight_norm(own, dim=dim)
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(peer, dim=dim)
    assert set(own.state_dict()) == set(peer.state_dict())
    x = pair(rng.standard_normal((3, 5)))
    check(own(x[0]), peer(x[1]), x)
    for name, p in own.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), peer.get_parameter(name).grad.numpy(), rtol=1e-9, atol=1e-12)
    before = own(x[0]).detach().numpy()
    nn.utils.remove_weight_norm(own)
    assert {n for n, _ in own.named_parameters()} == {"weight", "bias"}
    np.testing.assert_allclose(own(x[0]).detach().numpy(), before, rtol=1e-12)
    with pytest.raises(pydl.errors.ArgumentError, match="Linear has no weight_norm of 'weight'"):
        nn.utils.remove_weight_norm(own)


@pytest.mark.parametrize("transposed", [False, True])
def test_spectral_norm(transposed):
    kind = "ConvTranspose2d" if transposed else "Conv2d"
    own, peer = getattr(nn, kind)(3, 4, 2).double(), getattr(torch.nn, kind)(3, 4, 2).double()
    nn.utils.spectral_norm(own, n_power_iterations=2)
    torch.nn.utils.spectral_norm(peer, n_power_iterations=2)
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in own.state_dict().items()})
    x = pair(rng.standard_normal((2, 3, 5, 5)))
    for _ in range(3):
        with pydl.no_grad(), torch.no_grad():
            np.testing.assert_allclose(own(x[0]).numpy(), peer(x[1]).numpy(), rtol=1e-9, atol=1e-12)
    check(own(x[0]), peer(x[1]), x)
    np.testing.assert_allclose(own.weight_orig.grad.numpy(), peer.weight_orig.grad.numpy(), rtol=1e-8, atol=1e-11)
    u = own.weight_u.numpy().copy()
    own.eval()(x[0])
    np.testing.assert_array_equal(own.weight_u.numpy(), u)
    nn.utils.remove_spectral_norm(own)
    assert set(own.state_dict()) == {"weight", "bias"}


def test_clipping():
    grads = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    for p in (1.0, 2.0, float("inf")):
        own = nn.utils.get_total_norm([pydl.tensor(g) for g in grads], p)
        peer = torch.nn.utils.get_total_norm([torch.tensor(g) for g in grads], p)
        np.testing.assert_allclose(own.item(), peer.item(), rtol=1e-12)


# --------------------------------------------------------------------------- layers and samples


def test_lazy_layers():
    network = nn.Sequential(nn.LazyConv2d(4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    weight = network[3].weight
    network(pydl.zeros(2, 3, 5, 6))
    assert type(network[0]) is nn.Conv2d
    assert type(network[3]) is nn.Linear
    assert network[0].weight.shape == (4, 3, 3, 3)
    assert network[3].weight is weight
    assert weight.shape == (2, 120)
    assert 0 < np.abs(weight.detach().numpy()).max() <= 120**-0.5
    network(pydl.zeros(2, 3, 5, 6)).sum().backward()
    assert all(p.grad.shape == p.shape for p in network.parameters())
    assert nn.LazyConv1d(2, 3)(pydl.zeros(1, 4, 5)).shape == (1, 2, 3)


def test_random_slopes_and_categories():
    pydl.manual_seed(0)
    layer, x = nn.RReLU(0.1, 0.3), -pydl.ones(1000)
    y = layer(x).numpy()
    assert -0.3 <= y.min() < -0.28
    assert -0.12 < y.max() <= -0.1
    np.testing.assert_allclose(layer.eval()(x).numpy(), -0.2, rtol=1e-6)
    logits = pydl.tensor(np.log([0.2, 0.5, 0.3])[None].repeat(20000, 0), requires_grad=True)
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    np.testing.assert_array_equal(np.sort(hard.detach().numpy(), 1), np.tile([0.0, 0.0, 1.0], (20000, 1)))
    np.testing.assert_allclose(hard.detach().numpy().mean(0), [0.2, 0.5, 0.3], atol=0.015)
    (hard * pydl.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert np.abs(logits.grad.numpy()).max() > 0
    w = nn.init.sparse_(pydl.empty(10, 4), 0.35).numpy()
    assert ((w == 0).sum(0) == 4).all()


def test_derivatives_as_tensors():
    own, peer = pydl.autograd.functional, torch.autograd.functional
    a, b, v = rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal(3)

    def function(m):
        return lambda x, y: (m.tanh(x) @ (y * y), (x * x).sum())

    found = own.jacobian(function(pydl), (pydl.tensor(a), pydl.tensor(b)))
    expected = peer.jacobian(function(torch), (torch.tensor(a), torch.tensor(b)))
    for row, wanted in zip(found, expected, strict=True):
        for p, q in zip(row, wanted, strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-12)

    def scalar(m):
        return lambda y: (m.exp(y) * y.sum()).sum()

    np.testing.assert_allclose(own.hessian(scalar(pydl), pydl.tensor(b)).numpy(),
                               peer.hessian(scalar(torch), torch.tensor(b)).numpy(), rtol=1e-10)
    for name in ("hvp", "vhp"):
        ours, theirs = getattr(own, name), getattr(peer, name)
        left = ours(scalar(pydl), pydl.tensor(b), pydl.tensor(v))
        for p, q in zip(left, theirs(scalar(torch), torch.tensor(b), torch.tensor(v)), strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-10)
    for name, weight in (("vjp", rng.standard_normal(2)), ("jvp", v)):
        ours, theirs = getattr(own, name), getattr(peer, name)
        left = ours(lambda y: pydl.tensor(a) @ (y * y), pydl.tensor(b), pydl.tensor(weight))
        right = theirs(lambda y: torch.tensor(a) @ (y * y), torch.tensor(b), torch.tensor(weight))
        for p, q in zip(left, right, strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-10)
