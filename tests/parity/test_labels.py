"""Networks that label sequences, and the sparse optimizer, beside PyTorch: outputs, gradients and steps."""

import numpy as np
import pytest

import pydl
from pydl import models, nn, optim

torch = pytest.importorskip("torch")


def copied(peer, model):
    state = {k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()}
    peer.load_state_dict({k: state[k] for k in peer.state_dict()})
    return peer


def compare_gradients(model, peers):
    expected = {f"{prefix}.{name}": p.grad for prefix, peer in peers.items() for name, p in peer.named_parameters()}
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), expected[name].numpy(), atol=1e-5, err_msg=name)


def test_text_cnn():
    model = models.TextCNN(11, 3, 5, (2, 4), 6, dropout=0.0)
    peers = {"embedding": torch.nn.Embedding(11, 5, padding_idx=0), "convs.0": torch.nn.Conv1d(5, 6, 2),
             "convs.1": torch.nn.Conv1d(5, 6, 4), "fc": torch.nn.Linear(12, 3)}  # fmt: skip
    for name, peer in peers.items():
        copied(peer, model.get_submodule(name))
    ids = np.random.default_rng(0).integers(1, 11, (3, 7))
    x = peers["embedding"](torch.tensor(ids)).transpose(1, 2)
    expected = peers["fc"](torch.cat([torch.relu(peers[f"convs.{i}"](x)).max(2).values for i in range(2)], 1))
    y = model(pydl.from_numpy(ids))
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), atol=1e-5)
    (y**2).sum().backward()
    (expected**2).sum().backward()
    compare_gradients(model, peers)


def test_sparse_adam():
    pydl.manual_seed(0)  # float32: where a gradient is nearly 0, Adam makes much of its rounding
    table, peer = nn.RowEmbedding(9, 4), torch.nn.Embedding(9, 4, sparse=True)
    copied(peer, table)
    own, theirs = optim.SparseAdam(table, lr=0.05), torch.optim.SparseAdam(peer.parameters(), lr=0.05)
    rng = np.random.default_rng(0)
    for _ in range(20):
        index, weight = rng.integers(0, 9, (3, 2)), rng.standard_normal((3, 2, 4)).astype(np.float32)
        for module, optimizer, number in ((table, own, pydl.from_numpy), (peer, theirs, torch.tensor)):
            optimizer.zero_grad()
            (module(number(index)) ** 2 * number(weight)).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(table.weight.numpy(), peer.weight.detach().numpy(), atol=1e-5)
