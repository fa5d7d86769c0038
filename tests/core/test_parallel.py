"""The workers behind the kernels: many callers, changing numbers of threads, processes that end while workers sleep."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import pydl


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.fixture
def threads():
    before = pydl.get_num_threads()
    yield
    pydl.set_num_threads(before)


def test_changing_the_number_of_threads_between_kernels(threads):
    x = pydl.from_numpy(np.arange(300_000, dtype=np.float64))
    expected = np.arange(300_000, dtype=np.float64) * 2 + 1
    for turn in range(400):
        pydl.set_num_threads(1 + turn % 7)
        np.testing.assert_array_equal((x * 2 + 1).numpy(), expected)


def test_kernels_from_several_python_threads_at_once(threads):
    """One job has the workers, the others run on their own threads; all get the same bits."""
    pydl.set_num_threads(3)
    x = pydl.randn(200, 300)
    expected = (x @ x.T).numpy().copy()
    wrong = []

    def work():
        for _ in range(60):
            if not np.array_equal((x @ x.T).numpy(), expected):
                wrong.append(threading.get_ident())

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_workers_that_sleep_wake_up_again(threads):
    pydl.set_num_threads(2)
    x = pydl.from_numpy(np.ones(200_000, np.float32))
    for _ in range(5):
        assert pydl.sum(x + x).item() == 400_000
        time.sleep(0.01)  # much longer than a worker's patience


def test_an_idle_process_uses_no_processor_time():
    code = """
import time, pydl
pydl.set_num_threads(4)
x = pydl.randn(600, 600); x @ x
time.sleep(0.05)
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)
"""
    assert float(run(code).stdout) < 0.05


def test_a_process_ends_while_its_workers_wait():
    done = run("import pydl; pydl.set_num_threads(8); x = pydl.randn(500, 500); print((x @ x).shape)")
    assert done.returncode == 0, done.stderr
