"""Thread counts, fork, instruction sets: the environment a process finds itself in."""

import os
import subprocess
import sys

import pytest

import pydl
from pydl import _core

BEST_ISA = [isa for isa in _core.supported_isas() if not (isa == "amx" and _core.tiles_emulated())][-1]


def run(code, **env):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYDL_NUM_THREADS", "OMP_NUM_THREADS", "PYDL_ISA")}
    return subprocess.run([sys.executable, "-c", code], env={**clean, **env}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"PYDL_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"PYDL_NUM_THREADS": "2", "OMP_NUM_THREADS": "7"}, 2),
        ({"PYDL_NUM_THREADS": "zero"}, _core.available_cpus()),
    ],
)
def test_thread_count_from_the_environment(env, expected):
    assert run("import pydl; print(pydl.get_num_threads())", **env).stdout.strip() == str(expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_thread_count_from_affinity():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import pydl; print(pydl.get_num_threads())"
    assert run(code).stdout.strip() == "1"


def test_thread_count_by_call():
    before = pydl.get_num_threads()
    try:
        pydl.set_num_threads(3)
        assert pydl.get_num_threads() == 3
        with pytest.raises(ValueError, match="positive"):
            pydl.set_num_threads(0)
    finally:
        pydl.set_num_threads(before)


def test_a_training_step_has_the_same_bits_for_any_number_of_threads():
    def train(threads):
        pydl.set_num_threads(threads)
        pydl.manual_seed(0)
        model = pydl.nn.Sequential(
            pydl.nn.Conv2d(3, 16, 3, padding=1), pydl.nn.ReLU(), pydl.nn.Conv2d(16, 8, 3, stride=2), pydl.nn.Flatten(),
            pydl.nn.Linear(8 * 15 * 15, 10),
        )
        optimizer = pydl.optim.Adam(model.parameters())
        x, y = pydl.randn(16, 3, 32, 32), pydl.randint(0, 10, (16,))
        for _ in range(3):
            optimizer.zero_grad()
            loss = pydl.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return [loss.item(), *(p.detach().numpy().tobytes() for p in model.parameters())]

    before = pydl.get_num_threads()
    try:
        one = train(1)
        assert train(2) == one
        assert train(5) == one
    finally:
        pydl.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_works_and_does_not_hang():
    code = """
import os, numpy as np, pydl
pydl.set_num_threads(2)
a = pydl.randn(600, 600)
expected = (a @ a).numpy().copy()          # starts the threads
child = os.fork()
if child == 0:
    same = (a @ a).numpy().tobytes() == expected.tobytes()
    os._exit(0 if same and pydl.get_num_threads() == 1 else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert (a @ a).numpy().tobytes() == expected.tobytes()
assert pydl.get_num_threads() == 2
print("fine")
"""
    done = run(code)
    assert done.stdout.strip() == "fine", done.stderr


class TestInstructionSets:
    def test_each_can_be_forced(self):
        for isa in _core.supported_isas():
            assert run("from pydl import _core; print(_core.isa())", PYDL_ISA=isa).stdout.strip() == isa

    def test_the_best_is_the_default(self):
        assert run("from pydl import _core; print(_core.isa())").stdout.strip() == BEST_ISA

    def test_an_unknown_one_is_refused(self):
        done = run("import pydl", PYDL_ISA="sse9")
        assert done.returncode != 0
        assert "sse9" in done.stderr
        assert "avx2" in done.stderr  # what would be allowed

    @pytest.mark.skipif("amx" in _core.supported_isas(), reason="every level is there")
    def test_one_that_the_cpu_lacks_is_refused(self):
        done = run("import pydl", PYDL_ISA="amx")
        assert done.returncode != 0
        assert f"does not have the instruction set 'amx'; the best it has is '{BEST_ISA}'" in done.stderr
