"""Language models and the shapes of recurrent networks: counts, causality, states, generation, learning, resumed training."""

import itertools

import numpy as np
import pytest

import pydl
from pydl import models, nn, optim
from pydl.errors import ArgumentError, ShapeError
from pydl.generation import StepModel, beam_search, generate
from pydl.text import BitsPerToken, BPTTBatches, LanguageModelTrainer, Perplexity

RNN = [("rnn", 1), ("lstm", 2), ("gru", 2)]


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("tied", [False, True])
def test_counts_of_recurrent_models(cell, tied):
    gates, v, e, h = {"rnn": 1, "gru": 3, "lstm": 4}[cell], 50, 24, 24
    model = models.RNNLanguageModel(v, e, h, 2, cell, tied=tied)
    assert count(model) == v * e + gates * h * (e + h + 2) + gates * h * (2 * h + 2) + (0 if tied else h * v) + v


def test_gpt2_has_its_published_number_of_parameters():
    with nn.init.skip():
        model = models.TransformerLanguageModel(50257, 768, 12, 12, max_len=1024)
    assert count(model) == 124_439_808


def small(kind):
    pydl.manual_seed(1)
    if kind == "transformer":
        return models.TransformerLanguageModel(9, 16, 2, 2, max_len=32, dropout=0.0).double()
    return models.RNNLanguageModel(9, 8, 12, 2, kind).double()


KINDS = ["rnn", "lstm", "gru", "transformer"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_position_sees_later_ones(kind):
    model, ids = small(kind), np.random.default_rng(0).integers(0, 9, (2, 10))
    changed = ids.copy()
    changed[:, 6] = (changed[:, 6] + 1) % 9
    with pydl.no_grad():
        a, b = (model(pydl.from_numpy(x))[0].numpy() for x in (ids, changed))
    assert a.shape == (2, 10, 9)
    np.testing.assert_array_equal(a[:, :6], b[:, :6])
    assert (np.abs(a[:, 6:] - b[:, 6:]).max(-1) > 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_the_whole(kind):
    """Token by token, or in pieces, with a state or cache: the scores are those of one pass."""
    model, ids = small(kind), np.random.default_rng(0).integers(0, 9, (3, 12))
    assert isinstance(model, StepModel)
    with pydl.no_grad():
        whole = model(pydl.from_numpy(ids))[0].numpy()
        for cuts in (range(13), (0, 5, 6, 12)):
            state = None
            for a, b in itertools.pairwise(cuts):
                scores, state = model.step(pydl.from_numpy(ids[:, a:b]), state)
                np.testing.assert_allclose(scores.numpy(), whole[:, b - 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_selected_sequences_go_on_as_they_would(kind):
    model, rng = small(kind), np.random.default_rng(0)
    ids, more, index = rng.integers(0, 9, (3, 7)), rng.integers(0, 9, (4, 1)), np.array([2, 0, 0, 1])
    with pydl.no_grad():
        _, state = model.step(pydl.from_numpy(ids), None)
        scores, _ = model.step(pydl.from_numpy(more), model.select(state, index))
        wanted = model(pydl.from_numpy(np.concatenate([ids[index], more], 1)))[0].numpy()[:, -1]
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_beams_of_real_models_report_true_probabilities(kind):
    model = small(kind)
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=0.7)
    prompts = np.array([[1, 2], [3, 4]])
    for prompt, hypotheses in zip(prompts, beam_search(model, prompts, 6, width=5, eos=0), strict=True):
        for h in hypotheses:
            tokens = [*h.tokens, *([0] if h.finished else [])]
            with pydl.no_grad():
                scores = model(pydl.from_numpy(np.array([[*prompt, *tokens]])))[0]
                log_p = pydl.log_softmax(scores, -1).numpy()[0, 1:-1]
            assert h.log_prob == pytest.approx(log_p[np.arange(len(tokens)), tokens].sum())
        assert len({tuple(h.tokens) for h in hypotheses}) == 5


def test_a_transformer_generates_beyond_its_longest_input():
    model = small("transformer")
    text = generate(model, [[1, 2, 3]] * 2, 80, temperature=1.0, generator=pydl.Generator(3)).tokens
    assert [len(t) for t in text] == [80, 80]
    # After 32 tokens it reads the later 16 again: the next score is that of those 16 alone
    ids = np.concatenate([[1, 2, 3], text[0]])[None, :33]
    with pydl.no_grad():
        state = None
        for t in range(33):
            scores, state = model.step(pydl.from_numpy(ids[:, t : t + 1]), state)
        wanted = model(pydl.from_numpy(ids[:, 17:]))[0].numpy()[:, -1]
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_errors():
    with pytest.raises(ArgumentError, match="to be equal"):
        models.RNNLanguageModel(9, 8, 12, tied=True)
    with pytest.raises(ArgumentError, match="cell='elman'"):
        models.RNNLanguageModel(9, cell="elman")
    model = small("transformer")
    with pytest.raises(ShapeError, match="max_len=32"):
        model(pydl.zeros(1, 33, dtype=pydl.int64))
    with pytest.raises(ShapeError, match=r"expected tokens \(B, T\)"):
        model(pydl.zeros(3, dtype=pydl.int64))
    with pytest.raises(ArgumentError, match="9"):
        model(pydl.tensor([[9]]))
    with pytest.raises(ArgumentError, match="one of the two"):
        models.SequenceToVector(3)


# --------------------------------------------------------------------------- training


def remembered(n):
    """A text in which every second token repeats the one three before: a model with memory predicts it, frequencies do not."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, n)
    for i in range(3, n):
        if i % 2:
            ids[i] = ids[i - 3]
    return ids


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_learning_what_frequencies_cannot_tell(kind, tmp_path):
    pydl.manual_seed(0)
    if kind == "transformer":
        model = models.TransformerLanguageModel(6, 32, 2, 2, max_len=32, dropout=0.0)
    else:
        model = models.RNNLanguageModel(6, 16, 48, 1, kind)
    ids = remembered(8001)
    trainer = LanguageModelTrainer(model, optim.Adam(model.parameters(), 1e-2), {"bits": BitsPerToken()}, out=tmp_path,
                                   carry=kind != "transformer", grad_clip=1.0, progress=False, plot=False)
    history = trainer.fit(BPTTBatches(ids, 10, 20), BPTTBatches(remembered(9001)[8000:], 4, 20), 10)
    # half of the tokens cost log2(6) = 2.58 bits, the others nothing: 1.29
    assert history["valid_bits"][-1] < 1.8


def test_the_state_is_carried_and_cut_off(tmp_path):
    """Windows with the carried state give the scores of one long pass; without it they do not; gradients stay in the window."""
    model, ids = small("lstm"), np.random.default_rng(0).integers(0, 9, 41)
    with pydl.no_grad():
        whole = model(pydl.from_numpy(ids[None, :40]))[0].numpy()
    for carry in (True, False):
        trainer = LanguageModelTrainer(model, optim.SGD(model.parameters(), 0.0), {"perplexity": Perplexity()}, carry=carry,
                                       out=tmp_path, progress=False, plot=False)
        model.train()
        parts = [trainer.forward(batch)[1].detach().numpy() for batch in BPTTBatches(ids, 1, 8)]
        same = np.allclose(np.concatenate(parts, 1), whole, rtol=1e-9, atol=1e-12)
        assert same == carry
        loss = trainer.evaluate(BPTTBatches(ids, 1, 8))["perplexity"]
        again = trainer.evaluate(BPTTBatches(ids, 1, 8))["perplexity"]
        assert loss == again  # each evaluation starts without a state
        exact = trainer.evaluate(BPTTBatches(ids, 1, 40))["perplexity"]
        assert (abs(loss - exact) < 1e-9) == carry


def test_training_resumed_in_the_middle_of_an_epoch_has_the_same_bits(tmp_path):
    from pydl.train import Callback

    class Interrupt(Callback):
        def __init__(self, at):
            self.at = at

        def on_step_end(self, trainer, loss):
            if trainer.step == self.at:
                trainer.interrupted = True

    def trainer(folder, interrupt_at):
        pydl.manual_seed(3)
        model = models.RNNLanguageModel(6, 8, 16, 2, "lstm", dropout=0.2)
        return LanguageModelTrainer(model, optim.Adam(model.parameters()), {"bits": BitsPerToken()}, seed=1,
                                    out=tmp_path / folder, callbacks=[Interrupt(interrupt_at)], progress=False, plot=False)

    data = BPTTBatches(remembered(500), 5, 20)
    whole = trainer("whole", 0)
    whole.fit(data, data, 3)
    trainer("parts", 7).fit(data, data, 3)
    rest = trainer("parts", 0)
    rest.fit(data, data, 3, resume=True)
    assert rest.history.rows == whole.history.rows
    for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


# --------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_padding_changes_nothing(cell, bidirectional, pool):
    rng = np.random.default_rng(0)
    lengths = [5, 2, 7]
    options = {"hidden_size": 6, "cell": cell, "bidirectional": bidirectional, "num_layers": 2}
    vector = models.SequenceToVector(3, vocabulary_size=11, embed_dim=4, pool=pool, **options).double()
    tags = models.SequenceToSequence(3, input_size=4, **options).double()
    ids, x = rng.integers(0, 11, (3, 7)), rng.normal(size=(3, 7, 4))
    n = pydl.from_numpy(np.array(lengths))
    with pydl.no_grad():
        batch, steps = vector(pydl.from_numpy(ids), n).numpy(), tags(pydl.from_numpy(x), n).numpy()
        for i, k in enumerate(lengths):
            np.testing.assert_allclose(batch[i], vector(pydl.from_numpy(ids[i : i + 1, :k])).numpy()[0], rtol=1e-9)
            np.testing.assert_allclose(steps[i, :k], tags(pydl.from_numpy(x[i : i + 1, :k])).numpy()[0], rtol=1e-9)
    assert batch.shape == (3, 3)
    assert steps.shape == (3, 7, 3)


def test_a_vector_starts_a_sequence():
    """Each of four vectors is learnt to spell its own word."""
    pydl.manual_seed(0)
    words = np.array([[2, 4, 5, 6, 3], [2, 6, 5, 4, 3], [2, 4, 4, 3, 0], [2, 5, 3, 0, 0]])  # 2 starts, 3 ends, 0 pads
    vectors = pydl.from_numpy(np.eye(4, dtype=np.float32))
    for cell, layers in RNN:
        model = models.VectorToSequence(4, 7, 8, 24, layers, cell)
        optimizer = optim.Adam(model.parameters(), 0.02)
        target = pydl.from_numpy(np.ascontiguousarray(words[:, 1:]))
        for _ in range(80):
            optimizer.zero_grad()
            scores = model(vectors, pydl.from_numpy(np.ascontiguousarray(words[:, :-1])))
            pydl.cross_entropy(scores.reshape(-1, 7), target.reshape(-1), ignore_index=0).backward()
            optimizer.step()
        spelt = generate(model, [[2]] * 4, 10, eos=3, state=model.start(vectors))
        assert [t.tolist() for t in spelt.tokens] == [[4, 5, 6], [6, 5, 4], [4, 4], [5]], cell
        beams = beam_search(model, [[2]] * 4, 10, width=3, eos=3, state=model.start(vectors))
        assert [b[0].tokens.tolist() for b in beams] == [t.tolist() for t in spelt.tokens]
