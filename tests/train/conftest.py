import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `import small_run`


@pytest.fixture(scope="session")
def data():
    """260 MNIST-1D signals."""
    pytest.importorskip("mnist1d")
    from pydl.data import load_mnist1d

    x, y, _, _ = load_mnist1d()
    return {"x": x[:260], "y": y[:260]}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """The networks here are too small to share out, and the results do not depend on it."""
    import pydl

    before = pydl.get_num_threads()
    pydl.set_num_threads(1)
    yield
    pydl.set_num_threads(before)
