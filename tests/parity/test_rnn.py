"""Recurrent layers against PyTorch: forward, all gradients, packed sequences, cells, and twenty training steps."""

import itertools
import warnings

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.nn.utils import rnn as rnn_utils

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny problems: waking a second thread costs more than it saves."""
    before = pydl.get_num_threads(), torch.get_num_threads()
    pydl.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    pydl.set_num_threads(before[0])
    torch.set_num_threads(before[1])


KINDS = ["tanh", "relu", "LSTM", "GRU"]
DTYPES = [pytest.param(np.float32, id="f32"), pytest.param(np.float64, id="f64")]


def pair(kind, *args, dtype=np.float64, **options):
    """The same layer twice, with PyTorch's initial weights."""
    torch.manual_seed(0)
    if kind in ("tanh", "relu"):
        theirs, ours = torch.nn.RNN(*args, nonlinearity=kind, **options), nn.RNN(*args, nonlinearity=kind, **options)
    else:
        theirs, ours = getattr(torch.nn, kind)(*args, **options), getattr(nn, kind)(*args, **options)
    theirs = theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    ours.to(dtype)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def flat(out):
    """(y, h) or (y, (h, c)) as a list."""
    y, last = out
    return [y, *(last if isinstance(last, tuple) else (last,))]


def close(actual, expected, dtype):
    tol = 1e-11 if dtype == np.float64 else 2e-5
    actual, expected = actual.detach().numpy(), expected.detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * max(1.0, np.abs(expected).max()))


def compare(ours, theirs, mine, peer, my_outs, peer_outs, dtype):
    rng = np.random.default_rng(9)
    grads = [rng.standard_normal(tuple(o.shape)).astype(dtype) for o in peer_outs]
    pydl.autograd.backward(my_outs, grads)
    torch.autograd.backward(peer_outs, [torch.tensor(g) for g in grads])
    for a, b in zip(my_outs, peer_outs, strict=True):
        assert a.shape == tuple(b.shape)
        close(a, b, dtype)
    for a, b in zip([*mine, *ours.parameters()], [*peer, *theirs.parameters()], strict=True):
        close(a.grad, b.grad, dtype)


def leaves(arrays, dtype):
    arrays = [a.astype(dtype) for a in arrays]
    return [pydl.tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]


def states(kind, tensors):
    return tuple(tensors) if kind == "LSTM" else tensors[0]


def call(theirs, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "projections are not supported with oneDNN"
        return theirs(*args)


def options():
    for kind, layers, both, first, bias in itertools.product(KINDS, (1, 2), (False, True), (False, True), (True, False)):
        yield pytest.param(kind, layers, {"bidirectional": both, "batch_first": first, "bias": bias},
                           id=f"{kind}-{layers}{'-both' * both}{'-batch_first' * first}{'' if bias else '-no_bias'}")
    for layers, both in itertools.product((1, 3), (False, True)):
        yield pytest.param("LSTM", layers, {"bidirectional": both, "proj_size": 3}, id=f"LSTM-{layers}-proj{'-both' * both}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "layers", "extra"), list(options()))
def test_layer(kind, layers, extra, dtype):
    rng = np.random.default_rng(0)
    for T, B, E, H in ((5, 3, 4, 7), (3, 18, 5, 40), (1, 1, 2, 4)):
        ours, theirs = pair(kind, E, H, layers, dtype=dtype, **extra)
        D = layers * (2 if extra["bidirectional"] else 1)
        arrays = [rng.standard_normal((B, T, E) if extra.get("batch_first") else (T, B, E)),
                  rng.standard_normal((D, B, extra.get("proj_size", H))), rng.standard_normal((D, B, H))]
        mine, peer = leaves(arrays[: 3 if kind == "LSTM" else 2], dtype)
        compare(ours, theirs, mine, peer, flat(ours(mine[0], states(kind, mine[1:]))),
                flat(call(theirs, peer[0], states(kind, peer[1:]))), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed(kind, enforce_sorted, dtype):
    rng = np.random.default_rng(1)
    T, B, E, H = 6, 5, 3, 8
    lengths = np.array([6, 5, 5, 2, 1]) if enforce_sorted else np.array([2, 6, 1, 5, 6])
    ours, theirs = pair(kind, E, H, 2, dtype=dtype, bidirectional=True)
    arrays = [rng.standard_normal((T, B, E)), rng.standard_normal((4, B, H)), rng.standard_normal((4, B, H))]
    mine, peer = leaves(arrays[: 3 if kind == "LSTM" else 2], dtype)
    packed = rnn_utils.pack_padded_sequence(mine[0], lengths, enforce_sorted=enforce_sorted)
    peer_packed = torch.nn.utils.rnn.pack_padded_sequence(peer[0], torch.tensor(lengths), enforce_sorted=enforce_sorted)
    np.testing.assert_array_equal(packed.data.detach().numpy(), peer_packed.data.detach().numpy())
    np.testing.assert_array_equal(packed.batch_sizes.numpy(), peer_packed.batch_sizes.numpy())
    y, *last = flat(ours(packed, states(kind, mine[1:])))
    peer_y, *peer_last = flat(theirs(peer_packed, states(kind, peer[1:])))
    y, n = rnn_utils.pad_packed_sequence(y, total_length=7)
    peer_y, peer_n = torch.nn.utils.rnn.pad_packed_sequence(peer_y, total_length=7)
    assert n.numpy().tolist() == peer_n.tolist()
    compare(ours, theirs, mine, peer, [y, *last], [peer_y, *peer_last], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cell(kind, batched, dtype):
    options = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    name = "RNNCell" if options else kind + "Cell"
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(3, 5, **options).to(torch.float64 if dtype == np.float64 else torch.float32)
    ours = getattr(nn, name)(3, 5, **options).to(dtype)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    lead = (4,) if batched else ()
    arrays = [rng.standard_normal((*lead, 3)), rng.standard_normal((*lead, 5)), rng.standard_normal((*lead, 5))]
    mine, peer = leaves(arrays[: 3 if kind == "LSTM" else 2], dtype)
    a, b = ours(mine[0], states(kind, mine[1:])), theirs(peer[0], states(kind, peer[1:]))
    compare(ours, theirs, mine, peer, list(a) if kind == "LSTM" else [a], list(b) if kind == "LSTM" else [b], dtype)


def test_unbatched():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        ours, theirs = pair(kind, 3, 5, 2, bidirectional=True, batch_first=True)
        mine, peer = leaves([rng.standard_normal((6, 3)), rng.standard_normal((4, 5)), rng.standard_normal((4, 5))], np.float64)
        count = 3 if kind == "LSTM" else 2
        mine, peer = mine[:count], peer[:count]
        compare(ours, theirs, mine, peer, flat(ours(mine[0], states(kind, mine[1:]))),
                flat(theirs(peer[0], states(kind, peer[1:]))), np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_training_steps(kind):
    rng = np.random.default_rng(2)
    ours, theirs = pair(kind, 4, 24, 2, dtype=np.float32, bidirectional=True)
    mine, peer = optim.SGD(ours.parameters(), lr=0.05, momentum=0.9), torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for i in range(20):
        x = rng.standard_normal((7, 6, 4)).astype(np.float32)
        target = np.tanh(x.sum(-1, keepdims=True).cumsum(0)).astype(np.float32)
        a = ((ours(pydl.tensor(x))[0] - pydl.tensor(target)) ** 2).mean()
        b = ((theirs(torch.tensor(x))[0] - torch.tensor(target)) ** 2).mean()
        for loss, optimizer in ((a, mine), (b, peer)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert abs(float(a.detach().numpy()) - b.item()) <= 1e-5 * max(1.0, b.item()), f"step {i}"
        losses.append(b.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p, q, np.float32)


def test_padding_functions():
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal((n, 2)) for n in (3, 1, 4)]
    for first, side in itertools.product((False, True), ("left", "right")):
        ours = rnn_utils.pad_sequence([pydl.tensor(a) for a in arrays], first, 9.0, side)
        theirs = torch.nn.utils.rnn.pad_sequence([torch.tensor(a) for a in arrays], first, 9.0, side)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    ours = rnn_utils.pack_sequence([pydl.tensor(a) for a in arrays], enforce_sorted=False)
    theirs = torch.nn.utils.rnn.pack_sequence([torch.tensor(a) for a in arrays], enforce_sorted=False)
    np.testing.assert_array_equal(ours.data.numpy(), theirs.data.numpy())
    np.testing.assert_array_equal(ours.sorted_indices.numpy(), theirs.sorted_indices.numpy())
    np.testing.assert_array_equal(ours.unsorted_indices.numpy(), theirs.unsorted_indices.numpy())
