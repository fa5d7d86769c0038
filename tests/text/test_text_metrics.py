"""Perplexity, BLEU, edit distance and n-gram baselines against independent computations."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import pydl
from pydl.errors import ArgumentError, ShapeError
from pydl.text import (
    BLEU,
    BitsPerToken,
    NGramModel,
    Perplexity,
    TeacherForcing,
    TokenErrorRate,
    bleu,
    edit_distance,
    sentence_bleu,
    token_error_rate,
)


def test_perplexity_streams_and_ignores_padding():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(3, 5, 7)).astype(np.float32), rng.integers(0, 7, (3, 5))
    target[0, 3:] = -100
    p = np.exp(scores.astype(float))
    p /= p.sum(-1, keepdims=True)
    wanted = np.array([-math.log(p[i, j, target[i, j]]) for i in range(3) for j in range(5) if target[i, j] >= 0])
    perplexity, bits = Perplexity(), BitsPerToken()
    for cut in (slice(0, 1), slice(1, 3)):
        perplexity.update(pydl.from_numpy(scores[cut]), pydl.from_numpy(target[cut]))
        bits.update(scores[cut], target[cut])
    assert perplexity.compute() == pytest.approx(math.exp(wanted.mean()), rel=1e-6)
    assert bits.compute() == pytest.approx(wanted.mean() / math.log(2), rel=1e-6)
    assert math.isnan(Perplexity().compute())
    uniform = Perplexity()
    uniform.update(np.zeros((4, 50)), np.zeros(4, int))
    assert uniform.compute() == pytest.approx(50)
    with pytest.raises(ShapeError, match=r"\(\.\.\., V\)"):
        Perplexity().update(scores, target[:, :2])


def test_bleu_by_hand():
    # "the the the": one "the" of three counts (clipping), no bigram matches
    assert bleu([["the"] * 3], [["the", "cat"]], max_n=1) == pytest.approx(100 / 3)
    assert bleu([["a", "b"]], [["a", "b", "c", "d"]], max_n=2) == pytest.approx(100 * math.exp(1 - 4 / 2))
    assert bleu([list("abcdef")], [list("abcdef")]) == pytest.approx(100)
    assert bleu([list("abc")], [list("xyz")]) == 0
    assert bleu([[]], [list("xyz")]) == 0
    # the nearest reference length counts, and matches of either reference
    metric = BLEU(2, smoothing="none")
    metric.update([list("abcd")], [[list("abx"), list("xxcdy"), list("z" * 9)]])
    assert (metric.length, metric.reference) == (4, 3)
    assert metric.ngrams.tolist() == [[4, 2], [4, 3]]


def test_bleu_smoothing():
    hypothesis, reference = list("abxc"), list("abyc")  # 3/4 unigrams, 1/3 bigrams, 0/2, 0/1
    none = bleu([hypothesis], [reference], smoothing="none")
    assert none == 0
    floor = bleu([hypothesis], [reference], smoothing="floor")
    assert floor == pytest.approx(100 * (3 / 4 * 1 / 3 * 0.1 / 2 * 0.1) ** 0.25)
    exp = bleu([hypothesis], [reference])
    assert exp == pytest.approx(100 * (3 / 4 * 1 / 3 * 0.5 / 2 * 0.25) ** 0.25)
    add = bleu([hypothesis], [reference], smoothing="add-k")
    assert add == pytest.approx(100 * (3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25)
    assert sentence_bleu(["a", "b"], ["a", "b"]) == pytest.approx(100)  # too short for trigrams: left out
    assert bleu([["a", "b"]], [["a", "b"]]) == 0
    with pytest.raises(ArgumentError, match="smoothing='x'"):
        BLEU(smoothing="x")
    with pytest.raises(ArgumentError, match="expected its tokens"):
        bleu(["a text"], [["a"]])
    with pytest.raises(ShapeError, match="2 hypotheses and 1 references"):
        bleu([[], []], [[]])


def test_bleu_in_parts_is_bleu_of_all():
    rng = np.random.default_rng(3)
    hypotheses = [rng.integers(0, 4, rng.integers(1, 9)).tolist() for _ in range(20)]
    references = [rng.integers(0, 4, rng.integers(1, 9)).tolist() for _ in range(20)]
    metric = BLEU()
    metric.update(hypotheses[:7], references[:7])
    other = BLEU()
    other.load_state_dict(metric.state_dict())
    other.update(hypotheses[7:], references[7:])
    assert other.compute() == bleu(hypotheses, references)


def recursive_distance(a, b):
    @cache
    def d(i, j):
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def test_edit_distance_equals_the_recursion():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (tuple(rng.integers(0, 4, rng.integers(0, 9)).tolist()) for _ in range(2))
        assert edit_distance(a, b) == recursive_distance(a, b)
    assert edit_distance("", "abc") == 3
    assert edit_distance(["a", "b"], ["a", "b"]) == 0


def test_token_error_rate():
    assert token_error_rate(["abc", "xy"], ["abd", "xyz"]) == pytest.approx(2 / 6)
    metric = TokenErrorRate()
    metric.update([["a", "b"], ["c"]], [[["a"], ["a", "b"]], ["c", "d"]])
    assert (metric.errors, metric.length) == (1, 4)
    assert metric.sequence_error_rate == 0.5


def test_unigrams_are_frequencies():
    model = NGramModel(1, 3).fit([0, 0, 0, 1, 1, 2])  # D = 1 / (1 + 2) = 1/3; 3 D / 6 is spread over 3 tokens
    expected = [(3 - 1 / 3) / 6 + 1 / 18, (2 - 1 / 3) / 6 + 1 / 18, (1 - 1 / 3) / 6 + 1 / 18]
    assert np.allclose(model.probabilities([]), expected)


def test_kneser_ney_bigrams_by_hand():
    ids = [0, 1, 0, 1, 0, 2]  # bigrams 01 x2, 10 x2, 02 x1: D2 = 1 / (1 + 4) = 0.2; each token has one kind of token before it
    model = NGramModel(2, 3).fit(ids)
    lower = 1 / 3  # continuation counts are 1, 1, 1: D1 = 0.5, (1 - 0.5) / 3 + 0.5 / 3
    assert model.probability([0], 1) == pytest.approx((2 - 0.2) / 3 + 0.2 * 2 / 3 * lower)
    assert model.probability([0], 0) == pytest.approx(0.2 * 2 / 3 * lower)
    assert model.probability([2], 0) == pytest.approx(lower)  # never seen before another: the lower order


def test_rows_and_codes_count_the_same():
    ids = np.random.default_rng(0).integers(0, 5, 300)
    small, large = NGramModel(4, 5).fit(ids), NGramModel(4, 2**20).fit(ids)  # the second cannot write four tokens as one number
    assert small._counts == large._counts
    assert small._discounts == large._discounts


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngram_probabilities_sum_to_one(order):
    rng = np.random.default_rng(order)
    ids = rng.choice(6, 400, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    model = NGramModel(order, 6).fit(ids)
    for _ in range(30):
        context = rng.integers(0, 6, order - 1).tolist()
        p = model.probabilities(context)
        assert p.sum() == pytest.approx(1)
        assert (p > 0).all()
    assert model.negative_log_likelihood(ids) < math.log(6)


def test_teacher_forcing():
    for schedule in ("linear", "exponential", "inverse_sigmoid"):
        forcing = TeacherForcing(schedule, 0.9, 0.1, steps=50)
        ratios = [forcing.ratio(s) for s in range(200)]
        assert all(a >= b for a, b in pairwise(ratios))
        assert ratios[0] == pytest.approx(0.9, abs=0.01)
        assert ratios[50] == pytest.approx(0.1, abs=0.01)
        assert ratios[199] == pytest.approx(0.1, abs=1e-3)
    assert TeacherForcing("constant", 0.3).ratio(10**9) == 0.3
    mask = TeacherForcing("constant", 0.3).draw(0, (100, 100), pydl.Generator(1))
    assert abs(mask.mean() - 0.3) < 0.02
    with pytest.raises(ArgumentError, match="schedule='cosine'"):
        TeacherForcing("cosine")
