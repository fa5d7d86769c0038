"""No kernel reads or writes outside its arrays: they are placed next to pages without access, in a child process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from guarded_kernels import KERNELS

import pydl

CHILD = Path(__file__).with_name("guarded_kernels.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mmap by its Linux numbers")


@pytest.mark.parametrize("family", KERNELS)
def test_kernels_stay_inside(family):
    done = subprocess.run([sys.executable, str(CHILD), family], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit status {done.returncode} (-11 is a read outside): {done.stderr[-600:]}"
    assert done.stdout.strip() == "inside"


def test_the_guard_bites():
    code = "from guarded_kernels import guarded; import ctypes; a = guarded(5); ctypes.string_at(a.ctypes.data, a.nbytes + 1)"
    path = os.pathsep.join([str(CHILD.parent), str(Path(pydl.__file__).parents[1])])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=60)
    assert done.returncode == -11
