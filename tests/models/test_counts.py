"""The networks have the published numbers of parameters, and torchvision's names and layouts where it has the network."""

import hashlib

import pytest

import pydl
from pydl import models, nn

COUNTS = {
    "alexnet": 61_100_840,
    "densenet121": 7_978_856,
    "efficientnet_lite0": 4_652_008,
    "highway": 784 * 50 + 50 + 18 * 2 * (50 * 50 + 50) + 50 * 10 + 10,
    "mobilenet_v1": 4_231_976,
    "nin": 966_986,
    "nin_imagenet": 7_595_176,
    "plain18": 11_515_688,  # ResNet-18 less its three projections: 64*128 + 128*256 + 256*512, and 2*(128 + 256 + 512)
    "plain34": 21_623_848,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "tcn": 8 * 25 + 15 * (175 * 25 + 25) + 2 * 25 + 260,
    "unet": 31_037_698,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "vit_b_16": 86_567_656,
    "vit_small_16": 22_050_664,
    "vit_tiny_16": 5_717_416,
    "xception": 22_855_952,
}

# SHA-256 of the lines "name shape" of torchvision 0.28's state dictionaries.
TORCHVISION = {
    "alexnet": "214045a0c08ffc98ff336e7e",
    "densenet121": "d52aa585c67149854194b01d",
    "googlenet": "e2cf6c5ea7661faddd21ef80",
    "resnet18": "761022b221a39ceb0afbf654",
    "resnet34": "1a060acae7a42530781fa701",
    "resnet50": "3fa57287149b51c43a043a42",
    "resnet101": "0e9191dd134cb07d7d14b050",
    "resnet152": "47360b6062c7afaa4637676c",
    "vgg11": "a4a2a4a84e73de05a2fb6869",
    "vgg13": "9dc9518e7646fe4778181141",
    "vgg16": "6f36a6fd49b61819fe3429a1",
    "vgg19": "e05a894c9ad1325173cf05b9",
    "vgg11_bn": "6aaf84aad41592008d4af2f8",
    "vgg13_bn": "9a11dd9903f0e3cfa83dfcb7",
    "vgg16_bn": "5f99e428d932f79ed2b9c149",
    "vgg19_bn": "4c042cc97e1d63422f746ba8",
    "vit_b_16": "71b16a3b8dc241dace3e440e",
}


def build(name, **options):
    """The network without initial values: large ones take no time and no memory then."""
    with nn.init.skip():
        return models.create(name, **options)


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name):
    assert count(build(name)) == COUNTS[name]


def test_googlenet_with_and_without_heads():
    assert count(build("googlenet", aux_logits=False)) == 6_624_904
    assert count(build("googlenet")) == 13_004_888


def test_preactivation_resnet200():
    """Convolutions of a 200-layer bottleneck network, batch norm on what goes into each of them, and the linear layer."""
    total, inputs = 64 * 3 * 49 + 2 * 64 + 2 * 2048 + 2048 * 1000 + 1000, 64
    for stage, blocks in enumerate((3, 24, 36, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            total += width * (inputs + 9 * width + 4 * width) + 2 * (2 * width)
            total += 2 * inputs if stage or block else 0  # the first block's input is normalised by the stem
            total += 4 * width * inputs if block == 0 else 0
            inputs = 4 * width
    assert round(total / 1e6, 1) == 64.7
    model = build("preact_resnet200")
    assert count(model) == total
    in_depth = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(in_depth) - 4 == 200  # the four projections are beside the depth


def test_mobilenet_widths():
    """Table 7 of the paper: 4.2, 2.6, 1.3 and 0.5 million parameters."""
    assert [round(count(build("mobilenet_v1", width=w)) / 1e6, 1) for w in (1, 0.75, 0.5, 0.25)] == [4.2, 2.6, 1.3, 0.5]


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_layouts_of_torchvision(name):
    lines = [f"{key} {tuple(value.shape)}\n" for key, value in build(name).state_dict().items()]
    assert hashlib.sha256("".join(lines).encode()).hexdigest()[:24] == TORCHVISION[name]


@pytest.mark.parametrize("name", ["resnet50", "vgg11_bn", "alexnet", "googlenet", "densenet121", "mobilenet_v1"])
def test_create_with_ten_classes(name):
    head = list(build(name, num_classes=10).parameters())[-1]
    assert head.shape == (10,)


def test_skip_leaves_values_and_ends():
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().numpy().copy()
    with nn.init.skip():
        layer.reset_parameters()
        for f in (nn.init.zeros_, nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_, nn.init.orthogonal_,
                  nn.init.kaiming_normal_, nn.init.dirac_ if layer.weight.ndim > 2 else nn.init.eye_):
            assert f(layer.weight) is layer.weight
    assert (layer.weight.detach().numpy() == before).all()
    nn.init.zeros_(layer.weight)
    assert (layer.weight.detach().numpy() == 0).all()


def test_too_small_an_image_names_the_layer():
    model = build("vgg11", hidden=8).eval()
    with pytest.raises(pydl.errors.ShapeError, match=r"in module features\.20"), pydl.no_grad():
        model(pydl.zeros(1, 3, 16, 16))


def test_wrong_channels_name_the_layer():
    with pytest.raises(pydl.errors.ShapeError, match=r"in module conv1"):
        build("resnet18")(pydl.zeros(1, 1, 64, 64))
