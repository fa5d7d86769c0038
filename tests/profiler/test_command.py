"""`pydl profile`: what it prints and what it saves."""

import json

import pytest

import pydl
from pydl import _core, cli, profiler
from pydl.profiler import MachineLimits

NET = """
from pydl import nn

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        return {"score": self.out(self.embedding(x).mean(1))}
"""


@pytest.fixture(autouse=True)
def quick_limits(monkeypatch):
    limits = MachineLimits(_core.isa(), 1, {_core.isa(): (50.0, 50.0)}, (8.0, 8.0), (9.0, 9.0), 0.5, 9.0)
    for place in ("result", "command"):
        monkeypatch.setattr(f"pydl.profiler.{place}.machine_limits", lambda threads=None: limits)


def run(capsys, *argv):
    code = cli.main(["profile", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_training_is_reported_and_saved(capsys, tmp_path):
    before = pydl.get_num_threads()
    try:
        arguments = ("--train", "--steps", "2", "--threads", "1", "--out", tmp_path)
        code, out, err = run(capsys, "lenet5", "--input", "4x1x28x28", *arguments)
    finally:
        pydl.set_num_threads(before)
    assert (code, err) == (0, "")
    for text in ("operations (milliseconds per step, 2 steps)", "conv backward", "optimizer_step", "modules with all their parts",
                 "layers, forward and backward", "native kernels", "zero_grad", "% roof", "50 GFLOP/s"):  # fmt: skip
        assert text in out
    assert {p.name for p in tmp_path.iterdir()} == {"roofline.png", "memory.png", "trace.json", "profile.json.gz", "tables.txt"}
    saved = profiler.load(tmp_path / "profile.json.gz")
    assert saved.about["model"] == "lenet5"
    assert saved.about["threads"] == 1
    assert len(saved.steps) == 2
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert "conv backward" in (tmp_path / "tables.txt").read_text()

    code, out, _ = run(capsys, "lenet5", "--input", "4x1x28x28", "--steps", "1", "--compare", tmp_path / "profile.json.gz")
    assert code == 0
    assert "before and after" in out
    assert "conv backward" in out  # of the earlier profile
    assert "zero_grad" not in out


def test_token_inputs_stay_inside_the_embedding(capsys, tmp_path):
    (tmp_path / "words.py").write_text(NET)
    code, out, err = run(capsys, f"{tmp_path / 'words.py'}:Words", "--input", "16x5", "--dtype", "int64", "--train")
    assert (code, err) == (0, "")
    assert "embedding backward" in out


def test_wrong_use(capsys, tmp_path):
    code, _, err = run(capsys, "lenet5", "--compare", tmp_path / "none.json")
    assert code == 1
    assert "none.json cannot be read" in err
    with pytest.raises(SystemExit) as info:
        run(capsys, "lenet5", "--steps", "0")
    assert info.value.code == 2
    assert "'0' is not a positive number" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(capsys)
    assert "MODEL is required" in capsys.readouterr().err
