"""Skip-gram and CBOW: samples, loss and learning; the table of rows and its optimizer."""

import numpy as np
import pytest

import pydl
from pydl import models, nn, optim
from pydl.data import DataLoader
from pydl.errors import ArgumentError, DTypeError, ShapeError

SENTENCES = [np.array([0, 1, 2, 3, 4]), np.array([5, -1, 6]), np.array([7])]


def contexts(**options):
    return models.WordContexts(SENTENCES, 8, **{"threshold": 0, "window": 2, "negatives": 3, **options})


# --------------------------------------------------------------------------- samples


def test_pairs_are_near_and_in_one_sentence():
    pydl.manual_seed(0)
    words, candidates, zeros = contexts(window=1)[0]
    pairs = set(zip(words.tolist(), candidates[:, 0].tolist(), strict=True))
    assert pairs == {(0, 1), (1, 2), (2, 3), (3, 4), (1, 0), (2, 1), (3, 2), (4, 3), (5, 6), (6, 5)}
    assert candidates.shape == (10, 4)
    assert not zeros.any()
    seen = {1: 0, 2: 0}
    for _ in range(300):
        words, candidates, _ = contexts()[0]
        for a, b in zip(words.tolist(), candidates[:, 0].tolist(), strict=True):
            if a < 5:
                seen[abs(a - b)] += 1
    assert abs(seen[2] / seen[1] - 0.5 * 6 / 8) < 0.03  # reach 2 half of the time, 6 such pairs against 8


def test_windows_hold_all_words_near():
    pydl.manual_seed(0)
    words, candidates, _ = contexts(kind="cbow", window=1)[0]
    found = {c: sorted(w[w >= 0].tolist()) for w, c in zip(words, candidates[:, 0].tolist(), strict=True)}
    assert found == {0: [1], 1: [0, 2], 2: [1, 3], 3: [2, 4], 4: [3], 5: [6], 6: [5]}


def test_batches_cover_the_text_and_frequent_words_thin_out():
    text = np.where(np.random.default_rng(0).random(20000) < 0.5, 0, np.arange(20000) % 999 + 1)
    data = models.WordContexts([text], 1000, threshold=1e-2, window=1, tokens=3000)
    assert len(data) == 7
    counts = np.zeros(1000)
    for words, _, _ in DataLoader(data, batch_size=None):
        np.add.at(counts, words.numpy(), 1)
    share = counts[0] / counts.sum()
    kept = 0.5 * np.sqrt(1e-2 / 0.5)  # of all words, 0 makes up a half and stays with this probability
    assert abs(share - kept / (kept + 0.5)) < 0.02
    again = [w.numpy() for w, _, _ in DataLoader(data, batch_size=None)]
    assert not np.array_equal(again[0], words.numpy())


def test_drawn_words_follow_their_counts():
    counts = np.array([1, 16, 81, 0, 256])
    drawn = models.NegativeSampler(counts)((200, 1000), np.random.default_rng(0))
    expected = counts**0.75 / (counts**0.75).sum()
    np.testing.assert_allclose(np.bincount(drawn.ravel(), minlength=5) / drawn.size, expected, atol=4e-3)
    flat = models.NegativeSampler(counts, 0.0)((200, 1000), np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(flat.ravel()) / flat.size, 0.2, atol=4e-3)


# --------------------------------------------------------------------------- model and loss


def numbers():
    model = models.Word2Vec(6, 3)
    for table in model.tables:
        nn.init.normal_(table.weight)
    return model, *(t.weight.numpy().astype(np.float64) for t in model.tables)


def test_scores_and_loss_by_hand():
    model, v, u = numbers()
    words, candidates = np.array([0, 5]), np.array([[1, 2, 3], [4, 4, 0]])
    scores = model(words, candidates)
    expected = np.array([[v[w] @ u[c] for c in row] for w, row in zip(words, candidates, strict=True)])
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-5)
    bags = np.array([[0, 1, -1], [5, -1, -1]])
    mean = np.stack([(v[0] + v[1]) / 2, v[5]])
    np.testing.assert_allclose(model(bags, candidates).detach().numpy(), np.einsum("nd,nkd->nk", mean, u[candidates]), rtol=1e-5)

    def log_sigmoid(x):
        return -np.log1p(np.exp(-x))

    loss = -(log_sigmoid(expected[:, 0]) + log_sigmoid(-expected[:, 1:]).sum(1)).mean()
    assert models.negative_sampling_loss(scores, np.zeros(2)).item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("kind", ["skipgram", "cbow"])
def test_words_of_one_kind_come_together(kind):
    """Two languages that never mix: words are nearer to those of their own."""
    rng = np.random.default_rng(0)
    sentences = [rng.integers(0, 10, 12) + 10 * (i % 2) for i in range(150)]
    pydl.manual_seed(0)
    data = models.WordContexts(sentences, 20, kind=kind, threshold=0, tokens=500)
    model = models.Word2Vec(20, 16)
    optimizer = optim.SparseAdam(model.tables, lr=0.02)
    losses = []
    loader = DataLoader(data, batch_size=None, shuffle=True)
    for _ in range(20):
        for words, candidates, zeros in loader:
            optimizer.zero_grad()
            loss = models.negative_sampling_loss(model(words, candidates), zeros)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]
    cosines = model.vectors() @ model.vectors().T
    own = cosines[:10, :10].sum() + cosines[10:, 10:].sum() - 20
    assert own / 180 > cosines[:10, 10:].mean() + 0.5


# --------------------------------------------------------------------------- tables of rows


def test_gradient_of_rows_is_that_of_the_table():
    table, dense = nn.RowEmbedding(9, 4), nn.Embedding(9, 4)
    dense.load_state_dict(table.state_dict())
    for index in ([[1, 7], [7, 7]], [3, 1], [8]):
        x = pydl.tensor(index)
        (table(x) ** 3).sum().backward()
        (dense(x) ** 3).sum().backward()
    rows, gradient = table.gradient()
    assert rows.tolist() == [1, 3, 7, 8]
    np.testing.assert_allclose(gradient, dense.weight.grad.numpy()[rows], rtol=1e-6)
    assert table.weight.grad is None
    table.forget()
    assert table.gradient() is None
    table.forget()
    with pydl.no_grad():
        table(pydl.tensor([1]))
    table.eval()(pydl.tensor([1]))
    assert table.touched == []


def test_gradients_may_be_cleared_before_or_after_the_forward_pass():
    found = []
    for late in (False, True):
        pydl.manual_seed(0)
        table = nn.RowEmbedding(9, 4)
        optimizer = optim.SparseAdam(table, lr=0.1)
        for i in range(5):
            if not late:
                optimizer.zero_grad()
            loss = (table(pydl.tensor([i, 5])) ** 3).sum()
            if late:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert len(table.touched) <= 2  # nothing piles up
        found.append(table.weight.numpy())
    np.testing.assert_array_equal(*found)
    before = found[1].copy()
    optimizer.zero_grad()
    optimizer.zero_grad()
    optimizer.step()
    np.testing.assert_array_equal(table.weight.numpy(), before)


def test_sparse_adam_saves_and_goes_on():
    def steps(table, optimizer, n, start=0):
        for i in range(start, start + n):
            optimizer.zero_grad()
            (table(pydl.tensor([i % 3, 5, i % 7])) ** 2).sum().backward()
            optimizer.step()

    pydl.manual_seed(0)
    table = nn.RowEmbedding(9, 4)
    begin = table.weight.numpy().copy()
    optimizer = optim.SparseAdam(table, lr=0.1)
    steps(table, optimizer, 3)
    other = nn.RowEmbedding(9, 4)
    other.load_state_dict(table.state_dict())
    resumed = optim.SparseAdam([other], lr=0.5)
    resumed.load_state_dict(optimizer.state_dict())
    for t, o in ((table, optimizer), (other, resumed)):
        steps(t, o, 4, 3)
    np.testing.assert_array_equal(table.weight.numpy(), other.weight.numpy())
    np.testing.assert_array_equal(table.weight.numpy()[7:], begin[7:])
    assert np.abs(table.weight.numpy() - begin)[:7].min(1).max() > 0.01


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: nn.RowEmbedding(4, 2)(pydl.tensor([0, 4])), ArgumentError, "indices from 0 to 4, expected 0 to 3"),
        (lambda: nn.RowEmbedding(4, 2)(pydl.tensor([0.5])), DTypeError, "must hold integers"),
        (lambda: optim.SparseAdam(nn.Embedding(4, 2)), ArgumentError, "expected nn.RowEmbedding tables, got Embedding"),
        (lambda: models.Word2Vec(4, 2)(np.zeros(3, int), np.zeros((2, 3), int)), ShapeError, r"words of shape \(3,\)"),
        (lambda: models.Word2Vec(4, 2)(np.full((1, 2), -1), np.zeros((1, 3), int)), ArgumentError, "row 0 of words has none"),
        (lambda: models.WordContexts([[0]], 1, kind="glove"), ArgumentError, "kind='glove'"),
        (lambda: models.WordContexts([[-1]], 5), ArgumentError, "numbers from 0 to 4, at least one"),
        (lambda: models.WordContexts([[5]], 5), ArgumentError, "numbers from 0 to 4"),
        (lambda: models.WordContexts([[0]], 1, window=0), ArgumentError, "window=0"),
        (lambda: models.NegativeSampler([0, 0]), ArgumentError, "not all zero"),
    ],
)
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()
