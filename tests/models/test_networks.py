"""What each network is for: gates that carry, causality, a bad image size; the small forms learn."""

import numpy as np
import pytest

import pydl
from pydl import models, nn
from pydl.errors import ArgumentError, ShapeError


def test_a_closed_gate_carries_and_an_open_one_transforms():
    layer, x = models.Highway(4), pydl.randn(3, 4)
    nn.init.zeros_(layer.gate.weight)
    nn.init.constant_(layer.gate.bias, -200.0)
    np.testing.assert_array_equal(layer(x).detach().numpy(), x.numpy())
    nn.init.constant_(layer.gate.bias, 200.0)
    expected = np.maximum(x.numpy() @ layer.transform.weight.detach().numpy().T + layer.transform.bias.detach().numpy(), 0)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_gradient_reaches_the_first_of_a_hundred_highway_layers():
    pydl.manual_seed(0)
    model = models.create("highway", depth=100, bias=-4.0)
    pydl.cross_entropy(model(pydl.randn(8, 1, 28, 28)), pydl.tensor([0, 1] * 4)).backward()
    assert np.abs(model.first.weight.grad.numpy()).max() > 1e-4


def test_tcn_sees_the_past_alone_and_as_far_as_said():
    net = models.TemporalConvNet(1, (2, 2, 2), kernel_size=3, dropout=0.0).double()
    for p in net.parameters():
        nn.init.uniform_(p, 0.1, 1.0)  # positive throughout: nothing is cut by ReLU
    x = pydl.rand(1, 1, 40, dtype=pydl.float64).requires_grad_()
    net(x)[0, :, 35].sum().backward()
    reach = 1 + 2 * (3 - 1) * (2**3 - 1)
    assert np.flatnonzero(x.grad.numpy()[0, 0]).tolist() == list(range(35 - reach + 1, 36))


def test_default_tcn_looks_back_3061_steps():
    net = models.create("tcn").tcn
    assert 1 + sum(2 * (7 - 1) * 2**i for i in range(len(net))) == 3061


def test_plain_network_has_no_skip():
    """With the last norm of each block at zero a residual block passes its input on, a plain one passes nothing."""
    for name, alive in (("resnet18", True), ("plain18", False)):
        model = models.create(name, width=8, num_classes=3).eval()
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            for block in stage:
                nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(model.fc.bias)
        with pydl.no_grad():
            assert bool(np.abs(model(pydl.randn(1, 3, 64, 64)).numpy()).max() > 0) == alive


def test_auxiliary_heads_in_training_alone():
    model = models.create("googlenet", num_classes=3)
    x = pydl.randn(2, 3, 64, 64)
    with pydl.no_grad():
        out = model(x)
        assert isinstance(out, models.GoogLeNetOutputs)
        assert [y.shape for y in out] == [(2, 3)] * 3
        assert model.eval()(x).shape == (2, 3)


def test_vision_transformer_wants_its_image_size():
    model = models.create("vit_tiny_16", image_size=32, layers=1, num_classes=3)
    with pytest.raises(ShapeError, match=r"image of 48 x 32; expected 32 x 32"):
        model(pydl.zeros(1, 3, 48, 32))
    with pytest.raises(ArgumentError, match="patch_size=7 must divide image_size=32"):
        models.VisionTransformer(32, 7)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: models.NetworkInNetwork("mnist"), "form='mnist'; expected cifar or imagenet"),
        (lambda: models.create("highway", depth=2), "depth=2; expected 3 or more"),
        (lambda: models.Highway(3, activation="gelu"), "activation='gelu'"),
        (lambda: models.create("tcn", kernel_size=1), "kernel_size=1; expected"),
        (lambda: models.create("mobilenet_v1", width=0), "width=0; expected a positive factor"),
        (lambda: models.create("xception", middle=-1), "middle=-1"),
        (lambda: models.ResNet(None, (1, 0, 3)), r"layers=\(1, 0, 3\); expected a positive number"),
        (lambda: models.create("lecun1989", net=6), "net=6; expected 1 to 5"),
        (lambda: models.create("recursive_conv", steps=0), "steps=0; expected 1 or more"),
        (lambda: models.HyperConv2d(models.KernelGenerator(), 16, 24), "16 to 24 channels; expected multiples"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


SMALL = {
    "resnet18": ({"width": 8, "small_stem": True, "in_channels": 1}, (1, 16, 16)),
    "densenet121": ({"growth_rate": 2, "stem": 8, "in_channels": 1}, (1, 32, 32)),
    "mobilenet_v1": ({"width": 0.25, "in_channels": 1}, (1, 32, 32)),
    "vit_tiny_16": ({"image_size": 16, "patch_size": 4, "layers": 2, "width": 24, "mlp": 48, "in_channels": 1}, (1, 16, 16)),
    "highway": ({"features": 256, "depth": 6}, (1, 16, 16)),
    "tcn": ({"channels": (8, 8, 8), "kernel_size": 3, "dropout": 0.0}, (1, 32)),
    "vgg11_bn": ({"width": 8, "hidden": 32, "in_channels": 1, "dropout": 0.0}, (1, 32, 32)),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_forms_learn(name):
    """Eight examples of two classes, noise with and without a bright end, are told apart after some steps."""
    options, shape = SMALL[name]
    pydl.manual_seed(2)
    rng = np.random.default_rng(0)
    values, labels = rng.normal(0, 0.3, (8, *shape)).astype(np.float32), np.arange(8) % 2
    values[labels == 1, ..., shape[-1] // 2 :] += 1.0
    x, y = pydl.from_numpy(values), pydl.from_numpy(labels)
    model = models.create(name, num_classes=2, **options)
    optimizer = pydl.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = pydl.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
