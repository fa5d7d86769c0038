"""Weights from files: both formats of torch.save and safetensors; files that ask for more than tensors are refused."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

import pydl
from pydl import models
from pydl.errors import ArgumentError
from pydl.models.pth import read_pth
from pydl.nn.module import StateDictError
from pydl.train import CheckpointError

SIZES = (4, 3, 2)


def mlp():
    return models.create("mlp", sizes=SIZES)


def equal(model, other):
    own, expected = model.state_dict(), other.state_dict()
    assert own.keys() == expected.keys()
    for key in own:
        np.testing.assert_array_equal(own[key].numpy(), expected[key].numpy())


def archive(path, data, **members):
    """A file in the format of torch.save around any pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
        for name, content in members.items():
            file.writestr(f"archive/data/{name}", content)
    return path


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


# A tensor of float32 by hand: storage "0" of `count` elements, then offset, size and stride.
def by_hand(count, offset, size, stride, key="0", kind="FloatStorage"):
    def number(n):
        return b"J" + struct.pack("<i", n)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(s):
        return b"X" + struct.pack("<I", len(s)) + s.encode()

    storage = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + number(count) + b"tQ"
    tensor = (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(size) + numbers(stride)
              + b"\x89ccollections\nOrderedDict\n)RtR")
    return b"\x80\x02}" + text("w") + tensor + b"s."


# --------------------------------------------------------------------------- files that torch wrote


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_files_of_torch(tmp_path, zipped, wrap):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    peer = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    state = peer.state_dict()
    torch.save({wrap: state, "epoch": 3, "lr": 0.5} if wrap else state, tmp_path / "w.pth",
               _use_new_zipfile_serialization=zipped)
    model = models.load_weights(mlp(), tmp_path / "w.pth")
    equal(model, peer)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_kind_of_value(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    saved = {
        "transposed": base.permute(2, 0, 1), "slice": base[1, 1:, ::2], "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3),
        "parameter": nn_parameter(torch), "numbers": [1, -2, 2**40, 1.5, True, None], "nested": {"a": ("b", torch.ones(2))},
        "shape": base.shape, 7: "key",
    }  # fmt: skip
    types = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    saved.update({t: torch.tensor([0, 1, 3]).to(getattr(torch, t)) for t in types})
    torch.save(saved, tmp_path / "all.pt", _use_new_zipfile_serialization=zipped)
    got = read_pth(tmp_path / "all.pt")
    assert list(got) == list(saved)
    assert (got["numbers"], got["shape"], got[7]) == (saved["numbers"], (2, 3, 4), "key")
    assert got["nested"]["a"][0] == "b"
    for name in ("transposed", "slice", "scalar", "empty", "parameter", *types):
        assert str(got[name].dtype) == str(saved[name].dtype).removeprefix("torch.")
        np.testing.assert_array_equal(got[name].numpy().astype(float), saved[name].detach().to(torch.float64).numpy())


def nn_parameter(torch):
    return torch.nn.Parameter(torch.arange(3.0))


def test_published_names_of_densenet(tmp_path):
    """The published file writes norm.1 for norm1, and has no counters of batches."""
    torch = pytest.importorskip("torch")
    options = {"layers": (1, 1), "growth_rate": 2, "stem": 4, "num_classes": 3}
    model = models.DenseNet(**options)
    state = {k.replace(".norm1", ".norm.1").replace(".conv2", ".conv.2"): torch.tensor(v.numpy())
             for k, v in model.state_dict().items() if "num_batches" not in k}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "d.pth")
    equal(models.load_weights(models.DenseNet(**options), tmp_path / "d.pth"), model)


def test_training_on_several_devices_and_another_head(tmp_path):
    torch = pytest.importorskip("torch")
    model = mlp()
    torch.save({f"module.{k}": torch.tensor(v.numpy()) for k, v in model.state_dict().items()}, tmp_path / "w.pth")
    equal(models.load_weights(mlp(), tmp_path / "w.pth"), model)
    bigger = models.create("mlp", sizes=(4, 3, 5, 2))
    with pytest.raises(StateDictError, match=r"w.pth: load_state_dict for MLP: missing: 5.weight, 5.bias .*3.weight is \(2, 3\)"):
        models.load_weights(bigger, tmp_path / "w.pth")


# --------------------------------------------------------------------------- safetensors, and other files


def test_safetensors(tmp_path):
    model = mlp()
    pydl.save(model.state_dict(), tmp_path / "w.safetensors")
    equal(models.load_weights(mlp(), tmp_path / "w.safetensors"), model)
    partly = {k: v for k, v in model.state_dict().items() if k.startswith("1.")}
    pydl.save(partly, tmp_path / "part.safetensors")
    with pytest.raises(StateDictError, match=r"part.safetensors: .*missing: 3.weight, 3.bias"):
        models.load_weights(mlp(), tmp_path / "part.safetensors")
    other = models.load_weights(mlp(), tmp_path / "part.safetensors", strict=False)
    np.testing.assert_array_equal(other.state_dict()["1.weight"].numpy(), model.state_dict()["1.weight"].numpy())


def test_what_is_no_weights(tmp_path):
    with pytest.raises(ArgumentError, match=r"ends in '.txt'; expected .safetensors"):
        models.load_weights(mlp(), tmp_path / "w.txt")
    with pytest.raises(CheckpointError, match=r"w.pth cannot be read: No such file"):
        models.load_weights(mlp(), tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"does not start as torch.save starts"):
        models.load_weights(mlp(), tmp_path / "w.pth")
    archive(tmp_path / "n.pth", pickle.dumps({"epoch": 1}, 2))
    with pytest.raises(ArgumentError, match=r"n.pth holds no state dictionary .*\['epoch'\]"):
        models.load_weights(mlp(), tmp_path / "n.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_truncation_and_many_damages(tmp_path, zipped):
    """A cut or changed file gives the same tensors or a clear error, never anything else."""
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "b": torch.ones(2, 2)}, buffer, _use_new_zipfile_serialization=zipped)
    whole, path, rng = buffer.getvalue(), tmp_path / "d.pth", np.random.default_rng(0)
    for n in range(0, len(whole), 13):
        path.write_bytes(whole[:n])
        with pytest.raises(CheckpointError, match=r"d\.pth"):
            read_pth(path)
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            read_pth(path)
        except CheckpointError as error:
            assert "d.pth" in str(error)  # noqa: PT017


# --------------------------------------------------------------------------- malice


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("call", [(os.mkdir, "TARGET"), (exec, "open('TARGET', 'w')"), (eval, "1"), (getattr, "a", "upper")])
def test_calls_are_refused(tmp_path, call, protocol):
    target = tmp_path / "made"
    function, *arguments = call
    value = Calls(function, *(a.replace("TARGET", str(target)) for a in arguments))
    path = archive(tmp_path / "evil.pth", pickle.dumps({"weight": value}, protocol))
    with pytest.raises(CheckpointError, match=f"evil.pth .*a call of .*{function.__name__}|the instruction"):
        read_pth(path)
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps(value, protocol))
    with pytest.raises(CheckpointError):
        read_pth(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Calls(os.mkdir, str(target))))  # so pickle itself would have done it
    assert target.exists()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x80\x02cos\nsystem\n\x81.", "the instruction NEWOBJ"),
        (b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n.", "the instruction INST"),
        (b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00lso.", "the instruction OBJ"),
        (b"\x80\x02cos\nsystem\n}b.", "attributes of what is no dictionary"),
        (b"\x80\x02}cos\nsystem\nb.", "attributes of what is no dictionary"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02N\x85R.", "damaged"),
        (b"\x80\x02K\x01N\x85R.", "a call of what is no function"),
        (b"\x80\x02Q.", "damaged"),
        (b"\x80\x02K\x01Q.", "an outside object that is no storage"),
        (b"\x80\x02}](K\x01K\x02es.", "damaged"),
        (b"\x80\x02}]K\x01s.", "a key that is neither text nor number"),
        (b"\x80\x02K\x01N\x61.", "no list"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02", "damaged"),
    ],
)
def test_hostile_instructions(tmp_path, data, match):
    with pytest.raises(CheckpointError, match=match):
        read_pth(archive(tmp_path / "evil.pth", data))


def test_tensors_stay_inside_their_storage(tmp_path):
    memory = np.arange(6, dtype="<f4").tobytes()
    path = tmp_path / "t.pth"
    good = read_pth(archive(path, by_hand(6, 1, (2, 2), (3, 1)), **{"0": memory}))
    assert good["w"].tolist() == [[1, 2], [4, 5]]
    for wrong in ((6, 2, (2, 2), (3, 1)), (6, 0, (7,), (1,)), (6, 0, (2, 4), (1, 1)), (6, 0, (1000, 1000), (0, 0))):
        with pytest.raises(CheckpointError, match="reaches beyond its storage of 6 elements"):
            read_pth(archive(path, by_hand(*wrong), **{"0": memory}))
    for wrong in ((6, -1, (2,), (1,)), (6, 0, (-2,), (1,)), (6, 5, (2,), (-1,)), (6, 0, (2, 2), (1,))):
        with pytest.raises(CheckpointError, match="a tensor is described wrongly"):
            read_pth(archive(path, by_hand(*wrong), **{"0": memory}))
    with pytest.raises(CheckpointError, match="storage 0 is missing or too short"):
        read_pth(archive(path, by_hand(2**30, 0, (2,), (1,)), **{"0": memory}))
    with pytest.raises(CheckpointError, match=r"storage \.\./x is missing"):
        read_pth(archive(path, by_hand(6, 0, (2,), (1,), key="../x"), **{"0": memory}))
    with pytest.raises(CheckpointError, match=r"type torch.QInt8Storage, which pydl cannot hold"):
        read_pth(archive(path, by_hand(6, 0, (2,), (1,), kind="QInt8Storage"), **{"0": memory}))


def test_compressed_archives_are_refused(tmp_path):
    """A small file cannot ask for a large memory."""
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", by_hand(1 << 20, 0, (2,), (1,)))
        file.writestr("a/data/0", bytes(4 << 20))
    with pytest.raises(CheckpointError, match="compressed members"):
        read_pth(tmp_path / "bomb.pth")
