"""Generation against exhaustive search on small models, and sampling against the distribution it should follow."""

import itertools
import math

import numpy as np
import pytest

import pydl
from pydl import generation
from pydl.errors import ArgumentError, NonFiniteError, ShapeError
from pydl.generation import beam_search, generate, length_penalty, process_scores, select_rows, stream


class Markov:
    """Scores depend on the last two tokens; the state is the last token and a check that rows stay with their sequence."""

    def __init__(self, size, seed, copies=8):
        self.table = np.random.default_rng(seed).normal(scale=2, size=(copies, size, size, size))
        self.calls = 0

    def start(self, which):
        return pydl.from_numpy(np.array([[w, 0] for w in which], np.int64))

    def step(self, ids, state):
        self.calls += 1
        which, last = state.data.T
        for column in ids.data.T:
            scores = self.table[which, last, column]
            last = column
        return pydl.from_numpy(scores), pydl.from_numpy(np.stack([which, last], 1))

    def select(self, state, index):
        return select_rows(state, index, axis=0)

    def log_prob(self, which, prompt, tokens):
        last, total, *rest = 0, 0.0, *prompt
        for token in rest[:-1]:
            last = token
        for before, token in itertools.pairwise([rest[-1], *tokens]):
            scores = self.table[which, last, before]
            total += scores[token] - math.log(np.exp(scores).sum())
            last = before
        return total


def every(size, eos, length):
    """All sequences that end by eos, and those of full length that do not."""
    others = [t for t in range(size) if t != eos]
    for n in range(length):
        for body in itertools.product(others, repeat=n):
            yield [*body, eos]
    yield from map(list, itertools.product(others, repeat=length))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_full_width_is_exhaustive(alpha, seed):
    size, eos, length = 4, 1, 4
    model = Markov(size, seed)
    found = beam_search(model, [[2], [3]], length, width=size**length, eos=eos, state=model.start([0, 5]), alpha=alpha)
    for prompt, which, hypotheses in zip((2, 3), (0, 5), found, strict=True):
        wanted = {}
        for tokens in every(size, eos, length):
            ended = tokens[-1] == eos
            log_prob = model.log_prob(which, [prompt], tokens)
            wanted[tuple(tokens[:-1] if ended else tokens)] = (ended, log_prob, log_prob / length_penalty(len(tokens), alpha))
        assert len(hypotheses) == len(wanted)
        for h in hypotheses:
            assert (h.finished, h.log_prob, h.score) == pytest.approx(wanted.pop(tuple(h.tokens.tolist())))
        assert all(a.finished > b.finished or (a.finished == b.finished and a.score >= b.score)
                   for a, b in itertools.pairwise(hypotheses))


def reference_beam(model, which, prompt, length, width, eos):
    """A beam for one sequence with alpha = 0, written the long way round."""
    live, ended = [(0.0, [])], []
    for _ in range(length):
        grown = sorted(((model.log_prob(which, prompt, [*tokens, t]), [*tokens, t]) for _, tokens in live
                        for t in range(model.table.shape[1])), key=lambda x: -x[0])
        ended += [g for g in grown[:width] if g[1][-1] == eos]
        live = [g for g in grown if g[1][-1] != eos][:width]
    return sorted(ended, key=lambda x: -x[0])[:width]


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_narrow_beams_in_a_batch_equal_single_ones(width, seed):
    model = Markov(6, 10 + seed)
    prompts, which = [[2, 4], [3, 3], [0, 5]], [1, 4, 7]
    found = beam_search(model, prompts, 12, width=width, eos=1, state=model.start(which), alpha=0)
    for prompt, w, hypotheses in zip(prompts, which, found, strict=True):
        wanted = reference_beam(model, w, prompt, 12, width, 1)
        for h, (log_prob, tokens) in zip(hypotheses, wanted, strict=False):
            assert h.finished
            assert h.tokens.tolist() == tokens[:-1]
            assert h.log_prob == pytest.approx(log_prob)


def test_a_beam_of_one_is_greedy():
    for seed in range(6):
        model = Markov(5, seed)
        greedy = generate(model, [[2], [3]], 20, eos=1, state=model.start([0, 1]))
        beams = beam_search(model, [[2], [3]], 20, width=1, eos=1, state=model.start([0, 1]), alpha=0)
        for row, ended, log_prob, (h,) in zip(greedy.tokens, greedy.finished, greedy.log_probs, beams, strict=True):
            assert (h.tokens.tolist(), h.finished) == (row.tolist(), ended)
            assert h.log_prob == pytest.approx(log_prob)


def test_a_wider_beam_finds_better_on_the_whole():
    narrow, wide = (sum(beam_search(m, [[2]], 8, width=w, state=m.start([0]), alpha=0)[0][0].log_prob
                        for m in (Markov(6, s) for s in range(20))) for w in (1, 8))
    assert wide > narrow + 1


def test_the_search_stops_when_nothing_can_overtake():
    model = Markov(4, 0)
    model.table[...] = 0
    model.table[..., 1] = 20  # <eos> is nearly certain
    beam_search(model, [[2]], 100, width=2, eos=1, state=model.start([0]), alpha=0)
    assert model.calls <= 3


def test_length_penalty_prefers_longer():
    assert length_penalty(1, 0.7) == 1
    assert length_penalty(7, 1) == 2
    model = Markov(3, 0)
    model.table[...] = [0.1, 0, -30]  # each further token halves the probability
    short, long = (beam_search(model, [[0]], 12, width=8, eos=1, state=model.start([0]), alpha=a)[0][0] for a in (0, 3))
    assert len(short.tokens) == 0
    assert len(long.tokens) > 8


# --------------------------------------------------------------------------- one token after the other


def test_greedy_takes_the_best_each_time():
    model = Markov(7, 3)
    tokens = generate(model, [[2, 6]], 10, state=model.start([0])).tokens[0].tolist()
    before = [2, 6]
    for token in tokens:
        gains = [model.log_prob(0, before, [t]) for t in range(7)]
        assert token == int(np.argmax(gains))
        before = [*before, token]
    assert len(tokens) == 10


def test_sequences_end_and_padding_follows():
    model = Markov(4, 1)
    rows = list(stream(model, [[2], [3], [0]], 50, eos=1, state=model.start([0, 1, 2]), generator=pydl.Generator(2)))
    table = np.stack(rows, 1)
    for row in table:
        ends = np.flatnonzero(row == 1)
        assert len(ends) == 1
        assert (row[ends[0] + 1 :] == -1).all()
    assert table.shape[1] < 50
    all = generate(model, [[2], [3], [0]], 50, eos=1, state=model.start([0, 1, 2]), temperature=1.0, generator=pydl.Generator(2))
    assert all.finished.all()
    for which, prompt, row, tokens, log_prob in zip((0, 1, 2), (2, 3, 0), table, all.tokens, all.log_probs, strict=True):
        assert tokens.tolist() == row[: len(tokens)].tolist()
        assert log_prob == pytest.approx(model.log_prob(which, [prompt], [*tokens, 1]))


def test_a_stream_of_one_sequence_gives_numbers_as_they_come():
    model = Markov(5, 2)
    tokens = stream(model, [2, 3], 1000, state=model.start([0]))
    assert model.calls == 0
    first = next(tokens)
    assert isinstance(first, int)
    assert model.calls == 1
    assert pydl.is_grad_enabled()  # nothing leaks between tokens


def test_the_seed_decides():
    model = Markov(9, 5)

    def run(seed, **options):
        made = generate(model, [[2]] * 3, 12, state=model.start([0, 0, 0]), temperature=1.0, generator=pydl.Generator(seed),
                        **options)
        return [t.tolist() for t in made.tokens]

    assert run(4) == run(4)
    assert run(4) != run(5)
    assert run(4)[0] != run(4)[1]  # rows of a batch are drawn apart
    pydl.manual_seed(4)
    made = generate(model, [[2]] * 3, 12, state=model.start([0, 0, 0]), temperature=1.0)
    assert [t.tolist() for t in made.tokens] == run(4)


def test_samples_follow_the_distribution():
    scores = np.array([1.0, -2.0, 0.5, 3.0, 0.0])

    class Constant:
        def step(self, ids, state):
            return pydl.from_numpy(np.tile(scores, (len(ids.data), 1))), state

    def frequencies(**options):
        made = generate(Constant(), np.zeros((4000, 1), int), 5, generator=pydl.Generator(0), **options)
        return np.bincount(np.concatenate(made.tokens), minlength=5) / 20000

    def softmax(x):
        e = np.exp(x - x.max())
        return e / e.sum()

    def near(found, p):
        assert np.all(np.abs(found - p) <= 4 * np.sqrt(p * (1 - p) / 20000) + 1e-12)

    near(frequencies(temperature=1.0), softmax(scores))
    near(frequencies(temperature=2.0), softmax(scores / 2))
    near(frequencies(temperature=0.5), softmax(scores / 0.5))
    kept = np.array([1.0, -np.inf, -np.inf, 3.0, -np.inf])
    near(frequencies(temperature=1.0, top_k=2), softmax(kept))
    near(frequencies(temperature=1.0, top_p=0.85), softmax(kept))  # 0.79, then 0.11: 0.90 reaches 0.85
    near(frequencies(temperature=1.0, forbidden=[3]), softmax(np.where(np.arange(5) == 3, -np.inf, scores)))
    assert frequencies()[3] == 1


def test_process_scores():
    x = np.log(np.array([[0.5, 0.25, 0.15, 0.1]]))
    assert np.allclose(np.exp(process_scores(x)), [[0.5, 0.25, 0.15, 0.1]])
    assert np.allclose(np.exp(process_scores(x, top_k=3)), [[5 / 9, 2.5 / 9, 1.5 / 9, 0]])
    assert np.allclose(np.exp(process_scores(x, top_p=0.5)), [[1, 0, 0, 0]])
    assert np.allclose(np.exp(process_scores(x, top_p=0.51)), [[2 / 3, 1 / 3, 0, 0]])
    assert np.allclose(np.exp(process_scores(x, top_p=1e-9)), [[1, 0, 0, 0]])
    assert np.allclose(np.exp(process_scores(x, top_k=3, top_p=0.8)), [[2 / 3, 1 / 3, 0, 0]])  # p of those left
    ties = np.zeros((2, 5))
    assert np.array_equal(np.isfinite(process_scores(ties, top_k=2)), [[True, True, False, False, False]] * 2)
    repeated = process_scores(np.array([[2.0, -1.0, 0.5]]), repetition_penalty=2.0, previous=[[0, 1, 1]])
    e = np.exp([1.0, -2.0, 0.5])
    assert np.allclose(np.exp(repeated), e / e.sum())
    assert np.exp(process_scores(np.array([[1e5, 0.0]]))).tolist() == [[1.0, 0.0]]


def test_errors():
    model = Markov(4, 0)
    with pytest.raises(ArgumentError, match="temperature=-1"):
        generate(model, [[0]], 3, temperature=-1)
    with pytest.raises(ArgumentError, match="top_k=0"):
        process_scores(np.zeros((1, 3)), top_k=0)
    with pytest.raises(ArgumentError, match=r"top_p=1\.5"):
        process_scores(np.zeros((1, 3)), top_p=1.5)
    with pytest.raises(ArgumentError, match="all tokens are forbidden"):
        process_scores(np.zeros((1, 2)), forbidden=[0, 1])
    with pytest.raises(ShapeError, match="at least one token"):
        generate(model, [[]], 3)
    with pytest.raises(ArgumentError, match="max_length=0"):
        beam_search(model, [[0]], 0)
    with pytest.raises(ArgumentError, match="width=0"):
        beam_search(model, [[0]], 3, width=0)
    with pytest.raises(ArgumentError, match="no select"):
        select_rows(object(), [0])

    class Wrong:
        def step(self, ids, state):
            return pydl.from_numpy(np.zeros((len(ids.data), 1, 4))), state

    with pytest.raises(ShapeError, match=r"Wrong.step gave scores of shape \(1, 1, 4\)"):
        generate(Wrong(), [[0]], 1)
    model.table[:] = np.nan
    with pytest.raises(NonFiniteError, match="Markov"):
        beam_search(model, [[0]], 3, state=model.start([0]))


def test_select_rows():
    a = pydl.from_numpy(np.arange(12.0).reshape(2, 3, 2))
    picked = select_rows({"h": (a, None), "c": [a]}, [2, 0, 0])
    assert np.array_equal(picked["h"][0].data, a.data[:, [2, 0, 0]])
    assert picked["h"][1] is None
    assert np.array_equal(picked["c"][0].data, a.data[:, [2, 0, 0]])


def test_the_model_is_in_evaluation_mode_meanwhile():
    class Net(pydl.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = pydl.nn.Dropout(0.5)
            self.part.eval()
            self.seen = []

        def step(self, ids, state):
            self.seen.append((self.training, self.part.training, pydl.is_grad_enabled()))
            return pydl.zeros(len(ids.data), 3), state

    net = Net()
    generate(net, [[0]], 2)
    assert net.seen == [(False, False, False)] * 2
    assert (net.training, net.part.training) == (True, False)  # each part as it was


def test_protocol():
    assert isinstance(Markov(2, 0), generation.StepModel)
