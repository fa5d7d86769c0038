"""Networks that label sequences (text CNN, recurrent tagger) and forecast series."""

import numpy as np
import pytest

import pydl
from pydl import models, nn, optim
from pydl.errors import ArgumentError, ShapeError

LENGTHS = [6, 3, 1, 4]


def tokens(steps=6):
    ids = np.random.default_rng(0).integers(1, 12, (4, steps))
    for row, n in zip(ids, LENGTHS, strict=True):
        row[n:] = 0
    return ids


CLASSIFIERS = {
    "cnn": lambda: models.TextCNN(12, 3, 5, (2, 3), 4),
    "wide cnn": lambda: models.TextCNN(12, 3, 5, (1, 9), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_padding_changes_nothing(name):
    pydl.manual_seed(0)
    model = CLASSIFIERS[name]().eval()
    ids = tokens()
    whole = model(pydl.from_numpy(ids), LENGTHS).detach().numpy()
    far = np.pad(ids, ((0, 0), (0, 9)))
    np.testing.assert_allclose(model(pydl.from_numpy(far), LENGTHS).detach().numpy(), whole, atol=1e-6)
    for i, n in enumerate(LENGTHS):
        np.testing.assert_allclose(model(pydl.from_numpy(ids[i : i + 1, :n])).detach().numpy()[0], whole[i], atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_by_one_word_are_learnt(name):
    pydl.manual_seed(0)
    rng = np.random.default_rng(1)
    ids, labels = rng.integers(4, 12, (60, 7)), rng.integers(0, 3, 60)
    ids[np.arange(60), rng.integers(0, 7, 60)] = labels + 1
    model = CLASSIFIERS[name]()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = optim.Adam(model.parameters(), lr=0.03)
    x, y = pydl.from_numpy(ids), pydl.from_numpy(labels)
    for _ in range(150):
        optimizer.zero_grad()
        loss = pydl.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None for p in model.parameters())
    assert (model(x).argmax(1).numpy() == labels).mean() > 0.95


def test_text_cnn_by_hand():
    model = models.TextCNN(12, 3, 5, (2, 3), 4).eval()
    ids = tokens()
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    expected = []
    for row, n in zip(ids, LENGTHS, strict=True):
        vectors = state["embedding.weight"][row]
        features = []
        for i, width in enumerate((2, 3)):
            w, b = state[f"convs.{i}.weight"], state[f"convs.{i}.bias"]
            places = [vectors[t : t + width].T for t in range(max(n - width + 1, 1))]
            features.append(np.max([np.maximum((w * p).sum((1, 2)) + b, 0) for p in places], 0))
        expected.append(state["fc.weight"] @ np.concatenate(features) + state["fc.bias"])
    np.testing.assert_allclose(model(pydl.from_numpy(ids), LENGTHS).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_given_vectors():
    vectors = pydl.randn(9, 4)
    model = models.TextCNN(0, 2, embeddings=vectors, static=True, widths=(2,), maps=3)
    assert model.embedding.weight.shape == (9, 4)
    assert not model.embedding.weight.requires_grad
    assert models.TextCNN(0, 2, embeddings=vectors).embedding.weight.requires_grad


def test_published_size_of_the_text_cnn():
    """Kim 2014: widths 3, 4, 5 with 100 maps each over vectors of 300, dropout one half."""
    model = models.TextCNN(50, 2, 300)
    assert sum(p.numel() for p in model.parameters()) == 50 * 300 + 12 * 300 * 100 + 300 + 602


def test_a_tag_depends_on_what_follows():
    model = models.RecurrentTagger((12, 7), 5, (4, 3), 6).eval()
    ids = np.stack([tokens(), tokens() % 7], 2)
    scores = model(pydl.from_numpy(ids), LENGTHS)
    assert scores.shape == (4, 5, 6)
    for i, n in enumerate(LENGTHS):
        alone = model(pydl.from_numpy(ids[i : i + 1, :n])).detach().numpy()[0]
        np.testing.assert_allclose(scores[i, :, :n].detach().numpy(), alone, atol=1e-6)
    changed = ids.copy()
    changed[0, 5, 1] = (changed[0, 5, 1] + 1) % 7
    difference = np.abs((model(pydl.from_numpy(changed), LENGTHS) - scores).detach().numpy())
    assert difference[0].max(0).min() > 1e-6  # every step of this sentence
    assert difference[1:].max() == 0
    loss = pydl.cross_entropy(scores, pydl.from_numpy(np.where(ids[:, :, 0] > 0, 2, -100)), ignore_index=-100)
    loss.backward()
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in model.parameters())


# --------------------------------------------------------------------------- forecasts


def test_an_untrained_forecaster_repeats_the_season():
    past = pydl.randn(2, 9, 3)
    for season in (1, 4):
        y = models.Forecaster(2, 1, 5, season=season)(past, pydl.zeros(2, 6, 1))
        expected = [past.numpy()[:, 9 - season + t % season, :2] for t in range(6)]
        np.testing.assert_array_equal(y.detach().numpy(), np.stack(expected, 1))


def test_teacher_forcing_and_gradients():
    model = models.Forecaster(1, 2, 5, layers=2, season=3)
    nn.init.normal_(model.fc.weight)
    past, known, target = pydl.randn(2, 7, 3), pydl.randn(2, 4, 2), pydl.randn(2, 4, 1)
    free, forced = model(past, known), model(past, known, target=target)
    np.testing.assert_array_equal(free[:, 0].detach().numpy(), forced[:, 0].detach().numpy())
    assert np.abs((free[:, 1] - forced[:, 1]).detach().numpy()).max() > 1e-4
    # with its own forecasts as target nothing changes
    again = model(past, known, target=free.detach())
    np.testing.assert_allclose(again.detach().numpy(), free.detach().numpy(), atol=1e-6)
    (free**2).sum().backward()
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in model.parameters())
    assert models.Forecaster(1, 0, 4)(pydl.randn(2, 5, 1), None, horizon=3).shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: models.TextCNN(5, 2, widths=()), ArgumentError, r"widths=\(\)"),
        (lambda: models.TextCNN(5, 2)(pydl.zeros(3, dtype=pydl.int64)), ShapeError, r"tokens of shape \(3,\), expected \(N, T\)"),
        (lambda: models.TextCNN(5, 2)(pydl.zeros(2, 4, dtype=pydl.int64), [4, 5]), ArgumentError,
         r"lengths\[1\]=5, expected 1 to 4"),
        (lambda: models.RecurrentTagger((5,), 2, (3, 4)), ArgumentError, r"vocab_sizes=\(5,\) and embed_dims=\(3, 4\)"),
        (lambda: models.RecurrentTagger((5, 6), 2, (3, 4))(pydl.zeros(2, 4, dtype=pydl.int64)), ShapeError,
         r"expected \(N, T, 2\)"),
        (lambda: models.Forecaster(0), ArgumentError, "channels=0"),
        (lambda: models.Forecaster(1, 0, season=8)(pydl.zeros(1, 7, 1), None, 2), ShapeError, "at least the season, 8"),
        (lambda: models.Forecaster(1, 2)(pydl.zeros(1, 7, 3), pydl.zeros(1, 4, 1)), ShapeError, r"known of shape \(1, 4, 1\)"),
    ],
)
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()
