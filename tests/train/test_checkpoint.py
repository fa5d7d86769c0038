"""Files are whole or absent, hold any nesting of state, and every damaged byte is noticed."""

import math
import os
import subprocess
import sys
from stat import S_ISDIR

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import pydl
from pydl.errors import ArgumentError
from pydl.train.checkpoint import Checkpoints, latest, load_checkpoint, save_checkpoint
from pydl.train.storage import CheckpointError, atomic_write, temporary_name

DTYPES = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split()


def same(a, b):
    """Equal in type, value, dtype and bits."""
    if isinstance(a, pydl.Tensor):
        assert isinstance(b, pydl.Tensor)
        a, b = a.data, b.data
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (math.isnan(a) and math.isnan(b)))


def state(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "model": {"conv.weight": pydl.tensor(rng.normal(size=(3, 2, 5)).astype(np.float32)), "steps": pydl.tensor(7)},
        "optimizer": {"state": {0: {"step": 3, "buffer": pydl.tensor(rng.normal(size=4))}}, "groups": [{"b": (0.9, 1.0)}]},
        "rng": {"key": 2**63 + 5, "array": rng.integers(0, 9, 4)},
        "best": math.inf, "worst": -math.inf, "nothing": math.nan, "third": 1 / 3, "name": "ü\"}{", "none": None,
        "yes": True, "empty": [{}, [], ()], "$odd": {"$tensor": "x"}, "numpy number": 3,
    }


def flip(path, position, mask=1):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


class TestRoundTrip:
    def test_nested_state(self, tmp_path):
        save_checkpoint(tmp_path / "c", state())
        assert same(load_checkpoint(tmp_path / "c"), state())

    def test_every_dtype_layout_and_size(self, tmp_path):
        import ml_dtypes

        rng = np.random.default_rng(1)
        arrays = {d: (rng.normal(size=(3, 5)) * 9).astype(d) for d in [*DTYPES, ml_dtypes.bfloat16]}
        arrays = {str(np.dtype(k)): v for k, v in arrays.items()}
        arrays |= {"scalar": np.array(2.5), "no elements": np.zeros((0, 3), np.float32)}
        arrays |= {"transposed": np.asfortranarray(rng.normal(size=(4, 3))), "every second": np.arange(10)[::2]}
        pydl.save(arrays, tmp_path / "a.safetensors")
        assert same(pydl.load(tmp_path / "a.safetensors"), arrays)

    def test_loaded_memory_can_be_written(self, tmp_path):
        pydl.save({"w": pydl.ones(3)}, tmp_path / "w.safetensors")
        loaded = pydl.load(tmp_path / "w.safetensors")["w"]
        loaded.add_(1)
        assert loaded.tolist() == [2, 2, 2]

    def test_other_readers_and_writers_of_safetensors(self, tmp_path):
        arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False]), "i": np.arange(3)}
        pydl.save({k: pydl.tensor(v) for k, v in arrays.items()}, tmp_path / "ours.safetensors")
        assert same(dict(sorted(load_file(tmp_path / "ours.safetensors").items())), dict(sorted(arrays.items())))
        save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
        loaded = pydl.load(tmp_path / "theirs.safetensors")
        assert same({k: loaded[k].data for k in arrays}, arrays)

    def test_names_that_meet(self, tmp_path):
        value = {"a.b": np.array(1), "a": {"b": np.array(2)}}
        pydl.save(value, tmp_path / "x")
        assert same(pydl.load(tmp_path / "x"), value)

    @pytest.mark.parametrize(
        ("bad", "named"), [({"f": print}, "builtin_function"), ({"a": [{1, 2}]}, r"a\.0 is a set"), ([1], "list")]
    )
    def test_what_cannot_be_saved(self, tmp_path, bad, named):
        with pytest.raises(ArgumentError, match=named):
            pydl.save(bad, tmp_path / "x")
        assert not list(tmp_path.iterdir())

    def test_complex_numbers_are_refused_by_name(self, tmp_path):
        with pytest.raises(ArgumentError, match="'z' has element type complex128"):
            pydl.save({"z": np.zeros(2, complex)}, tmp_path / "x")


class TestAtomic:
    def test_an_error_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "f"
        path.write_text("old")

        def fail():
            with atomic_write(path) as file:
                file.write(b"half")
                raise RuntimeError

        pytest.raises(RuntimeError, fail)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_killed_writer_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "f"
        path.write_text("old")
        code = (
            "import os, sys\nfrom pydl.train.storage import atomic_write\n"
            "with atomic_write(sys.argv[1]) as f:\n    f.write(b'half'); f.flush(); os.kill(os.getpid(), 9)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
        assert path.read_text() == "old"
        assert temporary_name(path).exists()
        with atomic_write(path) as file:
            file.write(b"new")
        assert [p.name for p in tmp_path.iterdir()] == ["f"]
        assert path.read_text() == "new"

    @pytest.mark.skipif(os.name == "nt", reason="no folder descriptors")
    def test_file_and_folder_reach_the_disk_before_and_after_the_rename(self, tmp_path, monkeypatch):
        calls = []
        replace = os.replace
        monkeypatch.setattr(os, "fsync", lambda fd: calls.append("folder" if S_ISDIR(os.fstat(fd).st_mode) else "file"))
        monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
        save_checkpoint(tmp_path / "c", {"a": 1})
        assert calls == ["file", "rename", "folder"]


class TestDamage:
    def test_any_flipped_bit_is_noticed(self, tmp_path):
        path = tmp_path / "c"
        save_checkpoint(path, {"w": np.arange(4.0), "epoch": 3, "s": "}{"})
        good = path.read_bytes()
        for position in range(len(good)):
            flip(path, position, 1 << position % 8)
            with pytest.raises(CheckpointError, match=str(path)):
                load_checkpoint(path)
            path.write_bytes(good)
        load_checkpoint(path)

    def test_any_flipped_bit_of_a_plain_file_is_noticed(self, tmp_path):
        path = tmp_path / "w"
        pydl.save({"w": np.arange(3.0, dtype=np.float32)}, path)
        good = path.read_bytes()
        for position in range(len(good)):
            flip(path, position, 1 << position % 8)
            with pytest.raises(CheckpointError, match=str(path)):
                pydl.load(path)
            path.write_bytes(good)

    def test_any_truncation_is_noticed(self, tmp_path):
        path = tmp_path / "c"
        save_checkpoint(path, {"w": np.arange(4.0)})
        good = path.read_bytes()
        for n in range(len(good)):
            path.write_bytes(good[:n])
            with pytest.raises(CheckpointError, match=r"truncated|not a safetensors"):
                load_checkpoint(path)

    def test_foreign_files(self, tmp_path):
        path = tmp_path / "c"
        for content in (b"hello, I am a text file, no tensor\n", b"PK\x03\x04" + bytes(100), b"\x80\x04\x95" + bytes(300)):
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match="not a safetensors file"):
                load_checkpoint(path)
        path.write_bytes((2).to_bytes(8, "little") + b"[]")
        with pytest.raises(CheckpointError, match="does not describe tensors"):
            load_checkpoint(path)

    def test_a_weights_file_is_no_checkpoint(self, tmp_path):
        save_file({"w": np.ones(3)}, tmp_path / "theirs")
        with pytest.raises(CheckpointError, match="not a checkpoint of pydl"):
            load_checkpoint(tmp_path / "theirs")
        pydl.save({"w": np.ones(3)}, tmp_path / "ours")
        with pytest.raises(CheckpointError, match=r"not a checkpoint; read it with pydl\.load"):
            load_checkpoint(tmp_path / "ours")

    def test_missing_file(self, tmp_path):
        with pytest.raises(CheckpointError, match="none cannot be read: No such file"):
            load_checkpoint(tmp_path / "none")

    def test_another_format_version(self, tmp_path, monkeypatch):
        monkeypatch.setattr("pydl.train.checkpoint.FORMAT", 99)
        save_checkpoint(tmp_path / "c", {"a": 1})
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match="format 99, this version of pydl reads 1"):
            load_checkpoint(tmp_path / "c")


class TestFolder:
    def test_keeps_the_last_k(self, tmp_path):
        folder = Checkpoints(tmp_path, keep=2)
        for step in (1, 9, 10, 100, 1_000_000_000_000):
            folder.save({"step": step}, step)
        assert [load_checkpoint(p)["step"] for p in folder.paths()] == [100, 1_000_000_000_000]
        assert latest(tmp_path) == folder.latest() == folder.paths()[-1]

    def test_leaves_other_files_alone_but_removes_left_overs(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / ".checkpoint-000000001.safetensors.tmp").write_text("half")
        Checkpoints(tmp_path, keep=1).save({"step": 2}, 2)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000000002.safetensors", "notes.txt"]

    def test_keep_must_be_positive(self, tmp_path):
        with pytest.raises(ArgumentError, match="keep=0"):
            Checkpoints(tmp_path, keep=0)

    def test_nothing_there(self, tmp_path):
        assert latest(tmp_path / "none") is None
        with pytest.raises(CheckpointError, match="has no checkpoint"):
            Checkpoints(tmp_path).load()

    def test_a_damaged_newest_is_an_error_that_names_the_good_one(self, tmp_path):
        folder = Checkpoints(tmp_path)
        paths = [folder.save({"step": s, "w": np.ones(9)}, s) for s in (1, 2, 3)]
        flip(paths[2], -1)
        paths[1].write_bytes(paths[1].read_bytes()[:50])
        with pytest.raises(CheckpointError) as error:
            folder.load()
        message = str(error.value)
        assert str(paths[2]) in message
        assert "checksum" in message
        assert f"fallback=True would continue from the previous good one, {paths[0]}" in message

    def test_falls_back_when_told_to(self, tmp_path):
        folder = Checkpoints(tmp_path)
        paths = [folder.save({"step": s, "w": np.ones(9)}, s) for s in (1, 2, 3)]
        flip(paths[2], 300)
        loaded, source = folder.load(fallback=True)
        assert (loaded["step"], source) == (2, paths[1])

    def test_nothing_to_fall_back_to(self, tmp_path):
        folder = Checkpoints(tmp_path)
        flip(folder.save({"step": 1}, 1), -1)
        with pytest.raises(CheckpointError, match="no older good checkpoint"):
            folder.load(fallback=True)
