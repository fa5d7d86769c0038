"""The command line: what it prints, its errors and its exit codes."""

import json
import subprocess
import sys

import pytest

import pydl
from pydl import cli, environment, models

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
