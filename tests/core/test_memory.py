"""The pool: alignment, reuse, statistics, cap, off switch, threads."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import pydl
from pydl import _core

MB = 1 << 20


@pytest.fixture(autouse=True)
def settings():
    yield
    pydl.memory.set_enabled(True)
    pydl.memory.set_cap(None)


@pytest.fixture
def one_thread():
    """How much scratch is in use at once does not depend on which thread comes first."""
    before = pydl.get_num_threads()
    pydl.set_num_threads(1)
    yield
    pydl.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 3, 63, 1000, 4097, 1 << 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_blocks_are_aligned_and_writable(n, dtype):
    a = _core.empty([n], np.dtype(dtype))
    assert a.ctypes.data % 64 == 0
    a[...] = 1
    assert a.sum() == n


def test_kernel_outputs_own_a_block_of_the_pool():
    gc.collect()  # what earlier tests left
    before = pydl.memory.current()
    y = pydl.zeros(1 << 20) + 1
    assert pydl.memory.current() - before >= 4 * MB
    view = y.numpy()[5:]
    del y
    gc.collect()
    assert pydl.memory.current() - before >= 4 * MB  # the view keeps the block
    assert view[0] == 1
    del view
    gc.collect()
    assert pydl.memory.current() - before < 4 * MB


def test_a_freed_block_is_used_again_without_the_system():
    pydl.memory.trim()
    a = _core.empty([MB], np.dtype(np.float32))
    address = a.ctypes.data
    del a
    from_system = pydl.memory.statistics()["system_allocations"]
    b = _core.empty([MB], np.dtype(np.float32))
    assert b.ctypes.data == address
    assert pydl.memory.statistics()["system_allocations"] == from_system


def test_a_steady_training_step_asks_the_system_for_nothing(one_thread):
    model = pydl.nn.Sequential(pydl.nn.Linear(64, 256), pydl.nn.ReLU(), pydl.nn.Linear(256, 10))
    optimizer = pydl.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = pydl.randn(512, 64), pydl.randint(0, 10, (512,))

    def step():
        optimizer.zero_grad()
        pydl.cross_entropy(model(x), y).backward()
        optimizer.step()

    for _ in range(3):
        step()
    before = pydl.memory.statistics()
    for _ in range(5):
        step()
    after = pydl.memory.statistics()
    assert after["allocations"] > before["allocations"]
    assert after["system_allocations"] == before["system_allocations"]


def test_free_neighbours_serve_a_request_of_another_size():
    pydl.memory.trim()
    blocks = [_core.empty([3 * MB + 4096 * i], np.dtype(np.uint8)) for i in range(8)]
    del blocks
    reserved = pydl.memory.statistics()["reserved"]
    a = _core.empty([20 * MB], np.dtype(np.uint8))
    assert pydl.memory.statistics()["reserved"] == reserved
    a[...] = 1


def test_changing_sizes_do_not_pile_up():
    pydl.memory.trim()
    before = pydl.memory.statistics()["reserved"]
    for n in range(200):  # one class of blocks for each length would keep 200 blocks, 2 GB
        held = [_core.empty([5 * MB + 50_000 * n], np.dtype(np.uint8)) for _ in range(3)]
        del held
    assert pydl.memory.statistics()["reserved"] - before < 100 * MB


def test_what_is_not_wanted_for_long_goes_back_to_the_system():
    a = _core.empty([400 * MB], np.dtype(np.uint8))
    del a
    before = pydl.memory.statistics()["reserved"]
    for _ in range(3 << 15):
        _core.empty([MB], np.dtype(np.uint8))
    assert pydl.memory.statistics()["reserved"] <= before - 300 * MB


def test_blocks_of_all_sizes_do_not_overlap():
    rng = np.random.default_rng(0)
    held = []
    for i in range(3000):
        n = int(2 ** rng.uniform(16, 21.5))
        a = _core.empty([n], np.dtype(np.uint8))
        a[0] = a[-1] = a[n // 2] = i % 251
        held.append((a, i % 251))
        if i % 500 == 499:
            pydl.memory.trim(int(rng.integers(0, 20 * MB)))
        if len(held) > 30:
            b, value = held.pop(int(rng.integers(len(held))))
            assert b[0] == b[-1] == b[b.size // 2] == value


def test_peak_and_reset():
    pydl.memory.reset_peak()
    start = pydl.memory.peak()
    a = _core.empty([8 * MB], np.dtype(np.uint8))
    assert pydl.memory.peak() - start >= 8 * MB
    del a
    assert pydl.memory.peak() - start >= 8 * MB
    pydl.memory.reset_peak()
    assert pydl.memory.peak() == pydl.memory.current()


def test_trim_gives_pooled_blocks_back():
    a = _core.empty([16 * MB], np.dtype(np.uint8))
    del a
    reserved = pydl.memory.statistics()["reserved"]
    given = pydl.memory.trim()
    assert given >= 16 * MB
    assert pydl.memory.statistics()["reserved"] == reserved - given
    assert pydl.memory.trim() == 0


def test_the_cap_limits_what_is_kept():
    pydl.memory.trim()
    pydl.memory.set_cap(4 * MB)
    blocks = [_core.empty([2 * MB], np.dtype(np.uint8)) for _ in range(8)]
    del blocks
    pooled = pydl.memory.statistics()
    assert pooled["reserved"] - pooled["current"] <= 4 * MB


def test_switched_off_nothing_is_kept():
    pydl.memory.trim()
    pydl.memory.set_enabled(False)
    a = _core.empty([4 * MB], np.dtype(np.uint8))
    assert a.ctypes.data % 64 == 0
    del a
    s = pydl.memory.statistics()
    assert s["reserved"] == s["current"]


def test_environment_switches():
    code = "from pydl import _core; print(_core.memory_enabled(), _core.memory_cap())"
    env = {**os.environ, "PYDL_POOL": "0", "PYDL_POOL_CAP_MB": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", str(7 * MB)]


def test_threads_get_blocks_of_their_own():
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        held = []
        for i in range(300):
            a = _core.empty([int(rng.integers(1, 5000))], np.dtype(np.float32))
            a[...] = number * 1000 + i
            held.append((a, number * 1000 + i))
            if len(held) > 20:
                b, value = held.pop(int(rng.integers(len(held))))
                if not (b == value).all():
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("shape", [[-1], [1 << 62], [1 << 40, 1 << 40]])
def test_impossible_sizes_are_refused(shape):
    with pytest.raises((ValueError, MemoryError)):
        _core.empty(shape, np.dtype(np.float64))
