"""The measured limits of the machine: in a sane relation to each other, cached, and usable as a roofline."""

import json

import pytest

import pydl
from pydl import _core, profiler
from pydl.profiler import MachineLimits


@pytest.fixture(scope="module")
def limits():
    return profiler.machine_limits(2)


def test_measured_figures_are_sane(limits):
    assert limits.isa == _core.isa()
    assert set(limits.fma) == {*_core.supported_isas(), *([] if _core.why_no_bfloat16() else ["bfloat16"])}
    for pair in (*limits.fma.values(), limits.read, limits.triad):  # wide bounds: the machine may be busy
        assert all(0.2 < value < 10_000 for value in pair)
    assert 0 < limits.first_touch < 10_000
    assert 0 < limits.reused < 10_000
    assert (limits.peak, limits.bandwidth) == (limits.fma[limits.isa][1], max(limits.read[1], limits.triad[1]))


def test_cached_in_the_process_and_leaves_the_threads_alone(limits):
    before = _core.num_threads()
    assert profiler.machine_limits(2) is limits
    assert _core.num_threads() == before
    assert not _core.profile_on()


def test_the_fma_probe_counts_its_work():
    for isa, lanes in (("generic", 4), ("avx2", 8), ("avx512", 16)):
        if isa in _core.supported_isas():
            assert _core.probe_fma(isa, 3, 5) == 2 * 12 * lanes * 3 * 5
    if not _core.why_no_bfloat16():
        with pydl.autocast("bfloat16"):
            assert _core.probe_fma("avx512", 3, 5) == 2 * 12 * 32 * 3 * 5
    with pytest.raises(ValueError, match="unknown instruction set"):
        _core.probe_fma("mmx", 1, 1)


def test_the_memory_probes_do_their_work():
    import numpy as np

    n = (1 << 19) + 5
    a, b = np.zeros(n, np.float32), np.arange(n, dtype=np.float32)
    assert _core.probe_triad(a, b, b) is None
    np.testing.assert_array_equal(a, 3 * b)
    _core.probe_write(b)
    assert (b == 1).all()
    with pytest.raises(ValueError, match="common size"):
        _core.probe_triad(a, b[:-1], b)


def test_roofline_of_given_limits():
    limits = MachineLimits("x", 2, {"x": (50.0, 100.0)}, (8.0, 10.0), (7.0, 20.0), 0.5, 9.0)
    assert (limits.peak, limits.bandwidth) == (100, 20)
    assert [limits.attainable(i) for i in (0.5, 5, 50)] == [10, 100, 100]
    assert limits.seconds(2e9, 0) == pytest.approx(0.02)
    assert limits.seconds(2e9, 0, itemsize=8) == pytest.approx(0.04)
    assert limits.seconds(0, 4e9) == pytest.approx(0.2)
    assert limits.seconds(2e9, 0, itemsize=2) == pytest.approx(0.02), "no bfloat16 products were measured"
    low = MachineLimits("x", 2, {"x": (50.0, 100.0), "bfloat16": (90.0, 180.0)}, (8.0, 10.0), (7.0, 20.0), 0.5, 9.0)
    assert low.peak == 100
    assert low.seconds(1.8e9, 0, itemsize=2) == pytest.approx(0.01)
    again = MachineLimits.from_dict(json.loads(json.dumps(limits.as_dict())))
    assert again == limits
    assert "first touch" in str(limits)


def test_float64_is_set_beside_vectors_where_float32_runs_on_tiles():
    limits = MachineLimits("amx", 1, {"avx512": (100.0, 100.0), "amx": (180.0, 180.0)}, (8.0, 8.0), (7.0, 7.0))
    assert limits.seconds(1e9, 0) == pytest.approx(1 / 180)
    assert limits.seconds(1e9, 0, itemsize=8) == pytest.approx(1 / 50)
