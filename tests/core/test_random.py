"""Random numbers: published vectors of Philox4x32-10, distributions, independence of threads and timing."""

import numpy as np
import pytest

import pydl
from pydl import _core


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's known answers, philox4x32 with 10 rounds
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_published_vectors(counter, key, expected):
    c, k, e = ([int(word, 16) for word in text.split()] for text in (counter, key, expected))
    assert _core.philox_block(k[0] | k[1] << 32, c[0] | c[1] << 32, c[2] | c[3] << 32) == e


def test_a_seed_gives_the_same_numbers_again():
    for draw in (pydl.rand, pydl.randn, lambda *n: pydl.randint(0, 1000, n), lambda *n: pydl.bernoulli(pydl.full(n, 0.3))):
        pydl.manual_seed(7)
        first, second = draw(1000).numpy().copy(), draw(1000).numpy().copy()
        pydl.manual_seed(7)
        np.testing.assert_array_equal(draw(1000).numpy(), first)
        assert (first != second).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_do_not_depend_on_threads(dtype):
    before = pydl.get_num_threads()
    try:
        drawn = []
        for threads in (1, 2, 3):
            pydl.set_num_threads(threads)
            generator = pydl.Generator(3)
            drawn.append([pydl.randn(100_003, generator=generator, dtype=dtype).numpy().tobytes() for _ in range(2)])
        assert drawn[0] == drawn[1] == drawn[2]
    finally:
        pydl.set_num_threads(before)


def test_generators_are_independent_of_each_other():
    a, b = pydl.Generator(1), pydl.Generator(1)
    pydl.rand(5)  # of the default generator
    np.testing.assert_array_equal(pydl.rand(50, generator=a).numpy(), pydl.rand(50, generator=b).numpy())
    assert (pydl.rand(50, generator=a).numpy() != pydl.rand(50, generator=pydl.Generator(2)).numpy()).any()


def test_state_goes_on_where_it_was_taken():
    generator = pydl.Generator(5)
    pydl.rand(17, generator=generator)
    state = generator.get_state()
    expected = pydl.randn(33, generator=generator).numpy()
    other = pydl.Generator(0)
    other.set_state(state)
    np.testing.assert_array_equal(pydl.randn(33, generator=other).numpy(), expected)


def test_fork_rng_leaves_no_trace():
    from pydl.random import fork_rng

    pydl.manual_seed(1)
    expected = pydl.rand(5).numpy()
    pydl.manual_seed(1)
    with fork_rng():
        pydl.rand(1000)
    np.testing.assert_array_equal(pydl.rand(5).numpy(), expected)


class TestDistributions:
    n = 200_000

    def test_uniform(self):
        from scipy import stats

        x = pydl.rand(self.n, generator=pydl.Generator(11)).numpy()
        assert 0 <= x.min() < x.max() < 1
        assert stats.kstest(x, "uniform").pvalue > 1e-3

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_normal(self, dtype):
        from scipy import stats

        x = pydl.randn(self.n, generator=pydl.Generator(12), dtype=dtype).numpy()
        assert stats.kstest(x, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.01

    def test_integers_cover_their_range_evenly(self):
        from scipy import stats

        x = pydl.randint(3, 13, (self.n,), generator=pydl.Generator(13)).numpy()
        counts = np.bincount(x, minlength=13)
        assert not counts[:3].any()
        assert stats.chisquare(counts[3:]).pvalue > 1e-3

    def test_bernoulli(self):
        x = pydl.bernoulli(pydl.full((self.n,), 0.2), generator=pydl.Generator(14)).numpy()
        assert set(np.unique(x)) == {0.0, 1.0}
        assert abs(x.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / self.n)

    def test_permutation(self):
        p = pydl.randperm(1000, generator=pydl.Generator(15)).numpy()
        np.testing.assert_array_equal(np.sort(p), np.arange(1000))
        assert (p != np.arange(1000)).sum() > 900

    def test_multinomial(self):
        weights = pydl.tensor([1.0, 0.0, 3.0])
        x = pydl.multinomial(weights, 20_000, replacement=True, generator=pydl.Generator(16)).numpy()
        shares = np.bincount(x, minlength=3) / len(x)
        np.testing.assert_allclose(shares, [0.25, 0, 0.75], atol=0.02)


def test_large_fills_use_distinct_counters():
    """Neighbouring draws must not share numbers."""
    generator = pydl.Generator(9)
    a, b = (pydl.rand(4099, generator=generator, dtype=np.float64).numpy() for _ in range(2))
    assert len(np.unique(np.concatenate([a, b]))) == 2 * 4099
