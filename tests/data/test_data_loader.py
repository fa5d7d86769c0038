import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import worker_sets as sets

import pydl
from pydl.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    WorkerError,
    WorkerTimeoutError,
    sample_generator,
)
from pydl.errors import ArgumentError, ShapeError

pytestmark = pytest.mark.timeout(60)
WORKERS = [(0, "process"), (1, "process"), (2, "process"), (1, "thread"), (3, "thread")]


def plain(batch):
    """A batch as nested Python values, for comparison."""
    if isinstance(batch, pydl.Tensor):
        return batch.dtype.name, batch.tolist()
    if isinstance(batch, dict):
        return {k: plain(v) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        return [plain(v) for v in batch]
    return batch


def numbers(n, **kwargs):
    return DataLoader(TensorDataset(np.arange(n)), **kwargs)


def read(loader):
    return [batch[0].tolist() for batch in loader]


def flat(batches):
    return [i for batch in batches for i in batch]


# --------------------------------------------------------------------------- order and position


def test_sequential_batches_and_length():
    loader = numbers(7, batch_size=3)
    assert read(loader) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(loader) == 3
    dropping = numbers(7, batch_size=3, drop_last=True)
    assert read(dropping) == [[0, 1, 2], [3, 4, 5]]
    assert len(dropping) == 2
    assert read(numbers(0, batch_size=3)) == []


def test_shuffle_depends_on_seed_and_epoch_only():
    a, b = numbers(20, batch_size=4, shuffle=True, seed=7), numbers(20, batch_size=4, shuffle=True, seed=7)
    epochs = [read(a) for _ in range(3)]
    assert sorted(flat(epochs[0])) == list(range(20))
    assert epochs[0] != epochs[1] != epochs[2]
    b.set_epoch(2)
    assert read(b) == epochs[2]
    b.set_epoch(0)
    assert read(b) == epochs[0]
    assert read(numbers(20, batch_size=4, shuffle=True, seed=8)) != epochs[0]
    pydl.manual_seed(7)
    assert read(numbers(20, batch_size=4, shuffle=True)) == epochs[0]
    assert read(numbers(20, batch_size=4, shuffle=True, generator=pydl.Generator(7))) == epochs[0]


def test_order_in_other_batch_sizes_is_the_same():
    one = flat(read(numbers(20, batch_size=1, shuffle=True, seed=3)))
    assert flat(read(numbers(20, batch_size=6, shuffle=True, seed=3))) == one


@pytest.mark.parametrize(("workers", "kind"), [(0, "process"), (2, "process"), (2, "thread")])
def test_position_in_an_epoch_is_saved_and_restored(workers, kind):
    def make(seed):
        return DataLoader(sets.Squares(23, noise=True), 4, shuffle=True, num_workers=workers, worker_type=kind, seed=seed)

    whole = make(5)
    read_first = list(whole)
    second = [plain(b) for b in whole]
    interrupted = make(5)
    assert [plain(b) for b in interrupted] == [plain(b) for b in read_first]
    batches = iter(interrupted)
    assert [plain(next(batches)) for _ in range(2)] == second[:2]
    state = interrupted.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 2)
    resumed = make(99)  # the seed comes with the state
    resumed.set_epoch(1)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert [plain(b) for b in resumed] == second[2:]
    third = [plain(b) for b in resumed]
    whole.set_epoch(2)
    assert third == [plain(b) for b in whole]


def test_position_between_epochs_and_after_a_break():
    loader = numbers(6, batch_size=2)
    assert loader.state_dict()["batch"] == 0
    for _ in loader:
        break
    assert (loader.epoch, loader.state_dict()["batch"]) == (0, 1)
    for _ in loader:
        pass
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (2, 0)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()  # all batches given out, the end not yet seen
    assert (state["epoch"], state["batch"]) == (2, 3)
    other = numbers(6, batch_size=2)
    other.load_state_dict(state)
    assert read(other) == []
    assert other.epoch == 3


def test_position_of_another_loader_is_refused():
    state = numbers(10, batch_size=2).state_dict()
    with pytest.raises(ArgumentError, match=r"5 batches, this one has 4"):
        numbers(8, batch_size=2).load_state_dict(state)


def test_samplers_of_ones_own():
    class Odd(Sampler):
        def __iter__(self):
            return iter([1 + self.epoch, 3, 5])

        def __len__(self):
            return 3

    loader = numbers(10, batch_size=2, sampler=Odd())
    assert [read(loader), read(loader)] == [[[1, 3], [5]], [[2, 3], [5]]]
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 1})
    assert read(loader) == [[5]]
    assert read(numbers(10, batch_sampler=[[9, 8], [0]])) == [[9, 8], [0]]
    assert read(numbers(10, batch_sampler=BatchSampler([4, 2, 0], 2, drop_last=True))) == [[4, 2]]


def test_without_batches():
    assert [b[0].tolist() for b in numbers(3, batch_size=None)] == [0, 1, 2]
    for workers in (0, 2):
        loader = DataLoader(sets.Squares(3), batch_size=None, num_workers=workers, worker_type="thread")
        assert [b["name"] for b in loader] == ["n0", "n1", "n2"]
    assert [plain(b)[0] for b in DataLoader(sets.Counting(3), batch_size=None)] == [("float32", i) for i in range(3)]


# --------------------------------------------------------------------------- workers


def test_same_batches_for_any_worker_count():
    results = []
    for workers, kind in WORKERS:
        loader = DataLoader(sets.Squares(30, noise=True), 4, shuffle=True, num_workers=workers, worker_type=kind, seed=1)
        results.append([plain(b) for b in loader])
    assert all(r == results[0] for r in results)
    batch = results[0][0]
    assert batch["x"][0] == "float32"
    assert batch["half"] == ("float32", [i / 2 for i in batch["i"][1]])
    assert len({x[1] for b in results[0] for x in b["x"][1]}) == 30  # the noise of every sample is its own


def test_noise_changes_with_the_epoch():
    loader = DataLoader(sets.Squares(8, noise=True), 8)
    first, second = (next(iter(loader))["x"].numpy()[:, 1] for _ in range(2))
    assert not (first == second).any()
    loader.set_epoch(1)
    assert (next(iter(loader))["x"].numpy()[:, 1] == second).all()


def test_samples_drawn_twice_get_other_numbers():
    loader = DataLoader(sets.Squares(2, noise=True), 50, sampler=WeightedRandomSampler([1, 1], 50))
    assert len(set(next(iter(loader))["x"].numpy()[:, 1].tolist())) == 50
    replaced = DataLoader(sets.Squares(4, noise=True), 5, sampler=RandomSampler(range(4), replacement=True, num_samples=40))
    batches = [plain(b) for b in replaced]
    replaced.load_state_dict({**replaced.state_dict(), "epoch": 0, "batch": 3})
    assert [plain(b) for b in replaced] == batches[3:]


def test_random_numbers_of_a_batch():
    results = [
        list(DataLoader(sets.Squares(6), 2, num_workers=n, worker_type="thread", collate_fn=sets.mix, seed=2)) for n in (0, 2)
    ]
    assert results[0] == results[1]
    assert len({r for r, _ in results[0]}) == 3


def test_numbers_of_a_sample_are_those_of_its_place():
    """Philox with key (seed, 1) and counter (0, draws before, index, epoch), whatever was drawn in the sample before."""

    class Drawing(sets.Squares):
        def __getitem__(self, i):
            return sample_generator().integers(0, 100, 3, dtype=np.int32), sample_generator().random(i)

    loader = DataLoader(Drawing(5), batch_size=None, sampler=[4, 2, 3, 1], seed=6)
    loader.set_epoch(9)
    for i, (whole, fractions) in zip([4, 2, 3, 1], loader, strict=True):
        philox = np.random.Philox(key=np.array([6, 1], np.uint64), counter=np.array([0, 0, i, 9], np.uint64))
        expected = np.random.Generator(philox)
        assert whole.tolist() == expected.integers(0, 100, 3, dtype=np.int32).tolist()
        assert fractions.tolist() == expected.random(i).tolist()


def test_sample_generator_outside_of_a_loader():
    pydl.manual_seed(4)
    first = [sample_generator().random() for _ in range(2)]
    pydl.manual_seed(4)
    assert [sample_generator().random() for _ in range(2)] == first
    assert first[0] != first[1]


def test_global_generators_in_process_workers():
    results = [
        [plain(b) for b in DataLoader(sets.GlobalNoise(), 3, num_workers=n, worker_type="process", seed=3)] for n in (1, 2)
    ]
    assert results[0] == results[1]
    values = np.array([b[1] for b in results[0]]).reshape(-1, 3)
    assert all(len(set(column)) == 12 for column in values.T.tolist())


def test_workers_share_the_work_and_persist():
    loader = DataLoader(sets.Squares(16), 2, num_workers=2, collate_fn=sets.worker_of, persistent_workers=True)
    first, second = list(loader), list(loader)
    pids = {pid for pid, _, _ in first}
    assert os.getpid() not in pids
    assert {pid for pid, _, _ in second} <= pids
    assert {worker for _, worker, _ in first + second} == {0, 1}
    for _ in loader:  # a left iteration does not disturb the next
        break
    assert [i for _, _, i in loader] == [[k, k + 1] for k in range(0, 16, 2)]
    batches = iter(loader)
    next(batches)
    assert len(list(loader)) == 8
    with pytest.raises(WorkerError, match="took over"):
        list(batches)
    loader.close()
    assert all(not alive(pid) for pid in pids)


def alive(pid):
    """Whether a process runs: neither gone nor ended and waiting for its parent to look."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # also between opening and reading
        return False


@pytest.mark.parametrize("persistent", [False, True])
def test_dropped_loader_leaves_nothing_behind(persistent):
    threads = threading.active_count()
    for kind in ("process", "thread"):
        loader = DataLoader(sets.Squares(64), 2, num_workers=2, worker_type=kind, persistent_workers=persistent)
        for _ in loader:
            break
        del loader
        gc.collect()
    assert multiprocessing.active_children() == []
    assert threading.active_count() == threads


def test_prefetch_is_bounded():
    seen = []

    class Watched(sets.Squares):
        def __getitem__(self, i):
            seen.append(i)
            return i

    batches = iter(DataLoader(Watched(40), 1, num_workers=2, worker_type="thread", prefetch_factor=3))
    next(batches)
    deadline = time.monotonic() + 10
    while len(seen) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(seen) == 7  # one is given out, 2 * 3 are ahead
    batches.close()


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_streams(workers, kind):
    def make():
        return DataLoader(sets.Counting(11, noise=True), 2, num_workers=workers, worker_type=kind, seed=6)

    loader = make()
    batches = [plain(b) for b in loader]
    assert [x for b in batches for x in b[0][1]] == list(range(11))
    here = DataLoader(sets.Counting(11, noise=True), 2, seed=6)
    assert batches == [plain(b) for b in here]
    assert len({x for b in batches for x in b[1][1]}) == 11
    with pytest.raises(TypeError):
        len(loader)
    again = make()
    again.load_state_dict({**again.state_dict(), "batch": 4})
    assert [plain(b) for b in again] == batches[4:]


def test_stream_drops_the_last_batch():
    assert len(list(DataLoader(sets.Counting(11), 2, drop_last=True))) == 5
    assert len(list(DataLoader(sets.Counting(11), 2, drop_last=True, num_workers=2, worker_type="thread"))) == 5


def test_workers_start_after_kernels_ran():
    big = pydl.rand(500, 500)
    (big @ big).sum().item()
    assert len(list(DataLoader(sets.Squares(8), 2, num_workers=2))) == 4


def test_large_batches_through_pipes():
    data = np.random.default_rng(0).random((6, 500_000), np.float32)  # 2 MB a sample, pipes hold 64 KB
    loader = DataLoader(TensorDataset(data), 2, num_workers=2)
    for i, (batch,) in enumerate(loader):
        assert np.array_equal(batch.numpy(), data[2 * i : 2 * i + 2])
        assert batch.numpy().flags.writeable
        assert batch.numpy().ctypes.data % 64 == 0


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("workers", "kind"), [(0, "process"), (1, "process"), (2, "thread")])
def test_exception_is_raised_again(workers, kind):
    batches = iter(DataLoader(sets.Faulty("raise"), 2, num_workers=workers, worker_type=kind))
    next(batches)
    next(batches)
    with pytest.raises(KeyError, match="no picture of sample five") as caught:
        next(batches)
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["at dataset index 5, batch 2 of epoch 0"]
    if workers and kind == "process":
        text = str(caught.value.__cause__)
        assert "dataset index 5" in text
        assert "worker_sets.py" in text
        assert "in __getitem__" in text


def test_exception_that_cannot_be_sent():
    with pytest.raises(WorkerError, match=r"(?s)dataset index 5.*OddError: odd 3"):
        list(DataLoader(sets.Faulty("odd"), 2, num_workers=1))


def test_samples_that_do_not_fit_name_their_index():
    for workers in (0, 1):
        message = r"sample 0 \(dataset index 4\) has \(2, 2\), sample 1 \(dataset index 5\) has \(3, 2\)"
        with pytest.raises(ShapeError, match=message):
            list(DataLoader(sets.Faulty("shape"), 2, num_workers=workers))


def test_dead_worker():
    with pytest.raises(WorkerError, match=r"(?s)worker 0 .*killed by signal 9 \(SIGKILL\).*dataset indices 4, 5.*memory"):
        list(DataLoader(sets.Faulty("kill"), 2, num_workers=1))
    with pytest.raises(WorkerError, match=r"ended with exit status 3"):
        list(DataLoader(sets.Faulty("exit"), 2, num_workers=1))
    with pytest.raises(WorkerError, match=r"ended with exit status 3"):
        list(DataLoader(sets.Faulty("leave"), 2, num_workers=1))
    with pytest.raises(SystemExit):
        list(DataLoader(sets.Faulty("leave"), 2, num_workers=1, worker_type="thread"))
    assert multiprocessing.active_children() == []


def test_timeout():
    start = time.monotonic()
    with pytest.raises(WorkerTimeoutError, match=r"timeout=0.5 s; worker 0 at batch 0 of epoch 0 \(dataset indices 4, 5\)"):
        list(DataLoader(sets.Faulty("hang"), sampler=[4, 5], batch_size=2, num_workers=1, timeout=0.5))
    assert time.monotonic() - start < 10
    assert multiprocessing.active_children() == []


def test_worker_that_cannot_start():
    with pytest.raises(OSError, match="has no disk"):
        list(DataLoader(sets.Squares(4), num_workers=1, worker_init_fn=sets.fail_start))
    with pytest.raises(OSError, match="has no disk"):
        list(DataLoader(sets.Squares(4), num_workers=1, worker_type="thread", worker_init_fn=sets.fail_start))
    with pytest.raises(RuntimeError, match="cannot load the data set"):
        list(DataLoader(sets.Unloadable(), num_workers=1))


def test_what_cannot_be_sent_is_named():
    with pytest.raises(ArgumentError, match=r"collate_fn cannot be sent.*top level.*worker_type='thread'"):
        list(DataLoader(sets.Squares(4), num_workers=1, collate_fn=lambda samples: samples))
    assert len(list(DataLoader(sets.Squares(4), num_workers=1, collate_fn=lambda samples: samples, worker_type="thread"))) == 4


@pytest.mark.parametrize(("workers", "kind"), [(0, "process"), (1, "process"), (2, "thread")])
def test_broken_stream(workers, kind):
    batches = iter(DataLoader(sets.BrokenStream(), 1, num_workers=workers, worker_type=kind))
    assert next(batches).tolist() == [1]
    with pytest.raises(ValueError, match="the stream broke"):
        next(batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0, expected a positive integer"),
        ({"num_workers": -1}, "neither may be negative"),
        ({"worker_type": "fork"}, "expected 'process' or 'thread'"),
        ({"shuffle": True, "sampler": [1]}, "either a sampler or shuffle"),
        ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler replaces"),
        ({"batch_size": None, "drop_last": True}, "no last batch"),
        ({"prefetch_factor": 2}, "need workers"),
        ({"prefetch_factor": 0, "num_workers": 1}, "expected at least 1"),
        ({"seed": 1, "generator": pydl.Generator(1)}, "not both"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        numbers(4, **arguments)
    if "sampler" in arguments:
        with pytest.raises(ArgumentError, match="its own order"):
            DataLoader(sets.Counting(3), shuffle=True)


def test_script_without_guard_fails_with_advice(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nfrom pydl.data import DataLoader, TensorDataset\n"
        "print(len(list(DataLoader(TensorDataset(np.arange(4)), num_workers=1))))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "under `if __name__ == '__main__':`, or use worker_type='thread'" in done.stderr.splitlines()[-1]


def test_program_ends_in_the_middle_of_an_iteration(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nfrom pydl.data import DataLoader, TensorDataset\nif __name__ == '__main__':\n"
        "    for kind in ('process', 'thread'):\n"
        "        loader = DataLoader(TensorDataset(np.arange(99)), num_workers=2, worker_type=kind, persistent_workers=True)\n"
        "        batches = iter(loader)\n        print(next(batches)[0].item())\n"
        "    globals()[kind], globals()['l'] = batches, loader\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n0\n", "")


def test_interactive_definitions_get_advice():
    program = "from pydl.data import DataLoader, Dataset\nclass D(Dataset):\n    pass\n"
    program += "list(DataLoader(D(), sampler=[0], num_workers=1))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert "Can't get attribute 'D'" in done.stderr
    assert "not known to worker processes" in done.stderr or sys.version_info < (3, 11)


def test_workers_end_when_their_parent_is_killed():
    with subprocess.Popen([sys.executable, sets.__file__, "linger"], stdout=subprocess.PIPE, text=True) as parent:
        pids = {int(parent.stdout.readline()) for _ in range(8)}
        assert pids
        parent.kill()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def test_interrupt_leaves_workers_alone():
    loader = DataLoader(sets.Squares(40), 2, num_workers=2, collate_fn=sets.worker_of)
    batches = iter(loader)
    pids = {next(batches)[0] for _ in range(4)}
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert len(list(batches)) == 16


def test_whole_batches_are_read_at_once():
    class Refusing(TensorDataset):
        def take(self, indices):
            self.taken = indices
            return super().take(indices)

    data = Refusing(np.arange(10.0), np.arange(10))
    x, y = next(iter(DataLoader(Subset(data, [7, 3, -1]), 3)))
    assert data.taken.tolist() == [7, 3, -1]
    assert (x.tolist(), y.tolist()) == ([7.0, 3.0, 9.0], [7, 3, 9])
    assert x.dtype == np.float64

    class Own(TensorDataset):
        def __getitem__(self, index):
            return (super().__getitem__(index)[0] + 100,)

    assert next(iter(DataLoader(Own(np.arange(3)), 3)))[0].tolist() == [100, 101, 102]
