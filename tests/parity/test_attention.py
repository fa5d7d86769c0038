"""Attention and Transformer against PyTorch: every option, forward, all gradients, and training step by step."""

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.ops import scaled_dot_product_attention

torch = pytest.importorskip("torch")

RNG = np.random.default_rng


def pair(array, grad=True):
    return pydl.tensor(array, requires_grad=grad), torch.tensor(array, requires_grad=grad)


def copy_weights(ours, theirs):
    """Gives both the same random weights (biases and norms too, so that an exchange would show)."""
    rng = RNG(7)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.tensor(rng.normal(size=tuple(p.shape)) * 0.3 + (0.5 if p.ndim == 1 else 0)))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})


def check(actual, expected, tol):
    expected = expected.detach().numpy()
    actual = actual.detach().numpy()
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    worst = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1.0)  # all inputs are of size 1
    assert worst <= tol, worst


def compare(ours, theirs, our_inputs, their_inputs, our_out, their_out, tol=1e-10):
    """Outputs, and the gradients of inputs and parameters from one random gradient."""
    for a, b in zip(our_out, their_out, strict=True):
        check(a, b, tol)
    rng = RNG(9)
    grads = [rng.normal(size=tuple(b.shape)) for b in their_out]
    pydl.autograd.backward(list(our_out), [pydl.tensor(g.astype(a.dtype)) for g, a in zip(grads, our_out, strict=True)])
    torch.autograd.backward(list(their_out), [torch.tensor(g, dtype=b.dtype) for g, b in zip(grads, their_out, strict=True)])
    for a, b in zip(our_inputs, their_inputs, strict=True):
        check(a.grad, b.grad, tol)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if b.grad is not None:
            check(a.grad, b.grad, tol)


# ---------------------------------------------------------------- the function
def function_cases(count=24):
    rng = RNG(0)
    for i in range(count):
        n, h = int(rng.integers(1, 4)), int(rng.choice([1, 2, 4]))
        length, keys = (int(x) for x in rng.choice([1, 3, 17, 40, 130, 260], 2))
        e, f = (int(x) for x in rng.choice([1, 4, 16, 33], 2))
        kind = ["none", "bool", "float", "causal"][i % 4]
        yield pytest.param(n, h, length, keys, e, f, kind, int(rng.choice([1, h])), id=f"{i}-{kind}")


@pytest.mark.parametrize(("n", "h", "length", "keys", "e", "f", "kind", "groups"), list(function_cases()))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_function(n, h, length, keys, e, f, kind, groups, dtype):
    rng = RNG(1)
    arrays = [rng.normal(size=s).astype(dtype) for s in ((n, h, length, e), (n, groups, keys, e), (n, groups, keys, f))]
    mask = None
    if kind == "bool":
        mask = rng.random((n, 1, length, keys)) < 0.7
        mask[..., 0] = True
    elif kind == "float":
        mask = rng.normal(size=(h, length, keys)).astype(dtype)
    ours, theirs = zip(*[pair(a) for a in arrays], strict=True)
    options = {"is_causal": kind == "causal", "enable_gqa": groups != h}
    out = scaled_dot_product_attention(*ours, None if mask is None else pydl.tensor(mask), **options)
    ref = torch.nn.functional.scaled_dot_product_attention(*theirs, None if mask is None else torch.tensor(mask), **options)
    compare(nn.Identity(), torch.nn.Identity(), ours, theirs, [out], [ref], 5e-5 if dtype == np.float32 else 1e-10)


# ---------------------------------------------------------------- multi-head attention
MHA = {
    "plain": {},
    "no_bias": {"bias": False},
    "kdim_vdim": {"kdim": 5, "vdim": 7},
    "bias_kv": {"add_bias_kv": True},
    "zero_attn": {"add_zero_attn": True},
    "both_extra": {"add_bias_kv": True, "add_zero_attn": True},
    "extra_kdim": {"add_bias_kv": True, "add_zero_attn": True, "kdim": 5, "vdim": 7, "bias": False},
}
INPUTS = ["self", "cross", "separate", "unbatched"]
MASKS = ["none", "padding", "attn_bool", "attn_float", "heads", "both", "float_padding", "causal"]


def mha_masks(kind, n, heads, length, keys):
    """(key_padding_mask, attn_mask, is_causal) as ndarrays."""
    rng = RNG(2)
    padding = np.zeros((n, keys), bool)
    padding[:, -1] = True
    attn = rng.random((length, keys)) < 0.3
    attn[:, 0] = False
    scores = rng.normal(size=(length, keys))
    return {
        "none": (None, None, False),
        "padding": (padding, None, False),
        "attn_bool": (None, attn, False),
        "attn_float": (None, scores, False),
        "heads": (None, rng.normal(size=(n * heads, length, keys)), False),
        "both": (padding, attn, False),
        "float_padding": (np.where(padding, -np.inf, 0.5), scores, False),
        "causal": (None, np.triu(np.ones((length, keys), bool), 1), True),
    }[kind]


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize(("options", "inputs"), [
    pytest.param(o, i, id=f"{name}-{i}") for name, o in MHA.items() for i in INPUTS
    if "kdim" not in o or i in ("separate", "unbatched")
])
def test_multihead(options, inputs, masks):
    rng = RNG(3)
    n, heads, e, length = 2, 2, 8, 5
    kdim, vdim = options.get("kdim", e), options.get("vdim", e)
    keys = length if inputs == "self" else 6
    both = [(False, True), (True, False), (True, True), (False, False)]
    for batch_first, need_weights in both if not options else both[:2]:
        ours = nn.MultiheadAttention(e, heads, batch_first=batch_first, **options).double()
        theirs = torch.nn.MultiheadAttention(e, heads, batch_first=batch_first, dtype=torch.float64, **options)
        copy_weights(ours, theirs)

        def shaped(t, width, batch_first=batch_first):
            shape = (t, width) if inputs == "unbatched" else (n, t, width) if batch_first else (t, n, width)
            return pair(rng.normal(size=shape))

        tensors = [shaped(length, e)]
        if inputs == "cross":
            tensors += [shaped(keys, e)]
        elif inputs != "self":
            tensors += [shaped(keys, kdim), shaped(keys, vdim)]
        padding, attn, causal = mha_masks(masks, 1 if inputs == "unbatched" else n, heads, length, keys)
        if padding is not None and inputs == "unbatched":
            padding = padding[0]
        average = need_weights and batch_first
        results = []
        for module, xs, wrap in ((ours, [a for a, _ in tensors], pydl.tensor), (theirs, [b for _, b in tensors], torch.tensor)):
            q, k, v = {1: (xs[0],) * 3, 2: (xs[0], xs[-1], xs[-1]), 3: xs}[len(xs)]
            if module is theirs and "add" in str(options) and not need_weights:
                causal = False  # there PyTorch's fast path forgets that everyone sees the extra keys
            results.append(module(
                q, k, v, key_padding_mask=None if padding is None else wrap(padding), need_weights=need_weights,
                attn_mask=None if attn is None else wrap(attn), average_attn_weights=average, is_causal=causal))
        mine, peer = ([x for x in r if x is not None] for r in results)
        assert len(mine) == 1 + need_weights
        compare(ours, theirs, [a for a, _ in tensors], [b for _, b in tensors], mine, peer)


def test_multihead_in_float32_with_sizes_of_practice():
    rng = RNG(4)
    ours, theirs = nn.MultiheadAttention(128, 4, batch_first=True), torch.nn.MultiheadAttention(128, 4, batch_first=True)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    a, b = pair(rng.normal(size=(3, 150, 128)).astype(np.float32))
    compare(ours, theirs, [a], [b], [ours(a, a, a, need_weights=False)[0]], [theirs(b, b, b, need_weights=False)[0]], 2e-5)


# ---------------------------------------------------------------- Transformer
LAYER_OPTIONS = [
    {"norm_first": first, "activation": activation, "batch_first": batch_first, "bias": bias}
    for first in (False, True) for activation, batch_first in (("relu", False), ("gelu", True)) for bias in (True, False)
]


def sequence(rng, t, n, e, batch_first, dtype=np.float64):
    return pair(rng.normal(size=(n, t, e) if batch_first else (t, n, e)).astype(dtype))


@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("masks", ["none", "causal", "padding"])
def test_layers(options, masks):
    rng = RNG(5)
    n, t, s, e = 2, 5, 6, 8
    sizes = {"d_model": e, "nhead": 2, "dim_feedforward": 12, "dropout": 0.0, **options}
    padding = np.zeros((n, t), bool)
    padding[1, 3:] = True
    memory_padding = np.zeros((n, s), bool)
    memory_padding[0, 4:] = True
    for decoder in (False, True):
        kind = "TransformerDecoderLayer" if decoder else "TransformerEncoderLayer"
        ours, theirs = getattr(nn, kind)(**sizes).double(), getattr(torch.nn, kind)(**sizes, dtype=torch.float64)
        copy_weights(ours, theirs)
        x = [sequence(rng, t, n, e, options["batch_first"])]
        if decoder:
            x.append(sequence(rng, s, n, e, options["batch_first"]))
        outs = []
        for module, xs, wrap in ((ours, [a for a, _ in x], pydl.tensor), (theirs, [b for _, b in x], torch.tensor)):
            given = {}
            if masks == "causal":
                given["tgt_mask" if decoder else "src_mask"] = wrap(np.triu(np.full((t, t), -np.inf), 1))
                given["tgt_is_causal" if decoder else "is_causal"] = True
            if masks == "padding":
                given["tgt_key_padding_mask" if decoder else "src_key_padding_mask"] = wrap(padding)
                if decoder:
                    given["memory_key_padding_mask"] = wrap(memory_padding)
            outs.append(module(*xs, **given))
        compare(ours, theirs, [a for a, _ in x], [b for _, b in x], [outs[0]], [outs[1]], 1e-9)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_trains_like_torch(norm_first):
    """20 steps of SGD with momentum on the whole encoder-decoder: every loss, and the weights at the end."""
    rng = RNG(6)
    sizes = {"d_model": 16, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 24, "dropout": 0.0,
             "batch_first": True, "norm_first": norm_first}
    ours, theirs = nn.Transformer(**sizes).double(), torch.nn.Transformer(**sizes).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    padding = np.zeros((3, 7), bool)
    padding[1, 5:] = True
    data = [(rng.normal(size=(3, 7, 16)), rng.normal(size=(3, 5, 16)), rng.normal(size=(3, 5, 16))) for _ in range(20)]
    optimizers = (pydl.optim.SGD(ours.parameters(), 0.02, momentum=0.9), torch.optim.SGD(theirs.parameters(), 0.02, momentum=0.9))
    first = last = 0.0
    for step, arrays in enumerate(data):
        losses = []
        for module, optimizer, wrap in zip((ours, theirs), optimizers, (pydl.tensor, torch.tensor), strict=True):
            src, tgt, goal = (wrap(a) for a in arrays)
            mask = wrap(np.triu(np.full((5, 5), -np.inf), 1))
            out = module(src, tgt, tgt_mask=mask, src_key_padding_mask=wrap(padding), memory_key_padding_mask=wrap(padding))
            loss = ((out - goal) * (out - goal)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-8), step
        first, last = first or losses[0], losses[0]
    assert last < first
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert np.abs(a.detach().numpy() - b.detach().numpy()).max() < 1e-7, name


@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 4}, {"add_bias_kv": True, "add_zero_attn": True}], ids=str)
def test_multihead_trains_like_torch(options):
    rng = RNG(8)
    ours = nn.MultiheadAttention(8, 2, **options).double()
    theirs = torch.nn.MultiheadAttention(8, 2, dtype=torch.float64, **options)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    widths = (8, options.get("kdim", 8), options.get("vdim", 8))
    arrays = [rng.normal(size=(5, 2, w)) for w in widths]
    goal = rng.normal(size=(5, 2, 8))
    optimizers = (pydl.optim.SGD(ours.parameters(), 0.3), torch.optim.SGD(theirs.parameters(), 0.3))
    history = []
    for _ in range(20):
        losses = []
        for module, optimizer, wrap in zip((ours, theirs), optimizers, (pydl.tensor, torch.tensor), strict=True):
            out, _ = module(*[wrap(a) for a in arrays], need_weights=False)
            difference = out - wrap(goal)
            loss = (difference * difference).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
        history.append(losses[0])
    assert history[-1] < history[0]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_initial_weights_follow_the_same_rules():
    """Same bounds as PyTorch's initialisation, parameter by parameter."""
    ours, theirs = nn.Transformer(32, 4, 1, 1, 64), torch.nn.Transformer(32, 4, 1, 1, 64)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        low, high = np.abs(a.detach().numpy()).max(), float(b.detach().abs().max())
        assert low == pytest.approx(high, rel=0.25, abs=1e-12), name
    plain, peer = nn.MultiheadAttention(32, 4, add_bias_kv=True), torch.nn.MultiheadAttention(32, 4, add_bias_kv=True)
    for (name, a), b in zip(plain.named_parameters(), peer.parameters(), strict=True):
        if not name.startswith("bias_"):
            assert np.abs(a.detach().numpy()).max() == pytest.approx(float(b.detach().abs().max()), rel=0.25, abs=1e-12), name
