"""The benchmarks' networks are the published ones, both packages build them alike, and a small run works from end to end."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pydl

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="benchmarks/ is in the source folder only")


@pytest.fixture(scope="module", autouse=True)
def source_folder():
    sys.path.append(str(ROOT))  # at the end: pydl itself is the installed one
    yield
    sys.path.remove(str(ROOT))


COUNTS = {
    "mlp": 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10, "lenet5": 61_706, "alexnet": 61_100_840, "vgg16": 138_357_544,
    "resnet18": 11_689_512, "resnet50": 25_557_032, "googlenet": 6_624_904, "densenet121": 7_978_856, "unet": 31_037_698,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_networks_have_the_published_numbers_of_parameters(name):
    from benchmarks.cases import CASES

    with pydl.nn.init.skip():
        model = CASES[name].build(pydl)
    assert sum(p.data.size for p in model.parameters()) == COUNTS[name]


def test_batches_are_those_of_the_targets():
    from benchmarks.cases import CASES

    assert len(CASES) == 13
    rng = np.random.default_rng(0)
    sizes = {name: CASES[name].batch(rng)[0].shape for name in ("resnet18", "unet", "lstm", "transformer")}
    assert sizes == {"resnet18": (16, 3, 224, 224), "unet": (4, 3, 128, 128), "lstm": (32, 64), "transformer": (8, 64)}
    x, y = CASES["lstm"].batch(rng)
    assert y.shape == (32 * 64,)
    np.testing.assert_array_equal(x[:, 1:], y.reshape(32, 64)[:, :-1])  # the next word


def test_forms_of_both_sides():
    from benchmarks.peers import OURS, peer_forms
    from benchmarks.steps import chosen

    assert list(peer_forms(False, True)) == ["eager", "huge-pages", "compile"]
    full = peer_forms(True, False)
    assert list(full) == ["eager", "fused", "channels-last", "huge-pages", "channels-last+huge-pages", "compile"]
    assert full["channels-last+huge-pages"].options == ("channels-last", "fused")
    assert "hugetlb" in full["huge-pages"].environment["GLIBC_TUNABLES"]
    assert list(chosen(full, ["eager", "captured"])) == ["eager"]
    assert list(chosen(OURS, ["compile"])) == ["eager", "captured"]  # none of its own: all


def test_table_and_chart_of_steps(tmp_path):
    from rich.console import Console

    from benchmarks import report, steps

    def row(case, mine, peer):
        tried = {"pydl": {"eager": {"seconds": 2 * mine, "warm_up": 0.1}, "captured": {"seconds": mine, "warm_up": 0.1}},
                 "peer": {"eager": {"seconds": 2 * peer, "warm_up": 0.1}, "compile": {"seconds": peer, "warm_up": 91.0}}}
        return {"case": case, "ratio": peer / mine, "best": {"pydl": "captured", "peer": "compile"},
                "pydl": dict.fromkeys(("median", "low", "high"), mine), "peer": dict.fromkeys(("median", "low", "high"), peer),
                "tried": tried, "failed": {"pydl": {}, "peer": {"fused": "no optimizer"}},
                "memory": {"pydl": 10_000_000, "peer": 40_000_000}}  # fmt: skip

    rows = [row("mlp", 0.001, 0.002), row("gru", 0.004, 0.032)]
    console = Console(width=220, file=(tmp_path / "t.txt").open("w+"))
    console.print(steps.table(rows, "title"))
    console.file.seek(0)
    text = console.file.read()
    console.file.close()
    assert "2.00x" in text
    assert "8.00x" in text
    assert "4.00x" in text  # the geometric mean
    assert "0.25x" in text
    assert " ".join(text.split()).count("captured") >= 2
    assert "(after 91 s)" in text
    assert "not used: no optimizer" in text
    assert "| gru | 4 | captured | 32 | compile | 8.00x | 0.25x |" in steps.markdown(rows, "training step")
    assert report.bars(tmp_path / "b.png", rows, "title").stat().st_size > 5000


def test_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    from benchmarks import __main__ as command
    from benchmarks import steps

    asked = []

    def run(cases, threads, rounds, inference, autocast, forms):
        for case in cases:
            asked.append(case)
            if case == "gru":
                raise KeyboardInterrupt
            same = dict.fromkeys(("median", "low", "high"), 1.0)
            tried = {"eager": {"seconds": 1.0, "warm_up": 0.1}}
            yield {"case": case, "ratio": 1.0, "best": {"pydl": "eager", "peer": "eager"}, "pydl": same, "peer": same,
                   "tried": {"pydl": tried, "peer": tried}, "failed": {"pydl": {}, "peer": {}},
                   "memory": {"pydl": 1, "peer": 1}, "threads": threads, "inference": inference,
                   "autocast": autocast, "rounds": rounds, "forms": sorted(forms)}  # fmt: skip

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        command.main()

    monkeypatch.setattr(steps, "run", run)
    file = tmp_path / "steps.json"
    with pytest.raises(KeyboardInterrupt):
        start("steps", "--case", "mlp", "gru", "--json", str(file))
    assert [row["case"] for row in json.loads(file.read_text())["rows"]] == ["mlp"]
    start("steps", "--case", "lenet5", "mlp", "--json", str(file), "--resume")
    assert asked == ["mlp", "gru", "lenet5"]
    assert [row["case"] for row in json.loads(file.read_text())["rows"]] == ["mlp", "lenet5"]
    with pytest.raises(SystemExit, match="mlp was measured with inference = False, asked is True"):
        start("steps", "--json", str(file), "--resume", "--inference")
    with pytest.raises(SystemExit, match="mlp was measured with rounds = 9, asked is 3"):
        start("steps", "--json", str(file), "--resume", "--rounds", "3")
    with pytest.raises(SystemExit, match=r"mlp was measured with forms = .*, asked is .'eager'.: give another --json"):
        start("steps", "--json", str(file), "--resume", "--forms", "eager")
    for arguments, message in [
        (("kernels", "--resume"), "--resume is for steps, not for kernels"),
        (("steps", "--resume"), "--resume needs the --json"),
        (("roofline", "--autocast"), "--autocast is for steps, not for roofline"),
        (("profiler", "--inference"), "--inference is for steps, memory, threads, not for profiler"),
        (("steps", "--processor-time"), "--processor-time is for kernels, not for steps"),
        (("kernels", "--case", "mlp"), "--case is for steps, memory, threads, profiler, roofline, not for kernels"),
        (("steps", "--family", "conv"), "--family is for kernels, not for steps"),
        (("threads", "--forms", "eager"), "--forms is for steps, not for threads"),
        (("memory", "--rounds", "3"), "not for memory"),
        (("vision", "--json", "out.json"), "not for vision"),
    ]:
        with pytest.raises(SystemExit):
            start(*arguments)
        assert message in capsys.readouterr().err


def test_steps_beside_the_limits(tmp_path, monkeypatch, capsys):
    from benchmarks import __main__ as command

    json_file, markdown = tmp_path / "rows.json", tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "roofline", "--case", "lenet5", "--rounds", "1", "--json", str(json_file),
                                      "--markdown", str(markdown)])  # fmt: skip
    command.main()
    (row,) = json.loads(json_file.read_text())["rows"]
    assert 0 < row["python"] < row["seconds"]
    assert row["least"] >= row["flops"] / row["gflops"] / 1e9 * 0.999
    assert len(row["above"]) == 3
    (name, wall, least), *_ = row["above"]
    assert wall > least
    assert f"{row['least'] / row['seconds']:.0%}" in markdown.read_text()
    assert name in markdown.read_text()
    assert "lenet5" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch, the peer, is not installed")
def test_a_small_run_of_each(tmp_path):
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")  # without the sources of pydl beside it, as above

    def run(*arguments):
        file = tmp_path / "rows.json"
        env = {**os.environ, "PYDL_NUM_THREADS": "1"}
        env.pop("PYTHONSAFEPATH", None)
        command = [sys.executable, "-m", "benchmarks", *arguments, "--rounds", "1", "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(file.read_text())

    found = run("steps", "--case", "mnist1d", "--inference", "--forms", "eager", "captured", "huge-pages")
    (row,) = found["rows"]
    assert row["ratio"] == pytest.approx(row["peer"]["median"] / row["pydl"]["median"])
    assert set(row["tried"]["peer"]) == {"eager", "huge-pages"}
    assert set(row["tried"]["pydl"]) == {"eager", "captured"}
    assert row["best"]["pydl"] in row["tried"]["pydl"]
    assert found["machine"]["limits"]["fma"]
    rows = run("kernels", "--only", "layer norm 512x512")["rows"]
    assert {r["direction"] for r in rows} == {"forward", "backward"}
    assert all(r["gflops"] > 0 and r["roofline"] > 0 for r in rows)
    (row,) = run("profiler", "--case", "mnist1d")["rows"]
    assert row["operations"] > 10
    assert min(row["plain"], row["recorded"], row["rows"], row["ratio"]) > 0
