"""What a user does wrong, and what the message must name: layer, argument, shapes, file, and the way out."""

import numpy as np
import pytest

import pydl
from pydl import models, nn
from pydl.data import DataLoader, ImageFolder
from pydl.errors import ArgumentError, DTypeError, ShapeError, TooSmallError
from pydl.nn import functional as F
from pydl.nn.module import StateDictError
from pydl.nn.utils.rnn import pack_padded_sequence
from pydl.train import CheckpointError
from pydl.vision.io import ImageError


def network(name, **options):
    with nn.init.skip():
        return models.create(name, **options).eval()


def x(*shape):
    return pydl.zeros(*shape)


# --------------------------------------------------------------------------- images

CHANNELS = [
    ("lenet5", "c1"), ("alexnet", r"features\.0"), ("vgg11_bn", r"features\.0"), ("googlenet", r"conv1\.conv"),
    ("resnet18", "conv1"),
    ("densenet121", r"features\.conv0"), ("mobilenet_v1", r"stem\.0"), ("efficientnet_lite0", "conv_stem"),
    ("xception", r"stem\.0"), ("nin", r"features\.0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layer"), CHANNELS)
def test_wrong_number_of_channels(name, layer):
    channels, *size = models.entry(name).input_size
    model = network(name)
    with pytest.raises(ShapeError, match=rf"in module {layer}: .* has {channels + 1} channels, .* expects {channels}; check"):
        model(x(1, channels + 1, *size))
    with pytest.raises(ShapeError, match=rf"in module {layer}: \[conv2d\] input must have shape \(N, C, H, W\)"):
        model(x(2, 3))
    with pytest.raises(DTypeError, match=rf"in module {layer}: .* input uint8, .* convert with .to\(pydl.float32\)"):
        model(pydl.zeros(1, channels, *size, dtype=pydl.uint8))


SMALL = [
    ("lenet5", 8, "c3", 12), ("alexnet", 3, r"features\.0", 63), ("alexnet", 40, r"features\.12", 63),
    ("vgg11", 8, r"features\.15", 32), ("googlenet", 8, "maxpool3", 15), ("densenet121", 8, r"features\.transition2\.pool", 29),
    ("xception", 3, r"stem\.3", 7), ("nin", 3, r"features\.14", 4),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "layer", "least"), SMALL)
def test_image_too_small_for_the_network(name, size, layer, least):
    """The message names the layer and the least size, and that size is right: it passes and one less does not."""
    model, channels = network(name), models.entry(name).input_size[0]
    message = rf"in module {layer}: .* too small on axis 2.* the network needs inputs of at least {least} x {least}$"
    with pytest.raises(TooSmallError, match=message) as caught:
        model(x(1, channels, size, size))
    assert caught.value.least == (least, least)
    with pytest.raises(TooSmallError):
        model(x(1, channels, least - 1, least - 1))
    try:
        model(x(1, channels, least, least))
    except ShapeError as error:  # a linear layer of a fixed size behind the convolutions
        assert "[linear]" in str(error)  # noqa: PT017


def test_trying_sizes_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Conv2d(2, 2, 5))
    pydl.manual_seed(0)
    model[:3](x(2, 1, 5, 9))
    drawn = pydl.get_rng_state()
    pydl.manual_seed(0)
    with pytest.raises(TooSmallError, match=r"in module 3: .* at least 7 x 7"):
        model(x(2, 1, 5, 9))
    assert model.training
    assert model[1].num_batches_tracked.item() == 2  # the two calls above, none of the search
    assert pydl.get_rng_state() == drawn
    with pytest.raises(TooSmallError, match=r"at least 5$"):
        nn.Sequential(nn.Conv1d(1, 1, 5))(x(1, 1, 3))


def test_damaged_pictures(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "one.jpg").write_bytes(b"hello")
    (tmp_path / "b" / "two.png").write_bytes(b"")
    data = ImageFolder(tmp_path)
    for i, message in enumerate((r"one\.jpg cannot be read as an image: .* b'hello'", r"two\.png cannot be .* it is empty")):
        with pytest.raises(ImageError, match=message):
            data[i]
    with pytest.raises(ImageError, match=r"one\.jpg cannot be read as an image"):
        next(iter(DataLoader(data, batch_size=2)))


# --------------------------------------------------------------------------- weights


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "small.safetensors"
    pydl.save(network("resnet18", width=4).state_dict(), path)
    for other, message in (
        (network("densenet121", growth_rate=4), r"another network than DenseNet: of its \d+ tensors \d+ .* missing: features\."),
        (network("resnet34", width=4), r"load_state_dict for ResNet: missing: layer1\.2\.conv1\.weight"),
        (network("resnet18", width=4, num_classes=5), r"wrong shape: fc\.weight is \(1000, 32\), expected \(5, 32\)"),
    ):
        before = [p.numpy().copy() for p in other.state_dict().values()]
        with pytest.raises(StateDictError, match=rf"small\.safetensors: .*{message}"):
            models.load_weights(other, path)
        for value, kept in zip(other.state_dict().values(), before, strict=True):
            np.testing.assert_array_equal(value.numpy(), kept)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is truncated"):
        models.load_weights(network("resnet18", width=4), tmp_path / "cut.safetensors")


# --------------------------------------------------------------------------- sequences


@pytest.mark.parametrize("cls", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers(cls):
    layer = nn.Sequential(cls(4, 5, 2))[0]
    name = {"RNN": "rnn_tanh"}.get(cls.__name__, cls.__name__.lower())

    def state(*shape):
        return (x(*shape), x(*shape)) if cls is nn.LSTM else x(*shape)

    for hx in (state(1, 2, 5), state(2, 3, 5), state(2, 2, 6), state(2, 5)):
        with pytest.raises(ShapeError, match=rf"\[{name}\] h0 of shape .*, expected \(2, 2, 5\): num_layers=2 times 1 direction"):
            layer(x(3, 2, 4), hx)
    for lengths, kind, message in (
        ([3, 0], ArgumentError, r"lengths\[1\]=0, expected 1 to 3 .*; remove empty sequences"),
        ([4, 1], ArgumentError, r"lengths\[0\]=4, expected 1 to 3 .*; cut the length or pad the input further"),
        ([-1, 1], ArgumentError, r"lengths\[0\]=-1, expected 1 to 3"),
        ([3], ShapeError, r"lengths of shape \(1,\), expected \(2,\): one for each sequence"),
        (pydl.tensor([3.0, 1.0]), DTypeError, "lengths must be integers, got float32"),
    ):
        with pytest.raises(kind, match=rf"\[{name}\] {message}"):
            layer(x(3, 2, 4), lengths=lengths)
    with pytest.raises(ShapeError, match=rf"\[{name}\] input of shape \(0, 2, 4\) has no steps"):
        layer(x(0, 2, 4))
    with pytest.raises(ShapeError, match=r"input of shape \(3, 2, 7\) has 7 features, expected input_size=4"):
        layer(x(3, 2, 7))


def test_packing():
    for lengths, message in (
        ([3, 0], r"lengths\[1\]=0, expected 1 to 3"), ([5, 1], r"lengths\[0\]=5, expected 1 to 3"),
        ([1, 3], "do not fall; sort the batch .* or pass enforce_sorted=False"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=rf"\[pack_padded_sequence\] .*{message}"):
            pack_padded_sequence(x(3, 2, 4), lengths)


def test_token_outside_the_vocabulary():
    for model, place in ((nn.Sequential(nn.Embedding(20, 4), nn.Linear(4, 2)), "0"), (models.RNNLanguageModel(20), "embedding")):
        for token in (20, -1):
            message = rf"in module {place}: \[embedding\] index {token} at position \(0, 1\) .* 20 rows; expected 0 to 19"
            with pytest.raises(ArgumentError, match=message):
                model(pydl.tensor([[1, token]]))
    with pytest.raises(DTypeError, match=r"in module 0: \[embedding\] input must hold integers, got float32"):
        nn.Sequential(nn.Embedding(20, 4))(x(2, 3))
    with pytest.raises(ArgumentError, match=r"\[cross_entropy\] target holds class 3 .* 3 classes \(0 to 2\)"):
        F.cross_entropy(x(2, 3), pydl.tensor([1, 3]))


def test_masks():
    attention, q = nn.MultiheadAttention(8, 2, batch_first=True), x(2, 3, 8)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    heads = [x(2, 2, 3, 4), x(2, 2, 5, 4), x(2, 2, 5, 4)]
    for call, kind, message in (
        (lambda: attention(q, q, q, attn_mask=x(4, 4)), ShapeError,
         r"attn_mask of shape \(4, 4\); expected \(3, 3\) or \(4, 3, 3\)"),
        (lambda: attention(q, q, q, key_padding_mask=x(2, 4) > 0), ShapeError,
         r"key_padding_mask of shape \(2, 4\); expected \(2, 3\)"),
        (lambda: attention(q, q, q, key_padding_mask=x(2, 3).long()), DTypeError,
         "key_padding_mask of dtype int64; expected bool"),
        (lambda: encoder(q, mask=x(2, 2)), ShapeError, r"in module layers\.0\.self_attn: .* attn_mask of shape \(2, 2\)"),
        (lambda: encoder(q, src_key_padding_mask=x(3, 3) > 0), ShapeError,
         r"in module layers\.0\.self_attn: .* expected \(2, 3\)"),
        (lambda: both(q, q, tgt_mask=x(2, 2)), ShapeError, r"in module decoder\.layers\.0\.self_attn: .* expected \(3, 3\)"),
        (lambda: both(q, x(2, 4, 8), memory_mask=x(3, 3)), ShapeError,
         r"decoder\.layers\.0\.multihead_attn: .* expected \(4, 3\)"),
        (lambda: F.scaled_dot_product_attention(*heads, attn_mask=x(3, 4)), ShapeError,
         r"attn_mask of shape \(3, 4\) does not broadcast to \(batch, heads, queries, keys\) = \(2, 2, 3, 5\)"),
        (lambda: F.scaled_dot_product_attention(*heads, attn_mask=x(3, 5).long()), DTypeError, "attn_mask of dtype int64"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            call()
