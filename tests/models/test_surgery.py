"""Freezing, new heads and groups of parameters; frozen batch norms stay as they are."""

import numpy as np
import pytest

import pydl
from pydl import models, nn, optim
from pydl.errors import ArgumentError

# Networks that classify, with options that make them small; each must get a new head that its output then shows.
SMALL = {
    "alexnet": ({"hidden": 8, "width": 0.1}, (2, 3, 67, 67)), "vgg11": ({"hidden": 8, "width": 8}, (2, 3, 32, 32)),
    "vgg16_bn": ({"hidden": 8, "width": 8}, (2, 3, 32, 32)), "nin": ({}, (1, 3, 16, 16)),
    "googlenet": ({"width": 0.1}, (2, 3, 64, 64)), "xception": ({"width": 0.125, "middle": 1}, (2, 3, 71, 71)),
    "mobilenet_v1": ({"width": 0.25}, (2, 3, 64, 64)), "efficientnet_lite0": ({}, (2, 3, 64, 64)),
    "resnet18": ({"width": 4}, (2, 3, 32, 32)), "resnet50": ({"width": 4}, (2, 3, 32, 32)),
    "plain18": ({"width": 4}, (2, 3, 32, 32)),
    "preact_resnet200": ({"width": 2}, (2, 3, 32, 32)), "densenet121": ({"growth_rate": 2, "stem": 4}, (2, 3, 32, 32)),
    "highway": ({"depth": 4}, (2, 1, 28, 28)), "hypernetwork": ({}, (2, 1, 28, 28)), "lenet5": ({}, (2, 1, 28, 28)),
    "recursive_conv": ({}, (2, 3, 32, 32)), "lecun1989": ({}, (2, 1, 16, 16)), "tcn": ({}, (2, 1, 30)),
    "vit_tiny_16": ({"image_size": 32, "layers": 1}, (2, 3, 32, 32)), "mlp": ({"sizes": (6, 5, 4)}, (2, 6)),
    "mnist1d-conv": ({}, (2, 1, 40)), "mnist1d-dense": ({}, (2, 1, 40)),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_new_head(name):
    options, shape = SMALL[name]
    model = models.create(name, **options)
    before = {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}
    paths = models.classifiers(model)
    assert models.replace_head(model, 3) is model
    with pydl.no_grad():
        out = model(pydl.randn(*shape))
    for scores in out if isinstance(out, tuple) else (out,):
        assert scores.shape == (shape[0], 3)
    after = model.state_dict()
    assert list(after) == list(before)  # in the same order
    for key, value in after.items():
        if key.rpartition(".")[0] not in paths and "running" not in key and "num_batches" not in key:
            np.testing.assert_array_equal(value.numpy(), before[key])


def test_head_by_path_and_of_double_precision():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.BatchNorm1d(2)).double().eval()
    with pytest.raises(ArgumentError, match=r"Sequential has its last parameters in BatchNorm1d 3; expected a Linear .*path="):
        models.replace_head(model, 5)
    models.replace_head(model, 2, path="2")
    assert model[2].weight.dtype == np.float64
    assert not model[2].training
    with pytest.raises(ArgumentError, match="1 is ReLU; expected the path"):
        models.replace_head(model, 2, path="1")
    with pytest.raises(ArgumentError, match="num_classes=0"):
        models.replace_head(model, 0)
    with pytest.raises(ArgumentError, match="the model itself is Linear"):
        models.replace_head(nn.Linear(2, 2), 3)
    with pytest.raises(ArgumentError, match="has no parameters"):
        models.replace_head(nn.ReLU(), 3)


def state(model):
    return {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}


def step(model, x, y, optimizer):
    optimizer.zero_grad()
    pydl.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_frozen_parts_do_not_change_and_the_others_do():
    """Three steps in training mode: weights and running statistics before layer3 keep every bit."""
    pydl.manual_seed(0)
    model = models.freeze(models.create("resnet18", width=4, num_classes=2), until="layer3")
    x, y = pydl.randn(4, 3, 32, 32), pydl.tensor([0, 1, 0, 1])
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.1)
    before = state(model)
    model.train()
    assert not model.layer2[0].bn1.training
    assert model.layer3[0].bn1.training
    for _ in range(3):
        step(model, x, y, optimizer)
    for key, value in state(model).items():
        changed = not np.array_equal(value, before[key])
        assert changed == key.startswith(("layer3", "layer4", "fc")), key
    models.unfreeze(model, start="layer2")
    model.train()
    assert model.layer2[0].bn1.training
    assert not model.layer1[0].bn1.training
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"layer2", "layer3", "layer4", "fc"}
    models.unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.train().training for m in model.modules())


def test_frozen_norm_gives_what_evaluation_gives():
    norm = nn.BatchNorm2d(3)
    norm(pydl.randn(8, 3, 5, 5) * 3 + 1)
    x = pydl.randn(4, 3, 5, 5)
    expected = norm.eval()(x).detach().numpy()
    models.freeze(nn.Sequential(norm)).train()
    np.testing.assert_array_equal(norm(x).detach().numpy(), expected)


def test_what_belongs_to_the_network_itself_is_before_its_parts():
    model = models.freeze(models.create("vit_tiny_16", image_size=32, layers=1), until="heads")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"heads.head.weight", "heads.head.bias"}


def test_freeze_all_and_wrong_places():
    model = models.freeze(models.create("lenet5"))
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ArgumentError, match=r"freeze: LeNet5 has no part 'outputs'; did you mean output\?"):
        models.freeze(model, until="outputs")
    with pytest.raises(ArgumentError, match="unfreeze: LeNet5 has no part 'head'; its parts are c1, act1"):
        models.unfreeze(model, start="head")


def test_groups_of_parameters():
    model = models.create("resnet18", width=4)
    groups = models.parameter_groups(model, {"fc": {"lr": 0.1, "weight_decay": 0.0}, "": 0.001, "layer4": 0.01, "layer4.1": 0.02})
    names = {id(p): n for n, p in model.named_parameters()}
    found = {g["lr"]: {names[id(p)] for p in g["params"]} for g in groups}
    assert found[0.1] == {"fc.weight", "fc.bias"}
    assert all(n.startswith("layer4.1.") for n in found[0.02])
    assert all(n.startswith("layer4.0.") for n in found[0.01])
    assert sum(map(len, found.values())) == len(names)
    assert groups[0]["weight_decay"] == 0.0
    start = state(model)
    optimizer = optim.SGD(groups, lr=1.0)
    for p in model.parameters():
        p.grad = pydl.ones(*p.shape)
    optimizer.step()
    rates = {"fc.weight": 0.1, "layer4.1.conv1.weight": 0.02, "layer4.0.conv1.weight": 0.01, "conv1.weight": 0.001}
    for name, rate in rates.items():
        np.testing.assert_allclose(start[name] - state(model)[name], rate, rtol=1e-3)


def test_groups_leave_frozen_parameters_out_and_miss_none():
    model = models.freeze(models.create("lenet5"), until="f6")
    groups = models.parameter_groups(model, {"c1": 0.1, "f6": 0.2, "output": 0.3})
    assert [(g["lr"], len(g["params"])) for g in groups] == [(0.2, 2), (0.3, 2)]
    with pytest.raises(ArgumentError, match=r"no rate for output.weight, output.bias; freeze them"):
        models.parameter_groups(model, {"f6": 0.2})
    with pytest.raises(ArgumentError, match=r"no parameter's name begins with 'f7'; its parts are c1"):
        models.parameter_groups(model, {"f7": 0.2, "": 0.1})
    with pytest.raises(ArgumentError, match="begins with 'outpu'"):
        models.parameter_groups(model, {"outpu": 0.2, "": 0.1})
