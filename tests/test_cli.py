"""The command line: what it prints, its errors and its exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pydl
from pydl import cli, environment, models, nn
from pydl.data.fetch import FetchError
from pydl.data.pictures import photograph
from pydl.errors import ArgumentError
from pydl.nn.module import StateDictError

NET = """
from pydl import nn

class Net(nn.Module):
    def __init__(self, width=4, kind="plain"):
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, x):
        return self.layer(x)

ready = nn.Linear(3, 2)
number = 3

def not_a_model():
    return 1
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "some_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "some_net.py"
    sys.modules.pop("some_net", None)


def run(capsys, *argv):
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def child(*argv, **environ):
    import os

    return subprocess.run([sys.executable, "-m", "pydl", *argv], capture_output=True, text=True, env={**os.environ, **environ})


# --------------------------------------------------------------------------- info


def test_info_as_a_module():
    done = child("info", PYDL_NUM_THREADS="3", PYDL_ISA="generic", PYDL_POOL="0")
    assert done.returncode == 0, done.stderr
    assert f"pydl             {pydl.__version__} in " in done.stdout
    assert "generic (PYDL_ISA), available: generic" in done.stdout
    assert "threads          3, from: PYDL_NUM_THREADS" in done.stdout
    assert "memory pool      off (PYDL_POOL=0)" in done.stdout
    assert "numpy " in done.stdout


def test_threads_say_where_the_number_comes_from():
    def source(**environ):
        return json.loads(child("info", "--json", **environ).stdout)["threads"]

    listed = source(OMP_NUM_THREADS="2,1", PYDL_NUM_THREADS="")
    assert (listed["used"], listed["source"], listed["ignored"]) == (2, "OMP_NUM_THREADS", [])
    both = source(OMP_NUM_THREADS="2", PYDL_NUM_THREADS="5")
    assert (both["used"], both["source"]) == (5, "PYDL_NUM_THREADS")
    wrong = source(OMP_NUM_THREADS="", PYDL_NUM_THREADS="many")
    assert wrong["ignored"] == ["PYDL_NUM_THREADS=many: not a positive number"]
    assert wrong["source"] in ("CPU affinity", "cgroup CPU quota", "all CPUs of the machine")


def test_threads_after_set_num_threads(monkeypatch):
    monkeypatch.setenv("PYDL_NUM_THREADS", "7")
    before = pydl.get_num_threads()
    pydl.set_num_threads(2)
    try:
        assert environment.threads()["source"].startswith("pydl.set_num_threads")
    finally:
        pydl.set_num_threads(before)


def test_missing_extras_come_with_the_command(monkeypatch, capsys):
    version = environment._version
    monkeypatch.setattr(environment, "_version", lambda name: None if name in ("Pillow", "numpy") else version(name))
    code, out, _ = run(capsys, "info")
    assert code == 0
    assert "numpy MISSING" in out
    assert "vision: missing Pillow: pip install 'pydl[vision]'" in out


def test_requirements_from_the_installed_package(monkeypatch):
    lines = ["numpy>=2.0", 'Pillow>=10; extra == "vision"', "matplotlib>=3.8; extra == 'plot'"]
    monkeypatch.setattr(environment, "_requirement_lines", lambda: lines)
    assert environment._requirements() == (["numpy"], {"vision": ["Pillow"], "plot": ["matplotlib"]})


# --------------------------------------------------------------------------- summary


def test_summary_of_a_registered_name(capsys):
    code, out, err = run(capsys, "summary", "mlp")
    assert (code, err) == (0, "")
    assert "109,386" in out  # 785*128 + 129*64 + 65*10


def test_summary_passes_arguments_and_shapes(capsys):
    code, out, _ = run(capsys, "summary", "mlp", "--arg", "sizes=(6, 5, 2)", "--input", "4x2x3", "--depth", "0")
    assert code == 0
    assert "4x2" in out
    assert f"{7 * 5 + 6 * 2}" in out
    assert "(model)" in out


@pytest.mark.parametrize("place", ["some_net", "some_net.py", "./some_net.py"])
def test_summary_of_a_class_elsewhere(net, capsys, place):
    code, out, err = run(capsys, "summary", f"{place}:Net", "--input", "2x3", "--arg", "width=5", "--arg", "kind=text")
    assert code == 0, err
    assert "2x5" in out


def test_summary_of_a_ready_module(net, capsys):
    assert run(capsys, "summary", "some_net:ready", "--input", "1x3")[0] == 0


@pytest.mark.parametrize(("argv", "message"), [
    (["mlpp"], "no network is called 'mlpp'; did you mean mlp"),
    (["some_net:Net"], "which input shape? Give it with the batch axis: --input"),
    (["some_net:Nett", "--input", "1x3"], "there is no 'Nett'; defined there: Net, not_a_model"),
    (["some_net:number", "--input", "1x3"], "is int, neither a module nor something that makes one"),
    (["some_net:not_a_model", "--input", "1x3"], "made int, expected a pydl.nn.Module"),
    (["some_net:Net", "--input", "1x3", "--arg", "wide=3"], "unexpected keyword argument 'wide'"),
    (["some_net:Net", "--input", "1x3", "--arg", "width"], "--arg width: expected NAME=VALUE"),
    (["some_net:ready", "--input", "1x3", "--arg", "width=3"], "takes no --arg"),
    (["some_net:Net", "--input", "1x7"], "[linear] input of shape (1, 7)"),
    (["some_net:Net", "--input", "1x3", "--dtype", "float31"], "--dtype float31: no such element type"),
    (["no_such_module:Net", "--input", "1x3"], "cannot be imported: No module named 'no_such_module'"),
    (["nowhere/net.py:Net", "--input", "1x3"], "no such file"),
])  # fmt: skip
def test_errors_explain_and_exit_with_1(net, capsys, argv, message):
    code, out, err = run(capsys, "summary", *argv)
    assert (code, out) == (1, "")
    assert err.startswith("pydl summary: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("argv", [[], ["summary"], ["nonsense"], ["summary", "mlp", "--input", "1xA"]])
def test_wrong_command_lines_exit_with_2(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: pydl" in capsys.readouterr().err


# --------------------------------------------------------------------------- predict


@pytest.fixture
def pictures(tmp_path):
    """A colour picture, a grey one, a file cut in its middle, and a file that is no picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    whole = (tmp_path / "colour.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    return tmp_path


@pytest.fixture
def lenet(tmp_path):
    """LeNet-5 that answers 7 to everything."""
    model = models.create("lenet5")
    nn.init.zeros_(model.output.weight)
    nn.init.zeros_(model.output.bias)
    model.output.bias.data[7] = 3.0
    pydl.save(model.state_dict(), tmp_path / "seven.safetensors")
    return tmp_path / "seven.safetensors"


def test_predict_prints_the_top_classes_and_saves_the_picture(pictures, lenet, capsys):
    out = pictures / "annotated.png"
    code, text, err = run(capsys, "predict", "lenet5", "--weights", str(lenet), str(pictures / "colour.png"), "--top", "3",
                          "--out", str(out))  # fmt: skip
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[0].split() == [f"{100 * np.exp(3) / (np.exp(3) + 9):.2f}", "%", "class", "7", "(7)"]
    assert len(lines) == 4
    assert lines[3] == f"picture: {out}"
    with Image.open(out) as image:
        assert image.width > image.height > 300


def test_predict_several_pictures_with_names(pictures, lenet, capsys):
    (pictures / "names.txt").write_text("\n".join("zero one two three four five six SEVEN eight nine".split()))
    files = [str(pictures / f) for f in ("colour.png", "grey.png")]
    code, text, err = run(capsys, "predict", "lenet5", "--weights", str(lenet), "--top", "1", "--classes",
                          str(pictures / "names.txt"), "--out", str(pictures / "out"), *files)  # fmt: skip
    assert (code, err) == (0, "")
    assert text.count("SEVEN") == 2
    assert sorted(p.name for p in (pictures / "out").iterdir()) == ["colour-annotated.png", "grey-annotated.png"]


def test_predict_errors(pictures, lenet, capsys):
    """Damaged pictures, wrong weights, wrong channels, too small: each says which file and what to do."""
    model = models.create("alexnet", num_classes=3, width=0.05, hidden=4)
    pydl.save(model.state_dict(), pictures / "alex.safetensors")
    alex = ["--arg", "num_classes=3", "--arg", "width=0.05", "--arg", "hidden=4"]
    weights = {"lenet5": [str(lenet)], "alexnet": [str(pictures / "alex.safetensors"), *alex]}
    for network, more, picture, message in [
        ("lenet5", [], "cut.png", "cut.png cannot be read as an image: it is damaged"),
        ("lenet5", [], "text.jpg", "text.jpg cannot be read as an image: no format that Pillow knows"),
        ("lenet5", [], "nothing.png", "nothing.png cannot be read: No such file"),
        ("lenet5", ["--arg", "in_channels=3"], "colour.png", "c1.weight is (6, 1, 5, 5), expected (6, 3, 5, 5)"),
        ("lenet5", ["--weights", str(pictures / "alex.safetensors")], "colour.png", "alex.safetensors: "),
        ("lenet5", ["--weights", "imagenet"], "colour.png", "no package carries weights 'imagenet' for lenet5: there are "),
        ("lenet5", ["--classes", str(pictures / "cut.png")], "colour.png", "cut.png: cannot be read"),
        ("lenet5", ["--top", "0"], "colour.png", "top=0; expected 1 or more"),
        ("lenet5", ["--size", "28"], "colour.png", "--size 28: expected height and width"),
        ("alexnet", ["--size", "40x40"], "colour.png",
         "colour.png, brought to 40 x 40, does not go through AlexNet: in module features.12"),
    ]:  # fmt: skip
        code, out, err = run(capsys, "predict", network, "--weights", *weights[network], *more, str(pictures / picture))
        assert (code, out) == (1, ""), message
        assert err.startswith("pydl predict: ")
        assert message in err
        assert "Traceback" not in err


def test_predict_with_a_network_of_many_channels(pictures, capsys):
    pydl.save(models.create("lenet5", in_channels=5).state_dict(), pictures / "w.safetensors")
    code, _, err = run(capsys, "predict", "lenet5", "--arg", "in_channels=5", "--weights", str(pictures / "w.safetensors"),
                       str(pictures / "colour.png"))  # fmt: skip
    assert code == 1
    assert "takes images of 5 channels; a picture has 1 (grey), 3 (colour)" in err


def test_weights_of_another_network_are_said_to_be(tmp_path):
    pydl.save(models.create("mobilenet_v1", width=0.25).state_dict(), tmp_path / "other.safetensors")
    model = models.create("resnet18", width=4)
    with pytest.raises(StateDictError, match=r"other.safetensors: these seem to be the weights of another network") as e:
        models.load_weights(model, tmp_path / "other.safetensors")
    assert len(str(e.value)) < 800


def test_predict_published_weights(tmp_path, capsys):
    """A cat, a cup of espresso and a motorcycle, as the weights' publisher sees them."""
    try:
        files = [str(photograph(n, download=True)) for n in ("chelsea", "coffee", "motorcycle_left")]
        models.fetch_pretrained("efficientnet_lite0", download=True)
        models.imagenet_classes(download=True)
    except FetchError as error:
        pytest.skip(str(error).splitlines()[0])
    code, text, err = run(capsys, "predict", "efficientnet_lite0", "--weights", "imagenet", "--top", "1", *files)
    assert (code, err) == (0, "")
    found = text.splitlines()[1::2]
    assert [line.rpartition("(")[2] for line in found] == ["285)", "967)", "665)"]
    assert "Egyptian cat" in found[0]
    assert "espresso" in found[1]
    assert float(found[1].split()[0]) == pytest.approx(94.0, abs=0.5)
    model = models.create("efficientnet_lite0", weights="imagenet", num_classes=8)
    assert model.fc.out_features == 8


def test_published_weights_that_are_not_there(tmp_path, monkeypatch, capsys):
    with pytest.raises(models.WeightsNotFoundError, match=r'provides it: pydl.models.fetch_pretrained\("g2p"'):
        models.load_pretrained("g2p", root=tmp_path)
    with pytest.raises(ArgumentError, match=r"no package carries weights 'imagenet' for g2p: .* g2p with weights='cmudict'"):
        models.published("g2p", "imagenet")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, _, err = run(capsys, "predict", "efficientnet_lite0", "--weights", "imagenet", "x.jpg")
    assert code != 0
    assert err.rstrip().endswith("or --download")


def test_version_and_list(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pydl {pydl.__version__}\n"
    code, out, _ = run(capsys, "summary", "--list")
    assert code == 0
    assert out.split() == models.list()


def test_a_reader_that_stops_early_is_no_error():
    script = f'"{sys.executable}" -m pydl info | head -1; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
