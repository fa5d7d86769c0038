"""Everyday functions beside PyTorch's: same name, same arguments, values and gradients."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")
rng = np.random.default_rng(3)


def real(*shape, low=-2.0, high=2.0):
    return rng.uniform(low, high, shape)


def whole(*shape, high=5, low=0):
    return rng.integers(low, high, shape)


holes = real(4, 6)
holes[rng.random((4, 6)) < 0.3] = np.nan
special = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan])

# name, positional arguments (arrays become tensors), keyword arguments; with gradients if the result is floating
CASES = [
    *[(f, [real(3, 4)], {}) for f in (
        "tan", "atan", "arctan", "sinh", "cosh", "asinh", "arcsinh", "exp2", "deg2rad", "rad2deg", "trunc", "fix", "frac",
        "sinc",
        "absolute", "negative", "positive", "signbit", "erfc", "ravel", "fliplr", "flipud", "aminmax", "var_mean", "std_mean",
        "msort", "cov", "corrcoef", "diagflat", "diag_embed", "nan_to_num",
    )],
    *[(f, [real(3, 4, low=-0.99, high=0.99)], {}) for f in ("asin", "acos", "atanh", "arcsin", "arccos", "arctanh")],
    *[(f, [real(3, 4, low=1.01, high=5)], {}) for f in ("acosh", "arccosh")],
    *[(f, [special], {}) for f in ("isposinf", "isneginf", "signbit", "nan_to_num", "trunc", "atan", "sinh", "cosh", "asinh")],
    *[(f, [real(3, 4), real(4)], {}) for f in (
        "atan2", "arctan2", "hypot", "fmod", "copysign", "fmax", "fmin", "subtract", "multiply", "divide", "true_divide",
        "greater", "less_equal", "not_equal", "logaddexp2", "heaviside",
    )],
    ("atan2", [np.array([0.0, -0.0, 0.0, -0.0, 1, np.inf, -np.inf, 1]),
               np.array([0.0, 0.0, -0.0, -1.0, 0, np.inf, -np.inf, -np.inf])], {}),
    ("fmod", [whole(6, low=-9, high=9), whole(6, low=1, high=4)], {}), ("fmod", [real(5), 0.7], {}),
    ("fmax", [holes, real(6)], {}), ("fmin", [holes, real(6)], {}),
    ("xlogy", [np.array([0.0, 0.5, 2.0, 0.0]), np.array([0.0, 0.5, 3.0, np.nan])], {}),
    ("xlogy", [real(3, low=0.1), real(2, 3, low=0.1)], {}),
    ("nan_to_num", [special, 1.0, 2.0, -3.0], {}), ("heaviside", [np.array([-1.0, 0.0, 2.0]), np.array(0.5)], {}),
    ("isin", [whole(3, 4), whole(3)], {}), ("isin", [whole(3, 4), whole(3)], {"invert": True}),
    ("clamp_min", [real(4), 0.3], {}), ("clamp_max", [real(4), 0.3], {}), ("float_power", [real(4, low=0.1), 2], {}),
    *[(f, [whole(3, 4, high=99), whole(4, high=99)], {}) for f in ("bitwise_and", "bitwise_or", "bitwise_xor")],
    ("bitwise_not", [whole(4)], {}), ("bitwise_left_shift", [whole(4), whole(4)], {}),
    ("bitwise_right_shift", [whole(4, high=99), whole(4)], {}), ("bitwise_and", [whole(4) > 2, whole(4) > 1], {}),
    # running
    ("cumprod", [real(3, 7), 1], {}), ("cumprod", [np.array([2.0, 0.0, 3.0, 0.0, 4.0]), 0], {}),
    ("cumprod", [whole(3, 4), 0], {}),
    ("logcumsumexp", [real(3, 7), 1], {}), ("cummax", [real(3, 7), 1], {}), ("cummin", [real(3, 7), 0], {}),
    ("cummax", [np.array([1.0, 3.0, 3.0, np.nan, 5.0]), 0], {}),
    ("diff", [real(3, 7)], {}), ("diff", [real(3, 7), 2, 0], {}), ("diff", [real(3), 1, 0, real(1), real(2)], {}),
    ("diff", [whole(8) > 2], {}), ("trapezoid", [real(3, 5)], {}), ("trapezoid", [real(3, 5), real(5)], {}),
    ("trapezoid", [real(3, 5)], {"dx": 0.5, "dim": 0}), ("trapz", [real(5), real(5)], {}),
    # statistics
    ("aminmax", [real(3, 4)], {"dim": 1, "keepdim": True}),
    *[(f, [holes], kw) for f in ("nansum", "nanmean", "nanmedian") for kw in ({}, {"dim": 1}, {"dim": 0, "keepdim": True})],
    *[("quantile", [real(4, 7), np.array([0.0, 0.25, 0.5, 0.9, 1.0])], {"dim": d, "interpolation": i})
      for d, i in ((1, "linear"), (0, "lower"), (1, "higher"), (0, "midpoint"), (1, "nearest"), (None, "linear"))],
    ("quantile", [real(4, 7), 0.3], {}), ("quantile", [real(4, 7), 0.3, 1, True], {}), ("quantile", [holes, 0.3, 1], {}),
    ("quantile", [real(4, 7), np.array([0.1, 0.7]), None, True], {}),
    ("quantile", [real(4, 7), np.array([0.1, 0.7]), 0, True], {}),
    ("nanquantile", [holes, np.array([0.2, 0.6]), 1], {}), ("nanquantile", [holes, 0.5], {}),
    ("mode", [whole(4, 9)], {}), ("mode", [whole(4, 9), 0, True], {}),
    ("cov", [real(3, 5)], {"correction": 0}), ("cov", [real(5)], {}),
    ("cov", [real(3, 5)], {"fweights": whole(5, low=1), "aweights": real(5, low=0.1)}), ("corrcoef", [real(6)], {}),
    ("bincount", [whole(20)], {}), ("bincount", [whole(20), real(20), 9], {}),
    ("histc", [real(50), 7, -1.0, 1.5], {}), ("histc", [real(50), 4], {}), ("histc", [np.ones(3), 4], {}),
    ("searchsorted", [np.sort(real(9)), real(2, 3)], {}), ("searchsorted", [np.sort(whole(2, 9)), whole(2, 4)], {"right": True}),
    ("bucketize", [whole(3, 4), np.array([1, 3])], {}), ("bucketize", [whole(3, 4), np.array([1, 3])], {"right": True}),
    ("unique_consecutive", [np.array([1, 1, 2, 2, 3, 1, 1])], {"return_inverse": True, "return_counts": True}),
    ("unique_consecutive", [np.array([[1, 2], [1, 2], [0, 1]])], {"dim": 0, "return_counts": True}),
    # arrangement
    *[("rot90", [real(3, 4, 2), k, dims], {}) for k in (0, 1, 2, 3, 5, -1) for dims in ([0, 1], [2, 1])],
    ("moveaxis", [real(2, 3, 4), 0, 2], {}), ("swapdims", [real(2, 3, 4), 0, 2], {}),
    *[(f, [[real(3), real(3)]], {}) for f in ("column_stack", "row_stack", "dstack", "concat", "concatenate")],
    *[(f, [[real(3, 2), real(3, 2)]], {}) for f in ("column_stack", "row_stack", "dstack")],
    *[(f, [a], {}) for f in ("atleast_1d", "atleast_2d", "atleast_3d") for a in (real(), real(3), real(2, 3))],
    ("block_diag", [real(2, 3), real(2), real(1, 1)], {}), ("broadcast_tensors", [real(3, 1), real(4)], {}),
    ("cartesian_prod", [real(3), real(2), real(2)], {}), ("combinations", [real(4)], {}),
    ("combinations", [real(4), 3, True], {}),
    ("diag_embed", [real(2, 3), 1, 0, 2], {}), ("diagflat", [real(2, 2), -1], {}),
    ("vander", [real(4)], {}), ("vander", [real(4), 3, True], {}),
    ("tensor_split", [real(7, 2), 3], {}), ("tensor_split", [real(7, 2), [1, 5]], {}),
    ("tensor_split", [real(2, 7), [-2], 1], {}),
    ("hsplit", [real(3, 4), 2], {}), ("hsplit", [real(4), [1]], {}), ("vsplit", [real(4, 3), 2], {}),
    ("dsplit", [real(2, 2, 6), [2, 3]], {}), ("select", [real(3, 4), 1, -1], {}),
    ("take", [real(3, 4), np.array([[0, -1], [5, 5]])], {}),
    ("argwhere", [whole(3, 4, high=2)], {}), ("index_fill", [real(4, 3), 0, np.array([0, -1]), 2.0], {}),
    ("index_copy", [real(4, 3), 1, np.array([2, 0]), real(4, 2)], {}),
    *[("scatter_reduce", [real(3, 5), 1, whole(3, 4), real(3, 4), how], {"include_self": own})
      for how in ("sum", "mean", "amax", "amin") for own in (True, False)],
    ("scatter_reduce", [np.zeros(3), 0, np.array([0, 0, 1]), np.array([2.0, 2.0, -1.0]), "amax"], {}),
    ("split_with_sizes", [real(5, 2), [1, 4]], {}), ("pdist", [real(5, 3)], {}), ("pdist", [real(4, 3), 1.0], {}),
    # products
    ("inner", [real(2, 3), real(4, 3)], {}), ("inner", [real(3), real(3)], {}), ("vdot", [real(3), real(3)], {}),
    ("ger", [real(3), real(4)], {}),
    ("cross", [real(2, 3), real(2, 3)], {"dim": 1}), ("addmv", [real(3), real(3, 4), real(4)], {"beta": 0.5, "alpha": 2}),
    ("addr", [real(3, 4), real(3), real(4)], {}), ("baddbmm", [real(2, 3, 4), real(2, 3, 5), real(2, 5, 4)], {"beta": 0.0}),
    *[("matrix_power", [real(2, 3, 3), n], {}) for n in (0, 1, 2, 5)],
]  # fmt: skip


def convert(value, make):
    if isinstance(value, np.ndarray):
        return make(value)
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [make(v) for v in value]
    return value


def leaves(values):
    flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return [v for v in flat if hasattr(v, "requires_grad") and v.requires_grad]


def outputs(value):
    return list(value) if isinstance(value, list | tuple) else [value]


def ours(a):
    t = pydl.tensor(a)
    t.requires_grad = a.dtype.kind == "f"
    return t


def theirs(a):
    t = torch.tensor(a)
    return t.requires_grad_() if a.dtype.kind == "f" else t


PEERS = {"pdist": torch.nn.functional.pdist, "split_with_sizes": torch.split}
SIGNED_ZEROS = ("atan", "atan2", "asinh", "sinh", "trunc", "copysign")


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_same_as_torch(case):
    name, args, kwargs = CASES[case]
    own_args, peer_args = [convert(a, ours) for a in args], [convert(a, theirs) for a in args]
    own_options, peer_options = ({k: convert(v, m) for k, v in kwargs.items()} for m in (pydl.tensor, torch.tensor))
    if name in ("bincount", "histc", "quantile", "nanquantile", "heaviside", "cov", "xlogy", "vander"):  # constants there
        for side in (own_args, peer_args):
            for t in side[1 if name in ("quantile", "nanquantile", "bincount") else 0 :]:
                if hasattr(t, "requires_grad") and name != "xlogy" and not (name == "cov" and not kwargs):
                    t.requires_grad = False
    own = outputs(getattr(pydl, name)(*own_args, **own_options))
    peer = outputs(PEERS.get(name, getattr(torch, name, None))(*peer_args, **peer_options))
    assert len(own) == len(peer)
    total_own = total_peer = 0
    for a, b in zip(own, peer, strict=True):
        assert a.shape == tuple(b.shape)
        assert str(a.dtype) == str(b.dtype).removeprefix("torch.")
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
        if name in SIGNED_ZEROS:
            zero = a.detach().numpy() == 0
            np.testing.assert_array_equal(np.signbit(a.detach().numpy()[zero]), np.signbit(b.detach().numpy()[zero]))
        if b.requires_grad and not (name == "matrix_power" and args[1] == 0):  # a constant
            assert a.requires_grad
            weights = rng.uniform(0.5, 1.5, a.shape)
            finite = np.isfinite(a.detach().numpy())
            weights[~finite] = 0
            total_own = total_own + (a * pydl.tensor(weights)).sum()
            total_peer = total_peer + (b * torch.tensor(weights)).sum()
    if isinstance(total_own, int) or not np.isfinite(total_peer.item()):
        return
    total_own.backward()
    total_peer.backward()
    for p, q in zip(leaves(own_args), leaves(peer_args), strict=True):
        expected = np.zeros(p.shape) if q.grad is None else q.grad.numpy()
        found = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_logspace():
    np.testing.assert_allclose(pydl.logspace(-1, 2, 7).numpy(), torch.logspace(-1, 2, 7).numpy(), rtol=1e-6)
    np.testing.assert_allclose(pydl.logspace(0, 3, 4, base=2).numpy(), [1, 2, 4, 8])


@pytest.mark.parametrize("how", ["tril_indices", "triu_indices"])
def test_triangles(how):
    for arguments in ((3, 4), (4, 3, 1), (3, 3, -1)):
        np.testing.assert_array_equal(getattr(pydl, how)(*arguments).numpy(), getattr(torch, how)(*arguments).numpy())


def test_methods_of_tensors():
    """Every name that both have, called in place too, changes or returns the same."""
    a, b = real(3, 4), real(3, 4)
    for name in pydl.tensor.__globals__["IN_PLACE"]:
        arguments = {
            "add": [b], "addcdiv": [b, b], "addcmul": [b, b], "atan2": [b], "clamp": [-1.0, 0.5], "clamp_max": [0.1],
            "clamp_min": [0.1], "clip": [-1.0, 0.5], "copysign": [b], "cumprod": [1], "cumsum": [0], "div": [b], "divide": [b],
            "floor_divide": [b], "fmod": [b], "hypot": [b], "lerp": [b, 0.3], "mul": [b], "multiply": [b], "pow": [2],
            "remainder": [b], "sub": [b], "subtract": [b], "xlogy": [np.abs(b)], "masked_fill": [b > 0, 1.0],
        }.get(name, [])  # fmt: skip
        if name in ("addmm", "baddbmm", "index_add", "index_copy", "index_fill", "scatter", "scatter_add", "scatter_reduce"):
            continue
        own, peer = pydl.tensor(a), torch.tensor(a)
        result = getattr(own, f"{name}_")(*(convert(x, pydl.tensor) for x in arguments))
        getattr(peer, f"{name}_")(*(convert(x, torch.tensor) for x in arguments))
        assert result is own
        np.testing.assert_allclose(own.numpy(), peer.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)
    own, peer = pydl.tensor(a), torch.tensor(a)
    np.testing.assert_array_equal(own.unfold(1, 2, 2).numpy(), peer.unfold(1, 2, 2).numpy())
    np.testing.assert_array_equal((own.long() & 3).numpy(), (peer.long() & 3).numpy())
    np.testing.assert_allclose((own % 0.7).numpy(), (peer % 0.7).numpy())
    np.testing.assert_allclose((own // 0.7).numpy(), (peer // 0.7).numpy())
    assert own.new_zeros(2, 3).shape == (2, 3)
    assert own.new_full((2,), 7).dtype == own.dtype
