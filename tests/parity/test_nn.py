"""Layers, activations and losses against PyTorch: random configurations, forward and all gradients."""

import inspect

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def tolerance(dtype, factor=1.0):
    unit = 2e-6 if dtype == np.float32 else 1e-12
    return {"rtol": unit * 10 * factor, "atol": unit * factor}


def compare(ours, theirs, arrays, dtype=np.float64, gradients=None, factor=1.0, parameters=((), ())):
    """Value and gradients of two functions of the same arrays (integers stay integers)."""
    mine, peer = [], []
    gradients = range(len(arrays)) if gradients is None else gradients
    for i, a in enumerate(arrays):
        floating = a.dtype.kind == "f"
        a = a.astype(dtype) if floating else a
        mine.append(pydl.tensor(a, requires_grad=floating and i in gradients))
        peer.append(torch.tensor(a, requires_grad=floating and i in gradients))
    y, t = ours(*mine), theirs(*peer)
    assert y.shape == tuple(t.shape)
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tolerance(dtype, factor))
    g = np.asarray(np.random.default_rng(1).standard_normal(y.shape), dtype)
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    checked = 0
    for a, b in [*zip(mine, peer, strict=True), *zip(*parameters, strict=True)]:
        if a.requires_grad:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **tolerance(dtype, 5 * factor))
            checked += 1
    assert checked
    return y.detach().numpy()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# --------------------------------------------------------------------------- activations

ACTIVATIONS = [
    ("relu", {}), ("relu6", {}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("elu", {}),
    ("elu", {"alpha": 0.4}),
    ("celu", {}), ("celu", {"alpha": 0.5}), ("selu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}),
    ("mish", {}), ("softplus", {}), ("softplus", {"beta": 3.0, "threshold": 2.0}), ("softsign", {}), ("tanh", {}),
    ("sigmoid", {}), ("logsigmoid", {}), ("hardtanh", {}), ("hardtanh", {"min_val": -0.2, "max_val": 1.7}), ("hardsigmoid", {}),
    ("hardswish", {}), ("hardshrink", {}), ("hardshrink", {"lambd": 1.0}), ("softshrink", {}), ("softshrink", {"lambd": 0.1}),
    ("tanhshrink", {}), ("threshold", {"threshold": 0.3, "value": -2.0}), ("glu", {}), ("glu", {"dim": 1}),
    ("softmax", {"dim": 1}),
    ("softmax", {"dim": -1}), ("log_softmax", {"dim": 0}), ("log_softmax", {"dim": -2}), ("softmin", {"dim": 1}),
]  # fmt: skip
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0, -3.0, 0.5, -0.5, 1.0, -1.0, 6.0, 30.0, -30.0, 100.0, -100.0, 1e-20])


@DTYPES
@pytest.mark.parametrize(("name", "arguments"), ACTIVATIONS)
def test_activation(name, arguments, dtype):
    x = 3 * normal(3, 4, 5, 6)
    factor = 1e4 if name == "hardsigmoid" and dtype == np.float64 else 1.0  # PyTorch takes 1/6 in float32
    y = compare(lambda t: getattr(F, name)(t, **arguments), lambda t: getattr(T, name)(t, **arguments), [x], dtype, factor=factor)
    assert np.unique(y).size > 10


@DTYPES
@pytest.mark.parametrize(("name", "arguments"), [a for a in ACTIVATIONS if "dim" not in a[1] and a[0] != "glu"])
def test_activation_at_special_values(name, arguments, dtype):
    """NaN, infinities, kinks, saturation: the values, and the gradients of the finite ones."""
    if (name, dtype) == ("gelu", np.float32):
        pytest.skip("PyTorch's float32 gelu is NaN at infinity and off by 1e-4 at -3")
    x = SPECIAL.astype(dtype)
    if name == "gelu":
        x = x[x != -np.inf]  # PyTorch: -inf * 0 = NaN; the limit is 0
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, t = getattr(F, name)(mine, **arguments), getattr(T, name)(peer, **arguments)
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tolerance(dtype))
    y.backward(pydl.ones(len(x), dtype=dtype))
    t.backward(torch.ones_like(t))
    finite = np.isfinite(x)
    factor = 1e4 if name == "hardsigmoid" and dtype == np.float64 else 1.0
    np.testing.assert_allclose(mine.grad.numpy()[finite], peer.grad.numpy()[finite], **tolerance(dtype, factor))


@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 3), (2, 3, 4, 5), (3,), ()])
@pytest.mark.parametrize("count", [1, 3])
def test_prelu(shape, count):
    if count == 3 and len(shape) < 2:
        pytest.skip("one slope for each channel needs channels")
    compare(F.prelu, T.prelu, [normal(*shape), normal(count, seed=3)])


def test_softmax_of_infinities():
    x = np.array([[0.0, -np.inf, 1.0], [np.inf, 0.0, 1.0], [-np.inf] * 3])
    for name in ("softmax", "log_softmax"):
        np.testing.assert_allclose(getattr(F, name)(pydl.tensor(x), -1).numpy(), getattr(T, name)(torch.tensor(x), -1).numpy())


# --------------------------------------------------------------------------- losses of two tensors of one shape

LOSSES = [
    ("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.3}),
    ("smooth_l1_loss", {"beta": 0.0}),
    ("huber_loss", {}), ("huber_loss", {"delta": 0.4}), ("poisson_nll_loss", {}), ("poisson_nll_loss", {"full": True}),
]  # fmt: skip


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_regression_loss(name, arguments, reduction, dtype):
    x, y = normal(4, 3, 5), normal(4, 3, 5, seed=1)
    if name == "poisson_nll_loss":
        y = np.abs(y) * 3
    compare(lambda a, b: getattr(F, name)(a, b, reduction=reduction, **arguments),
            lambda a, b: getattr(T, name)(a, b, reduction=reduction, **arguments), [x, y], dtype,
            gradients=[0] if name == "poisson_nll_loss" else None)


@REDUCTIONS
def test_poisson_without_log(reduction):
    arguments = {"log_input": False, "reduction": reduction, "eps": 1e-3}
    compare(lambda a, b: F.poisson_nll_loss(a, b, **arguments), lambda a, b: T.poisson_nll_loss(a, b, **arguments),
            [np.abs(normal(6, 2)) + 0.1, np.abs(normal(6, 2, seed=1))], gradients=[0])


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (5,)])
def test_gaussian_nll(shape, full, reduction, dtype):
    var = np.abs(normal(*shape, seed=2))
    var.flat[0] = 0.0  # counts as eps
    compare(lambda a, b, v: F.gaussian_nll_loss(a, b, v, full, 1e-3, reduction),
            lambda a, b, v: T.gaussian_nll_loss(a, b, v, full, 1e-3, reduction), [normal(5, 3), normal(5, 3, seed=1), var],
            dtype, gradients=[0, 1, 2], factor=10)


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(weighted, reduction, dtype):
    p = np.random.default_rng(0).uniform(0.02, 0.98, (6, 4))
    t = np.random.default_rng(1).uniform(0, 1, (6, 4))
    w = np.random.default_rng(2).uniform(0, 2, (1, 4))
    compare(lambda a, b, c: F.binary_cross_entropy(a, b, c if weighted else None, reduction),
            lambda a, b, c: T.binary_cross_entropy(a, b, c if weighted else None, reduction=reduction), [p, t, w], dtype,
            gradients=[0], factor=10)


def test_binary_cross_entropy_at_the_ends():
    """Logarithms are cut at -100, and the gradients stay finite."""
    p, t = np.array([0.0, 0.0, 1.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    mine, peer = pydl.tensor(p, requires_grad=True), torch.tensor(p, requires_grad=True)
    ours, theirs = F.binary_cross_entropy(mine, pydl.tensor(t)), T.binary_cross_entropy(peer, torch.tensor(t))
    np.testing.assert_allclose(ours.item(), theirs.item())
    ours.backward()
    theirs.backward()
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy())


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_binary_cross_entropy_with_logits(positive, weighted, reduction, dtype):
    x = 4 * normal(6, 4)
    x[0] = [200.0, -200.0, 0.0, 50.0]
    t, w, pw = (np.random.default_rng(i).uniform(0, s, shape) for i, s, shape in ((1, 1, (6, 4)), (2, 2, (6, 1)), (3, 5, (4,))))
    compare(
        lambda a, b, c, d: F.binary_cross_entropy_with_logits(
            a, b, c if weighted else None, reduction, d if positive else None),
        lambda a, b, c, d: T.binary_cross_entropy_with_logits(
            a, b, c if weighted else None, reduction=reduction, pos_weight=d if positive else None),
        [x, t, w, pw], dtype, gradients=[0],
    )


@DTYPES
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_div(log_target, reduction, dtype):
    x = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 4))
    t = np.random.default_rng(1).dirichlet(np.ones(5), 4)
    t[0, 0] = 0 if not log_target else t[0, 0]
    compare(lambda a, b: F.kl_div(a, b, reduction, log_target),
            lambda a, b: T.kl_div(a, b, reduction=reduction, log_target=log_target),
            [x, np.log(t) if log_target else t], dtype, gradients=[0])


# --------------------------------------------------------------------------- classes

BY_REDUCTION = {"mean": np.float32, "sum": np.float64, "none": np.float32}  # both dtypes without twice the tests

SHAPES = pytest.mark.parametrize("shape", [(6, 5), (5,), (3, 5, 4), (2, 5, 3, 4), (2, 5, 2, 3, 2)], ids=str)


def classes_for(shape, ignore):
    rng = np.random.default_rng(5)
    target = rng.integers(0, 5, shape[:1] + shape[2:] if len(shape) > 1 else ())
    if ignore is not None and target.ndim:
        target.reshape(-1)[::3] = ignore
    return np.asarray(target, np.int64)


@REDUCTIONS
@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("ignore", "smoothing"), [(-100, 0.0), (2, 0.0), (-1, 0.1), (2, 0.3), (-100, 1.0)])
def test_cross_entropy(ignore, smoothing, weighted, shape, reduction):
    dtype = BY_REDUCTION[reduction]
    target, w = classes_for(shape, ignore), np.random.default_rng(2).uniform(0.2, 2, 5)
    arguments = {"ignore_index": ignore, "reduction": reduction, "label_smoothing": smoothing}
    compare(lambda x, t, c: F.cross_entropy(x, t, c if weighted else None, **arguments),
            lambda x, t, c: T.cross_entropy(x, t, c if weighted else None, **arguments),
            [3 * normal(*shape), target, w], dtype, gradients=[0])


@REDUCTIONS
@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(smoothing, weighted, shape, reduction):
    dtype = BY_REDUCTION[reduction]
    rng = np.random.default_rng(4)
    p = np.moveaxis(rng.dirichlet(np.ones(5), shape[:1] + shape[2:] if len(shape) > 1 else ()), -1, 1 if len(shape) > 1 else 0)
    arguments = {"reduction": reduction, "label_smoothing": smoothing}
    compare(lambda x, t, c: F.cross_entropy(x, t, c if weighted else None, **arguments),
            lambda x, t, c: T.cross_entropy(x, t, c if weighted else None, **arguments),
            [3 * normal(*shape), np.ascontiguousarray(p), rng.uniform(0.2, 2, 5)], dtype, gradients=[0, 1])


@REDUCTIONS
@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_nll(ignore, weighted, shape, reduction):
    dtype = BY_REDUCTION[reduction]
    target, w = classes_for(shape, ignore), np.random.default_rng(2).uniform(0.2, 2, 5)
    compare(lambda x, t, c: F.nll_loss(x, t, c if weighted else None, ignore, reduction),
            lambda x, t, c: T.nll_loss(x, t, c if weighted else None, ignore_index=ignore, reduction=reduction),
            [normal(*shape), target, w], dtype, gradients=[0])


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_all_targets_ignored(name):
    x, t = normal(3, 5), np.full(3, -100)
    assert np.isnan(getattr(F, name)(pydl.tensor(x), pydl.tensor(t)).item())
    assert np.isnan(getattr(T, name)(torch.tensor(x), torch.tensor(t)).item())
    for reduction in ("sum", "none"):
        compare(lambda a, b, r=reduction: getattr(F, name)(a, b, reduction=r),
                lambda a, b, r=reduction: getattr(T, name)(a, b, reduction=r), [x, t])


def test_cross_entropy_of_certain_scores():
    """Scores so far apart that exp would overflow."""
    x = np.array([[1000.0, 0.0, -1000.0], [-1e4, 1e4, 0.0]])
    compare(F.cross_entropy, T.cross_entropy, [x, np.array([2, 1])])


# --------------------------------------------------------------------------- margins and similarities


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("margin", [None, 0.4])
def test_margin_losses(margin, reduction, dtype):
    options = {} if margin is None else {"margin": margin}
    signs = np.where(normal(6, 5, seed=3) > 0, 1.0, -1.0)
    x, y = 2 * normal(6, 5), normal(6, 5, seed=1)
    both = {"reduction": reduction, **options}
    compare(lambda a, t: F.hinge_embedding_loss(a, t, **both), lambda a, t: T.hinge_embedding_loss(a, t, **both), [x, signs],
            dtype, gradients=[0])
    compare(lambda a, b, t: F.margin_ranking_loss(a, b, t, **both), lambda a, b, t: T.margin_ranking_loss(a, b, t, **both),
            [x, y, signs], dtype, gradients=[0, 1])
    compare(lambda a, b, t: F.cosine_embedding_loss(a, b, t, **both), lambda a, b, t: T.cosine_embedding_loss(a, b, t, **both),
            [x, y, signs[:, 0]], dtype, gradients=[0, 1])
    compare(lambda a, t: F.soft_margin_loss(a, t, reduction=reduction),
            lambda a, t: T.soft_margin_loss(a, t, reduction=reduction), [x, signs], dtype, gradients=[0])


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin(p, weighted, reduction, dtype):
    w = np.random.default_rng(2).uniform(0.2, 2, 5)
    compare(lambda x, t, c: F.multi_margin_loss(x, t, p, 0.7, c if weighted else None, reduction),
            lambda x, t, c: T.multi_margin_loss(x, t, p, 0.7, c if weighted else None, reduction=reduction),
            [normal(6, 5), np.random.default_rng(1).integers(0, 5, 6), w], dtype, gradients=[0])


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("arguments", [{}, {"margin": 0.3}, {"p": 1.0}, {"p": 3.0, "swap": True}, {"swap": True}])
def test_triplet_margin(arguments, reduction, dtype):
    compare(lambda a, b, c: F.triplet_margin_loss(a, b, c, reduction=reduction, **arguments),
            lambda a, b, c: T.triplet_margin_loss(a, b, c, reduction=reduction, **arguments),
            [normal(6, 4), normal(6, 4, seed=1), normal(6, 4, seed=2)], dtype, factor=10)


@DTYPES
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosine_similarity(dim, dtype):
    x, y = normal(4, 5, 3), normal(4, 5, 3, seed=1)
    compare(lambda a, b: F.cosine_similarity(a, b, dim), lambda a, b: T.cosine_similarity(a, b, dim), [x, y], dtype, factor=5)


def test_cosine_similarity_of_zeros():
    x = np.zeros((2, 3))
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ours, theirs = F.cosine_similarity(mine, pydl.tensor(x + 1)), T.cosine_similarity(peer, torch.tensor(x + 1))
    np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    ours.sum().backward()
    assert np.isfinite(mine.grad.numpy()).all()


# --------------------------------------------------------------------------- layers

LAYERS = [
    ("Linear", (5, 7), {}, [(4, 5)]), ("Linear", (5, 7, False), {}, [(2, 3, 5)]), ("Linear", (5, 1), {}, [(5,)]),
    ("Bilinear", (3, 4, 5), {}, [(6, 3), (6, 4)]), ("Bilinear", (3, 4, 5, False), {}, [(2, 2, 3), (2, 2, 4)]),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "circular", "bias": False}, [(2, 4, 9)]),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (2, 1), "groups": 2}, [(2, 4, 9, 7)]),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "reflect"}, [(2, 4, 5, 6)]),
    ("Conv2d", (4, 6, 3), {"padding": (2, 1), "padding_mode": "replicate"}, [(2, 4, 5, 6)]),
    ("Conv2d", (4, 6, 3), {"padding": "valid"}, [(4, 5, 6)]),
    ("Conv2d", (4, 6, (2, 3)), {"padding": "same", "padding_mode": "reflect"}, [(2, 4, 5, 6)]),
    ("Conv3d", (2, 4, (1, 3, 2)), {"stride": 2, "padding": 1, "padding_mode": "circular"}, [(2, 2, 4, 5, 6)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 3, "output_padding": 2, "padding": 1}, [(2, 4, 5)]),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "groups": 2, "dilation": (1, 2), "bias": False}, [(2, 4, 5, 3)]),
    ("ConvTranspose3d", (2, 4, 2), {"stride": (1, 2, 3), "output_padding": (0, 1, 1)}, [(1, 2, 3, 2, 4)]),
    ("PReLU", (), {}, [(3, 4, 5)]), ("PReLU", (4, 0.1), {}, [(3, 4, 5, 2)]), ("Softmax2d", (), {}, [(2, 3, 4, 5)]),
    ("Flatten", (), {}, [(2, 3, 4)]), ("Flatten", (0, 1), {}, [(2, 3, 4)]), ("Unflatten", (1, (2, 3)), {}, [(2, 6, 4)]),
    ("Identity", (), {}, [(2, 3)]), ("Unfold", (3,), {"padding": 1, "stride": 2}, [(2, 3, 6, 5)]),
    ("Unfold", ((2, 3),), {"dilation": (2, 1), "padding": (0, 2)}, [(3, 6, 5)]), ("Fold", ((5, 6), 2), {}, [(2, 12, 20)]),
    ("Fold", ((7, 6), (3, 2)), {"dilation": 2, "padding": (1, 2), "stride": (2, 3)}, [(2, 12, 9)]),
    ("CosineSimilarity", (1,), {}, [(4, 5), (4, 5)]), ("Hardtanh", (-0.5, 0.7), {}, [(4, 5)]),
    ("Softplus", (2.0, 5.0), {}, [(4, 5)]),
    ("Threshold", (0.1, 3.0), {}, [(4, 5)]), ("GLU", (1,), {}, [(4, 6, 3)]), ("LogSoftmax", (1,), {}, [(4, 6, 3)]),
]  # fmt: skip


def paired_layers(name, args, kwargs, dtype):
    """The same layer here and there, ours with the weights that PyTorch drew: the state dict's keys must agree."""
    torch.manual_seed(0)
    peer = getattr(torch.nn, name)(*args, **kwargs).to({np.float32: torch.float32, np.float64: torch.float64}[dtype])
    layer = getattr(nn, name)(*args, **kwargs).to(dtype)
    layer.load_state_dict({k: v.numpy() for k, v in peer.state_dict().items()})
    assert [n for n, _ in layer.named_parameters()] == [n for n, _ in peer.named_parameters()]
    return layer, peer


@DTYPES
@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), LAYERS, ids=[f"{i}-{a[0]}" for i, a in enumerate(LAYERS)])
def test_layer(name, args, kwargs, shapes, dtype):
    layer, peer = paired_layers(name, args, kwargs, dtype)
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    compare(layer, peer, arrays, dtype, factor=5, parameters=(list(layer.parameters()), list(peer.parameters())))


def random_layers(count=60):
    """Convolutions, transposed convolutions, windows and linear maps with everything drawn."""
    rng = np.random.default_rng(11)

    def ints(low, high, n):
        return tuple(int(v) for v in rng.integers(low, high, n))

    for _ in range(count):
        kind = rng.choice(["conv", "transposed", "unfold", "linear"])
        n, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
        c, o = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 5))
        kernel, stride, dilation = ints(1, 4, n), ints(1, 4, n), ints(1, 3, n)
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        batch = ints(1, 4, int(rng.integers(0, 2)))
        if kind == "conv":
            mode = str(rng.choice(["zeros", "reflect", "replicate", "circular"]))
            padding = ints(0, 3, n) if rng.random() < 0.7 or max(stride) > 1 else "same"
            size = tuple(r + max(3, r) + int(rng.integers(1, 5)) for r in reach)
            options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode,
                       "bias": bool(rng.random() < 0.5)}
            yield f"Conv{n}d", (c, o, kernel), options, [(*batch, c, *size)]
        elif kind == "transposed":
            limit = [max(s, d) for s, d in zip(stride, dilation, strict=True)]
            options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": tuple(min(r, 1) for r in reach),
                       "output_padding": tuple(int(rng.integers(0, m)) for m in limit), "bias": bool(rng.random() < 0.5)}
            yield f"ConvTranspose{n}d", (c, o, kernel), options, [(*batch, c, *ints(2, 5, n))]
        elif kind == "unfold":
            kernel, dilation, padding, stride = (ints(a, b, 2) for a, b in ((1, 4), (1, 3), (0, 3), (1, 4)))
            size = tuple(d * (k - 1) + int(rng.integers(1, 6)) for k, d in zip(kernel, dilation, strict=True))
            yield "Unfold", (kernel, dilation, padding, stride), {}, [(*batch, c, *size)]
            windows = [(m + 2 * p - d * (k - 1) - 1) // s + 1
                       for m, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)]
            yield "Fold", (size, kernel, dilation, padding, stride), {}, [
                (*batch, c * kernel[0] * kernel[1], windows[0] * windows[1])]
        else:
            lead = ints(1, 5, int(rng.integers(1, 4)))
            yield "Linear", (c, o), {"bias": bool(rng.random() < 0.5)}, [(*lead, c)]
            yield "Bilinear", (c, groups + 1, o), {"bias": bool(rng.random() < 0.5)}, [(*lead, c), (*lead, groups + 1)]


RANDOM_LAYERS = list(random_layers())


@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), RANDOM_LAYERS,
                         ids=[f"{i}-{a[0]}" for i, a in enumerate(RANDOM_LAYERS)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_random_layer(name, args, kwargs, shapes):
    layer, peer = paired_layers(name, args, kwargs, np.float64)
    arrays = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    compare(layer, peer, arrays, factor=5, parameters=(list(layer.parameters()), list(peer.parameters())))


PADDINGS = [("ZeroPad", ()), ("ConstantPad", (1.5,)), ("ReflectionPad", ()), ("ReplicationPad", ()), ("CircularPad", ())]


@pytest.mark.parametrize(("name", "extra"), PADDINGS)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("batch", [True, False])
def test_padding_layer(name, extra, axes, batch):
    rng = np.random.default_rng(axes)
    for padding in (2, tuple(int(p) for p in rng.integers(0, 3, 2 * axes))):
        layer, peer = paired_layers(f"{name}{axes}d", (padding, *extra), {}, np.float64)
        assert repr(layer) == repr(peer)
        compare(layer, peer, [normal(*(2,) * batch, 3, *(4, 3, 5)[:axes])])


def test_cropping_layer():
    compare(nn.ZeroPad2d((-1, 2, 0, -2)), torch.nn.ZeroPad2d((-1, 2, 0, -2)), [normal(2, 3, 5, 6)])


@pytest.mark.parametrize(("name", "arguments"), [
    ("CrossEntropyLoss", {"weight": np.linspace(0.5, 2, 5), "label_smoothing": 0.1, "ignore_index": 1}),
    ("NLLLoss", {"weight": np.linspace(0.5, 2, 5), "reduction": "sum"}), ("MultiMarginLoss", {"p": 2, "margin": 0.5}),
])  # fmt: skip
def test_loss_module_with_class_numbers(name, arguments):
    pick = {k: (lambda f, v=v: f(v)) if isinstance(v, np.ndarray) else (lambda f, v=v: v) for k, v in arguments.items()}
    ours = getattr(nn, name)(**{k: v(pydl.tensor) for k, v in pick.items()})
    theirs = getattr(torch.nn, name)(**{k: v(torch.tensor) for k, v in pick.items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    compare(ours, theirs, [normal(6, 5), np.array([0, 1, 2, 3, 4, 1])])


def test_network_repr_and_state_dict_are_the_peer_s():
    def build(n):
        return n.Sequential(
            n.Conv2d(1, 6, 5, padding=2), n.ReLU(), n.ConvTranspose2d(6, 3, 2, stride=2, bias=False), n.Flatten(),
            n.Linear(10, 4), n.LeakyReLU(0.2), n.Sequential(n.Linear(4, 2), n.PReLU()), n.Softmax(dim=1),
        )  # fmt: skip

    ours, theirs = build(nn), build(torch.nn)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    drop = ("padding", "output_padding")  # printed here only when not the default
    assert repr(ours[4:]) == repr(theirs[4:])
    assert all(word not in repr(ours[2]) for word in drop)


def test_signatures():
    """Names, order and defaults of arguments; what PyTorch deprecates or only its compiler uses is left out."""
    skipped = {"self", "device", "dtype", "size_average", "reduce", "_stacklevel", "args", "kwargs", "min_value", "max_value"}

    def arguments(f):
        return [(k, p.default) for k, p in inspect.signature(f).parameters.items() if k not in skipped]

    modules = {name for name, *_ in LAYERS} | {f"{p}{n}d" for p, _ in PADDINGS for n in (1, 2, 3)} | {
        name for name in nn.functional_modules.__all__ if hasattr(torch.nn, name)
    }
    different = {"Softmax": ("dim", -1), "LogSoftmax": ("dim", -1), "Softmin": ("dim", -1)}  # None there means: guess
    for name in sorted(modules):
        theirs = arguments(getattr(torch.nn, name).__init__)
        expected = [different[name]] if name in different else theirs
        assert arguments(getattr(nn, name)) == expected, name


def test_gains_and_fans():
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    for shape in ((3, 4), (3, 4, 5), (6, 2, 3, 3)):
        expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.zeros(shape))
        assert nn.init.calculate_fan(pydl.zeros(shape)) == tuple(expected)


def test_dirac_and_eye():
    for shape, groups in (((4, 2, 3), 2), ((4, 4, 3, 5), 1), ((6, 2, 3, 3, 3), 3)):
        np.testing.assert_array_equal(nn.init.dirac_(pydl.zeros(shape), groups).numpy(),
                                      torch.nn.init.dirac_(torch.zeros(shape), groups).numpy())
    np.testing.assert_array_equal(nn.init.eye_(pydl.zeros(3, 5)).numpy(), torch.nn.init.eye_(torch.zeros(3, 5)).numpy())


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(max_norm, norm_type):
    arrays = [normal(3, 4), normal(5, seed=1), normal(seed=2)]
    mine = [nn.Parameter(np.asarray(a)) for a in arrays]
    peer = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    for p, q, a in zip(mine, peer, arrays, strict=True):
        p.grad, q.grad = pydl.tensor(np.asarray(a * 2)), torch.tensor(a * 2)
    ours, theirs = (m.clip_grad_norm_(p, max_norm, norm_type) for m, p in ((nn.utils, mine), (torch.nn.utils, peer)))
    np.testing.assert_allclose(ours.item(), theirs.item(), rtol=1e-12)
    for p, q in zip(mine, peer, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9)
