"""A run that was interrupted anywhere, by anything, ends with the bits of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_run

import pydl
from pydl.train import Callback, CheckpointError, latest, load_checkpoint

PROGRAM = Path(small_run.__file__)


class Stop(Exception):
    pass


class StopAt(Callback):
    """Raises after some step, as a crash would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, loss):
        if trainer.step == self.step:
            raise Stop


class Nothing(Callback):
    pass


Nothing.__name__ = "StopAt"


def final(out):
    """All bytes that a run leaves: model, optimizer, schedule, generators, history."""
    return {p.name: p.read_bytes() for p in (latest(out / "checkpoints"), out / "history.csv", out / "best.safetensors")}


def run(data, out, epochs=3, resume=True, callback=None, batch_size=20, **options):
    trainer = small_run.trainer(out, callbacks=[callback or Nothing()], **options)
    trainer.fit(*small_run.loaders(data, batch_size), epochs, resume=resume)
    return trainer


def differing(a, b):
    """Names of the files that differ (a comparison of the dictionaries would print megabytes)."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The bytes of an uninterrupted run, 30 steps in 3 epochs."""
    out = tmp_path_factory.mktemp("whole")
    run(data, out)
    return final(out)


@pytest.mark.parametrize("step", [1, 7, 10, 11, 19, 20, 25, 30])
@pytest.mark.parametrize("every", [1, 4, None])
def test_a_crash_at_any_step_changes_no_bit(data, tmp_path, whole, step, every):
    with pytest.raises(Stop):
        run(data, tmp_path, callback=StopAt(step), checkpoint_every=every)
    pydl.manual_seed(77)  # a new process would have another state too
    run(data, tmp_path, checkpoint_every=every)
    assert not differing(final(tmp_path), whole)


def test_a_run_in_pieces_of_one_epoch(data, tmp_path, whole):
    for epochs in (1, 2, 3):
        run(data, tmp_path, epochs)
    assert not differing(final(tmp_path), whole)


def test_the_whole_run_depends_on_what_is_compared(data, tmp_path, whole):
    run(data, tmp_path, seed=1)
    changed = final(tmp_path)
    assert all(changed[name] != whole[name] for name in whole)


def test_accumulated_batches_and_uneven_ends(data, tmp_path):
    options = {"batch_size": 30, "accumulate": 3, "checkpoint_every": 1}  # 7 batches, the last has 20: steps of 3, 3, 1
    run(data, tmp_path / "whole", **options)
    for step in (1, 2, 3, 4):
        out = tmp_path / str(step)
        with pytest.raises(Stop):
            run(data, out, callback=StopAt(step), **options)
        run(data, out, **options)
        assert not differing(final(out), final(tmp_path / "whole"))


def test_loaders_without_a_position_are_replayed(data, tmp_path):
    batches = [(pydl.tensor(data["x"][i : i + 20]), pydl.tensor(data["y"][i : i + 20])) for i in range(0, 200, 20)]

    def go(out, callback=None):
        trainer = small_run.trainer(out, callbacks=[callback or Nothing()], checkpoint_every=3)
        trainer.fit(batches, batches[:2], 2, resume=True)
        return final(out)

    expected = go(tmp_path / "whole")
    with pytest.raises(Stop):
        go(tmp_path / "pieces", StopAt(17))
    assert not differing(go(tmp_path / "pieces"), expected)


def test_resume_from_a_named_checkpoint(data, tmp_path, whole):
    run(data, tmp_path, checkpoint_every=7, keep=10)
    names = [p.name for p in (tmp_path / "checkpoints").iterdir()]
    assert sorted(int(n.split("-")[1].split(".")[0]) for n in names) == [7, 10, 14, 20, 21, 28, 30]
    run(data, tmp_path, resume=tmp_path / "checkpoints" / "checkpoint-000000014.safetensors", keep=10)
    assert not differing(final(tmp_path), whole)
    # What came after step 14 in the first run is gone: it is no part of this one.
    assert [load_checkpoint(p)["position"]["step"] for p in sorted((tmp_path / "checkpoints").iterdir())] == [7, 10, 14, 20, 30]


def test_starting_anew_replaces_an_older_run(data, tmp_path, whole):
    run(data, tmp_path, epochs=5)
    trainer = run(data, tmp_path, resume=False)
    assert trainer.step == 30
    assert not differing(final(tmp_path), whole)


def test_a_finished_run_is_not_trained_again(data, tmp_path, whole):
    run(data, tmp_path)
    assert run(data, tmp_path).step == 30
    assert not differing(final(tmp_path), whole)


class TestDamage:
    def newest(self, data, out):
        run(data, out, epochs=2, checkpoint_every=4)
        return latest(out / "checkpoints")

    @pytest.mark.parametrize("kind", ["truncated", "flipped", "foreign", "empty"])
    def test_it_stops_with_a_clear_message_and_falls_back_when_told_to(self, data, tmp_path, whole, kind):
        path = self.newest(data, tmp_path)
        good = path.read_bytes()
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 4
        path.write_bytes({"truncated": good[:-100], "flipped": flipped, "foreign": b"not ours" * 50, "empty": b""}[kind])
        word = {"truncated": "truncated", "flipped": "checksum", "foreign": "not a safetensors file", "empty": "truncated"}
        with pytest.raises(CheckpointError) as error:
            run(data, tmp_path)
        assert str(path) in str(error.value)
        assert word[kind] in str(error.value)
        assert "fallback=True would continue from the previous good one" in str(error.value)
        assert "checkpoint-000000016" in str(error.value)
        trainer = small_run.trainer(tmp_path, callbacks=[Nothing()])
        trainer.fit(*small_run.loaders(data), 3, resume=True, fallback=True)
        assert not differing(final(tmp_path), whole)

    def test_a_checkpoint_of_another_model(self, data, tmp_path, monkeypatch):
        path = self.newest(data, tmp_path)
        monkeypatch.setattr(small_run, "network", lambda: pydl.nn.Sequential(pydl.nn.Flatten(), pydl.nn.Linear(40, 10)))
        with pytest.raises(CheckpointError, match=f"{path} does not fit this trainer: .*missing.*resume=False to start anew"):
            run(data, tmp_path)

    def test_a_checkpoint_with_other_parts(self, data, tmp_path):
        path = self.newest(data, tmp_path)
        with pytest.raises(CheckpointError, match=f"{path} does not fit this trainer: scheduler is missing here"):
            run(data, tmp_path, scheduler=None)
        with pytest.raises(CheckpointError, match="with other callbacks or metrics"):
            run(data, tmp_path, metrics={})


class TestSignals:
    def start(self, data, tmp_path, *options):
        np.savez(tmp_path / "data.npz", **data)
        arguments = [sys.executable, str(PROGRAM), str(tmp_path / "data.npz"), str(tmp_path / "out"), *options]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())

    def whole_run(self, data, folder, *options):
        folder.mkdir()
        assert self.start(data, folder, *options).communicate(timeout=60)[0].endswith("finished\n")
        return final(folder / "out")

    def test_control_c_finishes_the_step_saves_and_says_how_to_go_on(self, data, tmp_path):
        whole = self.whole_run(data, tmp_path / "whole")
        for _ in range(3):  # in three pieces
            process = self.start(data, tmp_path, "--pause", "0.05")
            wait_until_training(process)
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            assert (process.returncode, "stopping after this step" in err) == (0, True), err
            assert out.endswith("interrupted\n")
            path = latest(tmp_path / "out" / "checkpoints")
            assert f"saved as {path}; fit(..., resume='auto') goes on from there" in out
            assert load_checkpoint(path)["position"]["step"] > 0
        process = self.start(data, tmp_path)
        assert process.communicate(timeout=30)[0].endswith("finished\n")
        assert not differing(final(tmp_path / "out"), whole)

    def test_a_second_control_c_stops_at_once(self, data, tmp_path):
        process = self.start(data, tmp_path, "--pause", "20")
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "stopping after this step" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=10)[1]

    def test_the_handler_is_put_back(self, data, tmp_path):
        class Press(Callback):
            def on_step_end(self, trainer, loss):
                if trainer.step == 3:
                    os.kill(os.getpid(), signal.SIGINT)

        before = signal.getsignal(signal.SIGINT)
        trainer = run(data, tmp_path, callback=Press())
        assert trainer.interrupted
        assert trainer.step == 3
        assert signal.getsignal(signal.SIGINT) is before
        assert trainer.evaluate(small_run.loaders(data)[1])["loss"] > 0  # an earlier Ctrl-C does not cut this short

    def test_control_c_during_validation(self, data, tmp_path, whole, monkeypatch):
        pressed = []

        class Press(small_run.Accuracy):
            def update(self, output, target):
                super().update(output, target)
                if not output.requires_grad and len(target) == 50 and not pressed:
                    pressed.append(1)
                    pydl.rand(3)
                    os.kill(os.getpid(), signal.SIGINT)

        trainer = run(data, tmp_path, metrics={"accuracy": Press()})
        assert (trainer.interrupted, trainer.step, trainer.epoch, len(trainer.history)) == (True, 10, 0, 0)
        run(data, tmp_path)
        assert not differing(final(tmp_path), whole)

    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_twenty_kills_at_random_moments(self, data, tmp_path):
        epochs = 40
        whole = self.whole_run(data, tmp_path / "whole", "--epochs", str(epochs))
        rng, steps = random.Random(5), []
        for _ in range(20):
            process = self.start(data, tmp_path, "--epochs", str(epochs), "--every", "1", "--pause", "0.002")
            wait_until_training(process)
            time.sleep(rng.uniform(0, 0.15))
            assert process.poll() is None, "the run was over before it could be killed"
            process.kill()
            process.communicate()
            path = latest(tmp_path / "out" / "checkpoints")
            steps.append(load_checkpoint(path)["position"]["step"] if path else 0)
        assert steps == sorted(steps)
        assert 0 < steps[-1] < 10 * epochs
        process = self.start(data, tmp_path, "--epochs", str(epochs))
        assert process.communicate(timeout=60)[0].endswith("finished\n")
        assert not differing(final(tmp_path / "out"), whole)


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}


def wait_until_training(process):
    for line in process.stdout:
        if line == "training\n":
            return
    raise AssertionError(process.stderr.read())
