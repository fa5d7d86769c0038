"""Language models beside the same built of PyTorch's layers: scores, all gradients, and twenty steps of training."""

import numpy as np
import pytest

import pydl
from pydl import models, nn, optim

torch = pytest.importorskip("torch")
V, B, T = 13, 3, 7


class TorchRNN(torch.nn.Module):
    def __init__(self, cell, layers, tied):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, 8)
        self.rnn = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](8, 8, layers, batch_first=True)
        self.decoder = torch.nn.Linear(8, V)
        if tied:
            self.decoder.weight = self.embedding.weight

    def forward(self, ids):
        return self.decoder(self.rnn(self.embedding(ids))[0])


class TorchGPT(torch.nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, 8)
        self.positions = torch.nn.Module()
        self.positions.weight = torch.nn.Parameter(torch.zeros(16, 8))
        block = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = torch.nn.TransformerEncoder(block, 2, torch.nn.LayerNorm(8), enable_nested_tensor=False)
        self.decoder = torch.nn.Linear(8, V, bias=False)
        if tied:
            self.decoder.weight = self.embedding.weight

    def forward(self, ids):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(ids.shape[1], dtype=torch.float64)
        x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        return self.decoder(self.blocks(x, mask, is_causal=True))


CASES = [("rnn", 1, False), ("lstm", 2, False), ("gru", 2, True), ("lstm", 1, True), ("gpt", 2, True), ("gpt", 2, False)]


@pytest.mark.parametrize(("kind", "layers", "tied"), CASES)
def test_scores_gradients_and_training(kind, layers, tied):
    pydl.manual_seed(0)
    if kind == "gpt":
        mine = models.TransformerLanguageModel(V, 8, 2, layers, max_len=16, dropout=0.0, tied=tied).double()
        theirs = TorchGPT(tied).double()
    else:
        mine = models.RNNLanguageModel(V, 8, 8, layers, kind, tied=tied).double()
        theirs = TorchRNN(kind, layers, tied).double()
    for p in mine.parameters():
        nn.init.normal_(p, std=0.3)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    if tied:  # loading copies into the one table twice; it must still be one
        assert theirs.decoder.weight is theirs.embedding.weight
        assert mine.decoder.weight is mine.embedding.weight
    rng = np.random.default_rng(0)
    mine_optimizer = optim.SGD(mine.parameters(), 0.1, momentum=0.9)
    their_optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    for step in range(20):
        ids, target = rng.integers(0, V, (2, B, T))
        mine_optimizer.zero_grad()
        their_optimizer.zero_grad()
        scores, wanted = mine(pydl.from_numpy(ids))[0], theirs(torch.tensor(ids))
        np.testing.assert_allclose(scores.detach().numpy(), wanted.detach().numpy(), rtol=1e-7, atol=1e-9)
        pydl.cross_entropy(scores.reshape(-1, V), pydl.from_numpy(target.ravel())).backward()
        torch.nn.functional.cross_entropy(wanted.reshape(-1, V), torch.tensor(target.ravel())).backward()
        if step in (0, 19):
            gradients = dict(theirs.named_parameters())
            for name, p in mine.named_parameters():
                np.testing.assert_allclose(p.grad.numpy(), gradients[name].grad.numpy(), rtol=1e-6, atol=1e-9, err_msg=name)
        mine_optimizer.step()
        their_optimizer.step()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_vector_from_ragged_sequences(cell, bidirectional):
    """The classifier beside PyTorch's layers on packed sequences: scores and gradients."""
    pydl.manual_seed(1)
    mine = models.SequenceToVector(3, vocabulary_size=V, embed_dim=5, hidden_size=4, num_layers=2, cell=cell,
                                   bidirectional=bidirectional).double()
    layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    theirs = torch.nn.ModuleDict({
        "embedding": torch.nn.Embedding(V, 5), "rnn": layer(5, 4, 2, batch_first=True, bidirectional=bidirectional),
        "output": torch.nn.Linear(8 if bidirectional else 4, 3),
    }).double()  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    rng = np.random.default_rng(2)
    ids, lengths, target = rng.integers(0, V, (4, 6)), np.array([3, 6, 1, 4]), rng.integers(0, 3, 4)
    packed = torch.nn.utils.rnn.pack_padded_sequence(theirs["embedding"](torch.tensor(ids)), torch.tensor(lengths),
                                                     batch_first=True, enforce_sorted=False)
    _, state = theirs["rnn"](packed)
    h = state[0] if cell == "lstm" else state
    wanted = theirs["output"](torch.cat([h[-2], h[-1]], -1) if bidirectional else h[-1])
    scores = mine(pydl.from_numpy(ids), pydl.from_numpy(lengths))
    np.testing.assert_allclose(scores.detach().numpy(), wanted.detach().numpy(), rtol=1e-8, atol=1e-10)
    pydl.cross_entropy(scores, pydl.from_numpy(target)).backward()
    torch.nn.functional.cross_entropy(wanted, torch.tensor(target)).backward()
    gradients = dict(theirs.named_parameters())
    for name, p in mine.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), gradients[name].grad.numpy(), rtol=1e-7, atol=1e-10, err_msg=name)
