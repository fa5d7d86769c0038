"""Each network beside the same source run with torch in the place of pydl, and beside torchvision's where that is installed.

Same weights and inputs in float64: equal outputs, gradients of all parameters and of the input, and running statistics.
The twin shows that the layers agree; that the architecture is the published one, `tests/models/test_counts.py` shows by
counts and names, and torchvision by values.
"""

import builtins
import functools
import importlib
import inspect
import types

import numpy as np
import pytest

import pydl
from pydl import models

torch = pytest.importorskip("torch")


def norm_act(norm, activation, input, residual=None):
    """What pydl computes in one pass, in steps."""
    x = norm(input)
    return activation(x if residual is None else x + residual)


def conv_norm_act(conv, norm, activation, input, residual=None):
    return norm_act(norm, activation or torch.nn.Identity(), conv(input), residual)


torch.nn.norm_act, torch.nn.conv_norm_act = norm_act, conv_norm_act  # for the sources that are run with torch


@functools.cache
def twin(module):
    """The namespace of a file of `pydl.models`, executed with torch for pydl."""

    def importer(name, globals=None, locals=None, fromlist=(), level=0):
        if name == "pydl":
            return torch
        if name == "pydl.models.registry":
            return types.SimpleNamespace(register=lambda *args, **kwargs: lambda make: make)
        if name.startswith("pydl.models."):
            return types.SimpleNamespace(**twin(name))
        return __import__(name, globals, locals, fromlist, level)

    namespace = {"__name__": f"twin_of_{module}", "__builtins__": {**vars(builtins), "__import__": importer}}
    exec(compile(inspect.getsource(importlib.import_module(module)), module, "exec"), namespace)
    return namespace


# name: options, shape of the input. Narrow where the published width would only take time.
NETWORKS = {
    "alexnet": ({"hidden": 16, "dropout": 0.0}, (3, 3, 67, 67)),
    "densenet121": ({"growth_rate": 4, "stem": 8}, (3, 3, 64, 64)),
    "efficientnet_lite0": ({"dropout": 0.0}, (3, 3, 64, 71)),
    "googlenet": ({"dropout": 0.0, "dropout_aux": 0.0}, (3, 3, 64, 72)),
    "highway": ({"depth": 10}, (4, 1, 28, 28)),
    "hypernetwork": ({"generated": 2}, (3, 1, 28, 28)),
    "lecun1989": ({}, (4, 1, 16, 16)),
    "mobilenet_v1": ({"width": 0.25, "dropout": 0.0}, (3, 3, 64, 64)),
    "nin": ({"dropout": 0.0}, (2, 3, 32, 32)),
    "nin_imagenet": ({"dropout": 0.0}, (1, 3, 80, 67)),
    "plain18": ({"width": 8}, (3, 3, 64, 64)),
    "plain34": ({"width": 8}, (3, 3, 64, 64)),
    "preact_resnet200": ({"width": 4}, (3, 3, 64, 64)),
    "recursive_conv": ({"steps": 3}, (3, 3, 33, 32)),
    "resnet18": ({}, (3, 3, 65, 70)),
    "resnet34": ({"width": 16}, (3, 3, 64, 64)),
    "resnet50": ({"width": 16}, (3, 3, 64, 64)),
    "resnet101": ({"width": 8}, (3, 3, 64, 64)),
    "resnet152": ({"width": 4}, (3, 3, 64, 64)),
    "tcn": ({"channels": (6, 9, 9), "kernel_size": 3, "dropout": 0.0}, (3, 1, 40)),
    "vgg11": ({"hidden": 16, "width": 16, "dropout": 0.0}, (3, 3, 32, 32)),
    "vgg13_bn": ({"hidden": 16, "width": 16, "dropout": 0.0}, (3, 3, 40, 36)),
    "vgg16": ({"hidden": 16, "width": 16, "dropout": 0.0}, (3, 3, 33, 32)),
    "vgg19_bn": ({"hidden": 16, "width": 16, "dropout": 0.0}, (3, 3, 64, 64)),
    "vit_tiny_16": ({"image_size": 32, "patch_size": 8, "layers": 2}, (2, 3, 32, 32)),
    "xception": ({"width": 0.125, "middle": 2}, (3, 3, 71, 75)),
}
TORCHVISION = {
    "densenet121": {}, "googlenet": {"dropout": 0.0, "dropout_aux": 0.0}, "resnet18": {}, "resnet50": {},
}  # fmt: skip


def randomised(model, rng):
    """Values away from 0 and 1 for norms and biases, so that none can be mistaken for another."""
    for name, value in model.state_dict().items():
        if value.ndim == 1:
            low, high = (0.5, 1.5) if name.endswith(("weight", "running_var")) else (-0.2, 0.2)
            value.copy_(rng.uniform(low, high, value.shape))
    return model


def close(actual, expected, name):
    assert actual.shape == tuple(expected.shape), name
    scale = max(np.abs(expected).max(initial=0.0), 1e-30)
    error = np.abs(actual - expected).max(initial=0.0) / scale
    assert error <= 1e-7, f"{name}: relative error {error:.2g}"


def compare(model, peer, shape, training=True):
    rng = np.random.default_rng(1)
    model = randomised(model, rng).double().train(training)
    peer = peer.double().train(training)
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    values = rng.normal(size=shape)
    x, peer_x = pydl.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    outputs, peer_outputs = (y if isinstance(y, tuple) else (y,) for y in (model(x), peer(peer_x)))
    loss, peer_loss = 0.0, 0.0
    for y, peer_y in zip(outputs, peer_outputs, strict=True):
        close(y.detach().numpy(), peer_y.detach().numpy(), "output")
        weight = rng.normal(size=y.shape)
        loss, peer_loss = loss + (y * pydl.tensor(weight)).sum(), peer_loss + (peer_y * torch.tensor(weight)).sum()
    loss.backward()
    peer_loss.backward()
    close(x.grad.numpy(), peer_x.grad.numpy(), "input's gradient")
    parameters = dict(model.named_parameters())
    scale = max(p.grad.abs().max().item() for p in peer.parameters() if p.grad is not None)
    for name, p in peer.named_parameters():
        ours = parameters.pop(name).grad
        assert (ours is None) == (p.grad is None), name
        # A bias before batch norm has gradient 0 but for rounding.
        if p.grad is not None and p.grad.abs().max() > 1e-12 * scale:
            close(ours.numpy(), p.grad.numpy(), f"gradient of {name}")
    assert not parameters
    own = model.state_dict()
    for name, value in peer.state_dict().items():
        close(own[name].numpy(), value.numpy(), name)


@pytest.mark.parametrize("name", NETWORKS)
def test_twin(name):
    options, shape = NETWORKS[name]
    pydl.manual_seed(0)
    make = models.entry(name).make
    compare(make(num_classes=7, **options), twin(make.__module__)[make.__name__](num_classes=7, **options), shape)


# Forms for small images.
SMALL = {
    "alexnet": ({"hidden": 16, "dropout": 0.0, "small_stem": True, "width": 0.25}, (3, 3, 28, 28)),
    "googlenet": ({"dropout": 0.0, "dropout_aux": 0.0, "small_stem": True, "width": 0.25}, (3, 3, 28, 32)),
    "densenet121": ({"growth_rate": 4, "stem": 8, "layers": (2, 2, 2), "small_stem": True}, (3, 3, 28, 28)),
    "resnet18": ({"width": 8, "small_stem": True}, (3, 3, 28, 28)),
}


@pytest.mark.parametrize("name", SMALL)
def test_twin_of_small_forms(name):
    options, shape = SMALL[name]
    pydl.manual_seed(0)
    make = models.entry(name).make
    compare(make(num_classes=7, **options), twin(make.__module__)[make.__name__](num_classes=7, **options), shape)


@pytest.mark.parametrize("net", [1, 2, 4, 5])
def test_twin_of_lecun1989(net):
    if net == 4:  # torch has no locally connected layer: the same sums by unfolded windows
        locally_connected(2)
        return
    pydl.manual_seed(0)
    compare(models.LeCun1989(net, 7), twin("pydl.models.lecun1989")["LeCun1989"](net, 7), (4, 1, 16, 16))


def test_locally_connected_layer_of_net_3():
    locally_connected(1)


def locally_connected(channels):
    rng = np.random.default_rng(0)
    layer = models.LeCun1989(channels + 2).double()[2]
    x = rng.normal(size=(3, channels, 8, 8))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()  # (4, 4, 1, C, 5, 5), (1, 4, 4)
    peers = [torch.tensor(v, requires_grad=True) for v in (x, weight, bias)]
    windows = torch.nn.functional.unfold(peers[0], 5).reshape(3, -1, 16)  # (N, C 5 5, places)
    out = torch.einsum("nkp,pok->nop", windows, peers[1].reshape(16, 1, -1)).reshape(3, 1, 4, 4) + peers[2]
    ours = pydl.tensor(x, requires_grad=True)
    y = layer(ours)
    close(y.detach().numpy(), out.detach().numpy(), "output")
    (y**2).sum().backward()
    (out**2).sum().backward()
    for own, peer in zip((ours, layer.weight, layer.bias), peers, strict=True):
        close(own.grad.numpy(), peer.grad.numpy(), "gradient")


def test_siamese():
    pydl.manual_seed(0)
    model, peer = models.Siamese(width=4).double(), twin("pydl.models.shared")["Siamese"](width=4).double()
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    pair = np.random.default_rng(0).normal(size=(2, 3, 1, 32, 28))
    y, peer_y = model(*map(pydl.tensor, pair)), peer(*map(torch.tensor, pair))
    close(y.detach().numpy(), peer_y.detach().numpy(), "distance")
    y.sum().backward()
    peer_y.sum().backward()
    parameters = dict(model.named_parameters())
    for name, p in peer.named_parameters():
        close(parameters[name].grad.numpy(), p.grad.numpy(), name)


def test_twin_in_evaluation():
    options, shape = NETWORKS["googlenet"]
    pydl.manual_seed(0)
    peer = twin("pydl.models.googlenet")["GoogLeNet"](num_classes=7, **options)
    compare(models.create("googlenet", num_classes=7, **options), peer, shape, training=False)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    published = pytest.importorskip("torchvision.models", exc_type=Exception)
    pydl.manual_seed(0)
    options = dict(num_classes=5, **TORCHVISION[name])
    peer = getattr(published, name)(**options, **({"init_weights": False} if name == "googlenet" else {}))
    compare(models.create(name, **options), peer, (2, 3, 64, 64))


def test_vision_transformer_of_torchvision():
    published = pytest.importorskip("torchvision.models", exc_type=Exception)
    pydl.manual_seed(0)
    peer = published.VisionTransformer(image_size=24, patch_size=8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=40,
                                       num_classes=5)
    model = models.VisionTransformer(image_size=24, patch_size=8, layers=2, heads=3, width=24, mlp=40, num_classes=5)
    compare(model, peer, (2, 3, 24, 24))
