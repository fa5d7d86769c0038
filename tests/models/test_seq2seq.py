"""Encoder-decoders: one step at a time gives what all at once gives, padding changes nothing, and they learn."""

import itertools

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.errors import ArgumentError, ShapeError
from pydl.generation import beam_search, generate
from pydl.models import Seq2Seq, TransformerSeq2Seq
from pydl.text import Seq2SeqTrainer, TeacherForcing, sequence_cross_entropy, transduce

KINDS = {
    "plain": {"attention": None},
    "context": {"attention": None, "feed_context": True},
    "bahdanau": {"attention": "bahdanau"},
    "dot": {"attention": "dot", "bidirectional": False},
    "general": {"attention": "general"},
    "concat": {"attention": "concat"},
    "fed": {"attention": "general", "input_feeding": True},
}
LENGTHS = [7, 3, 5, 1]


def batch(seed=0):
    rng = np.random.default_rng(seed)
    source = rng.integers(1, 30, (4, 7))
    for row, n in zip(source, LENGTHS, strict=True):
        row[n:] = 0
    return source, rng.integers(1, 20, (4, 5))


def recurrent(kind, cell="gru", **more):
    pydl.manual_seed(1)
    return Seq2Seq(30, 20, 8, 12, 2, cell, **({"bidirectional": True} | KINDS[kind] | more))


def transformer(**more):
    pydl.manual_seed(1)
    model = TransformerSeq2Seq(30, 20, **({"d_model": 16, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2,
                                           "dim_feedforward": 32} | more))  # fmt: skip
    return model.eval()


MODELS = {f"{kind}-{cell}": lambda kind=kind, cell=cell: recurrent(kind, cell) for kind in KINDS for cell in ("gru", "lstm")}
MODELS |= {"rnn": lambda: recurrent("bahdanau", "rnn"), "transformer": transformer,
           "transformer-pre": lambda: transformer(norm_first=True, tie="output")}  # fmt: skip


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_steps_give_what_the_whole_gives(make):
    model, (source, target) = make(), batch()
    whole = model(source, LENGTHS, target).data
    assert whole.shape == (4, 5, 20)
    with pydl.no_grad():
        state = model.encode(source, LENGTHS)
        for t in range(5):
            logits, state = model.step(target[:, t : t + 1], state)
            np.testing.assert_allclose(logits.data, whole[:, t], rtol=1e-4, atol=2e-6)
        logits, _ = model.step(target, model.encode(source, LENGTHS))  # five at once
    np.testing.assert_allclose(logits.data, whole[:, -1], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_padding_and_the_other_sequences_change_nothing(make):
    model, (source, target) = make(), batch()
    whole = model(source, LENGTHS, target).data
    changed = source.copy()
    for row, n in zip(changed, LENGTHS, strict=True):
        row[n:] = 9
    np.testing.assert_allclose(model(changed, LENGTHS, target).data, whole, rtol=1e-4, atol=2e-6)
    for i, n in enumerate(LENGTHS):
        alone = model(source[i : i + 1, :n], [n], target[i : i + 1]).data
        np.testing.assert_allclose(alone[0], whole[i], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_step_depends_on_earlier_symbols_alone_and_all_parameters_learn(make):
    model, (source, target) = make(), batch()
    before = model(source, LENGTHS, target).data
    target[:, 3] = 1 + target[:, 3] % 19
    after = model(source, LENGTHS, target)
    assert np.array_equal(before[:, :3], after.data[:, :3])
    assert not np.allclose(before[:, 3], after.data[:, 3])
    sequence_cross_entropy(after, pydl.tensor(target)).backward()
    assert all(p.grad is not None and np.abs(p.grad.data).sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_selected_states_go_on_as_those_sequences(kind):
    model, (source, target) = recurrent(kind), batch()
    index = np.array([2, 0, 2])
    with pydl.no_grad():
        _, state = model.step(target[:, :2], model.encode(source, LENGTHS))
        found, _ = model.step(target[index, 2:4], model.select(state, index))
        expected = model(source, LENGTHS, target).data[index, 3]
    np.testing.assert_allclose(found.data, expected, rtol=1e-4, atol=2e-6)


def test_selected_transformer_states_go_on_as_those_sequences():
    model, (source, target) = transformer(), batch()
    index = np.array([2, 0, 2])
    expected = model(source, LENGTHS, target).data[index, 3]
    with pydl.no_grad():
        _, state = model.step(target[:, :2], model.encode(source, LENGTHS))
        found, state = model.step(target[index, 2:4], model.select(state, index))
    assert state.position == 4
    np.testing.assert_allclose(found.data, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", ["bahdanau", "dot", "general", "concat", "fed"])
def test_alignments_are_distributions_over_the_source(kind):
    model, (source, target) = recurrent(kind), batch()
    _, weights = model(source, LENGTHS, target, need_weights=True)
    assert weights.shape == (4, 5, 7)
    np.testing.assert_allclose(weights.data.sum(-1), 1, rtol=1e-5)
    for row, n in zip(weights.data, LENGTHS, strict=True):
        assert (row[:, n:] == 0).all()
        assert (row[:, :n] > 0).all()


def test_alignments_of_the_transformer():
    model, (source, target) = transformer(), batch()
    heads = model.alignments(source, LENGTHS, target, average=False).data
    assert heads.shape == (4, 4, 5, 7)
    np.testing.assert_allclose(heads.mean(1), model.alignments(source, LENGTHS, target).data, rtol=1e-5)
    np.testing.assert_allclose(heads.sum(-1), 1, rtol=1e-5)
    assert (heads[3, :, :, 1:] == 0).all()


def test_a_decoder_without_attention_has_no_alignments():
    source, target = batch()
    assert recurrent("plain")(source, LENGTHS, target, need_weights=True)[1] is None


@pytest.mark.parametrize("kind", KINDS)
def test_own_symbols_in_place_of_the_right_ones(kind):
    """Never told: the first symbol is given, the others are the decoder's likeliest, as in greedy generation."""
    model, (source, target) = recurrent(kind), batch()
    logits = model(source, LENGTHS, target, teacher_forcing=0.0).data
    found = generate(model, target[:, :1], 5, state=model.encode(source, LENGTHS)).tokens
    assert np.array_equal(logits.argmax(-1), np.stack(found))
    told = model(source, LENGTHS, target, teacher_forcing=1 - 1e-9).data
    np.testing.assert_allclose(told, model(source, LENGTHS, target).data, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("model", [recurrent("bahdanau"), transformer()], ids=["recurrent", "transformer"])
def test_beam_search_is_at_least_as_probable_as_greedy_and_counts_right(model):
    model.eval()
    source, _ = batch()
    prompt = np.full((4, 1), 2)
    with pydl.no_grad():
        greedy = generate(model, prompt, 6, eos=3, state=model.encode(source, LENGTHS))
        beams = beam_search(model, prompt, 6, width=8, eos=3, state=model.encode(source, LENGTHS), alpha=0)
        for i, (beam, log_p) in enumerate(zip(beams, greedy.log_probs, strict=True)):
            assert beam[0].log_prob >= log_p - 1e-5
            symbols = [*beam[0].tokens, *([3] if beam[0].finished else [])]
            told = np.array([[2, *symbols[:-1]]])
            scores = pydl.log_softmax(model(source[i : i + 1], LENGTHS[i : i + 1], told), -1).data[0]
            assert scores[np.arange(len(symbols)), symbols].sum() == pytest.approx(beam[0].log_prob, abs=1e-4)


def reversals(n, rng):
    words = [rng.integers(4, 10, rng.integers(2, 7)) for _ in range(n)]
    return [(w, np.array([2, *w[::-1], 3])) for w in words]


@pytest.mark.parametrize("kind", ["bahdanau", "general", "transformer"])
def test_it_learns_to_reverse(kind, tmp_path):
    from pydl.data import DataLoader
    from pydl.text import BucketSampler, PadCollate, Perplexity

    pydl.manual_seed(0)
    data, test = reversals(800, np.random.default_rng(0)), reversals(50, np.random.default_rng(1))
    if kind == "transformer":
        model = TransformerSeq2Seq(10, 10, 32, 4, 1, 1, 64, 0.0, norm_first=True)
    else:
        model = Seq2Seq(10, 10, 16, 32, attention=kind)
    loader = DataLoader(data, batch_sampler=BucketSampler([len(w) for w, _ in data], 32), collate_fn=PadCollate(lengths=[0]))
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    trainer = Seq2SeqTrainer(model, optimizer, {"perplexity": Perplexity(ignore_index=0)}, label_smoothing=0.05,
                             teacher_forcing=TeacherForcing("linear", 1.0, 0.7, 200) if kind == "general" else None,
                             out=tmp_path, progress=False, plot=False)  # fmt: skip
    history = trainer.fit(loader, None, 12)
    assert history["train_perplexity"][-1] < 2
    out = transduce(model, [w for w, _ in test], 2, 3, 10, width=1 if kind == "general" else 2)
    right = np.mean([np.array_equal(o, w[::-1]) for o, (w, _) in zip(out, test, strict=True)])
    assert right > 0.5  # a guess is right once in 6^4


def test_numbers_of_parameters():
    """Vaswani et al. 2017, table 3, base: 65 million with 37,000 symbols in common; the sum says which."""
    with nn.init.skip():
        model = TransformerSeq2Seq(37_000, 37_000, tie="all")
    attention, forward, norm = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    encoder, decoder = attention + forward + 2 * norm, 2 * attention + forward + 3 * norm
    assert sum(p.numel() for p in model.parameters()) == 37_000 * 512 + 6 * (encoder + decoder) + 2 * norm == 63_084_544
    assert model.output.weight is model.source_embedding.weight
    # Bahdanau et al. 2015 with one GRU layer: 3 (H E + H H + 2 H) for each direction, and so on.
    e, h, v = 8, 12, 20
    gru = lambda i: 3 * (h * i + h * h + 2 * h)  # noqa: E731
    model = Seq2Seq(30, v, e, h)
    expected = 30 * e + 2 * gru(e) + (2 * h * h + h) + v * e + gru(e + 2 * h)
    expected += h * h + (2 * h * h + h) + h  # attention: query, key with bias, score
    expected += (h + 2 * h + e) * h + h + h * v + v
    assert sum(p.numel() for p in model.parameters()) == expected


def test_label_smoothing_and_padding_of_the_loss():
    logits = pydl.tensor(np.random.default_rng(0).standard_normal((2, 3, 5)))
    target = pydl.tensor(np.array([[1, 4, 0], [2, 0, 0]]))
    log_p = pydl.log_softmax(logits, -1).data
    rows = [(0, 0, 1), (0, 1, 4), (1, 0, 2)]
    plain = -np.mean([log_p[i] for i in rows])
    smooth = -np.mean([log_p[i[:2]].mean() for i in rows])
    assert sequence_cross_entropy(logits, target).item() == pytest.approx(plain)
    assert sequence_cross_entropy(logits, target, label_smoothing=0.1).item() == pytest.approx(0.9 * plain + 0.1 * smooth)
    with pytest.raises(ShapeError, match=r"\(2, 3, 5\).*\(2, 2\)"):
        sequence_cross_entropy(logits, target[:, :2])


def test_what_is_refused():
    source, target = batch()
    for options, message in [({"attention": "luong"}, "luong"), ({"cell": "tcn"}, "tcn"),
                             ({"feed_context": True}, "feed_context"), ({"input_feeding": True}, "input_feeding"),
                             ({"attention": "dot"}, "general"), ({"scaled": True}, "bahdanau")]:  # fmt: skip
        with pytest.raises(ArgumentError, match=message):
            Seq2Seq(30, 20, 8, 12, **options)
    for options, message in [({"tie": "both"}, "both"), ({"tie": "all"}, "30 and 20")]:
        with pytest.raises(ArgumentError, match=message):
            TransformerSeq2Seq(30, 20, 16, 4, **options)
    for model in (recurrent("plain"), transformer()):
        with pytest.raises(ShapeError, match=r"\(7,\)"):
            model(source[0], [7], target[:1])
        with pytest.raises(ShapeError, match=r"\(2, 5\)"):
            model(source, LENGTHS, target[:2])
        with pytest.raises((IndexError, ArgumentError), match="30"):
            model(source + 30, LENGTHS, target)
    with pytest.raises(ArgumentError, match="teacher_forcing=2"):
        recurrent("plain")(source, LENGTHS, target, teacher_forcing=2)


@pytest.mark.parametrize("kind", ["bahdanau", "general", "fed", "transformer"])
def test_a_beam_wide_enough_finds_the_best_of_all_translations(kind):
    """All outputs of up to three symbols, <eos> (3) included, are scored whole, by what the model gives when it is told them."""
    sources = [np.random.default_rng(i).integers(4, 12, n) for i, n in enumerate((6, 2, 4))]
    outputs = [o for n in range(3) for o in itertools.product((0, 1, 2, 4), repeat=n)]
    told = np.array([[2, *o, 0, 0][:3] for o in outputs])  # the zeros behind an output are not looked at
    met = set()
    for seed, alpha in itertools.product(range(4), (0, 0.6, 3)):
        pydl.manual_seed(seed)
        if kind == "transformer":
            model = TransformerSeq2Seq(12, 5, 16, 4, 1, 1, 32, 0.0)
        else:
            model = Seq2Seq(12, 5, 6, 10, **KINDS[kind])
        model.eval()
        best = []
        with pydl.no_grad():
            for p in model.parameters():
                p.mul_(3)  # opinions
            for source in sources:
                logits = model(np.tile(source, (21, 1)), [len(source)] * 21, told).data.astype(np.float64)
                log_p = logits - np.log(np.exp(logits).sum(2, keepdims=True))
                sums = [sum(log_p[i, t, symbol] for t, symbol in enumerate((*o, 3))) for i, o in enumerate(outputs)]
                best.append(max(zip(sums, outputs, strict=True), key=lambda x: x[0] / ((6 + len(x[1])) / 6) ** alpha)[1])
        assert [tuple(o) for o in transduce(model, sources, 2, 3, 3, width=125, alpha=alpha)] == best
        met |= set(best)
    assert len(met) > 3
