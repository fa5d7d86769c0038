"""Convolution: every check of tests/ops/records.py, and exact small integers over all its options."""

import itertools

import numpy as np
import pytest
from records import EXACT_LEVELS, OpRecord, draw, instruction_set, run_records, threads

import pydl
from pydl.errors import ArgumentError, DTypeError, ShapeError


def each(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


def pads_of(padding, kernel, dilation):
    """(before, after) per axis from a number, numbers or a name."""
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    named = {"valid": lambda r: (0, 0), "same": lambda r: (r // 2, r - r // 2), "full": lambda r: (r, r)}
    if isinstance(padding, str):
        return [named[padding](r) for r in reach]
    return [(p, p) for p in each(padding, len(kernel))]


def conv_reference(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """The defining sum, tap by tap, over a padded image."""
    n = w.ndim - 2
    stride, dilation = each(stride, n), each(dilation, n)
    pads = pads_of(padding, w.shape[2:], dilation)
    image = np.pad(x, [(0, 0), (0, 0), *pads])
    sizes = [(s - d * (k - 1) - 1) // step + 1
             for s, k, d, step in zip(image.shape[2:], w.shape[2:], dilation, stride, strict=True)]
    outputs, depth = w.shape[0] // groups, w.shape[1]
    y = np.zeros((x.shape[0], w.shape[0], *sizes), x.dtype)
    for g, tap in itertools.product(range(groups), np.ndindex(w.shape[2:])):
        window = tuple(slice(t * d, t * d + (s - 1) * step + 1, step)
                       for t, d, s, step in zip(tap, dilation, sizes, stride, strict=True))
        part = image[(slice(None), slice(g * depth, (g + 1) * depth), *window)]
        mine = slice(g * outputs, (g + 1) * outputs)
        y[:, mine] += np.einsum("nc...,oc->no...", part, w[(mine, slice(None), *tap)])
    return y if b is None else y + b.reshape(-1, *(1,) * n)


def conv_transpose_reference(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Each input element adds a scaled filter to the output; the padding is cut off at the end."""
    n = w.ndim - 2
    stride, dilation, padding, extra = (each(v, n) for v in (stride, dilation, padding, output_padding))
    sizes = [(s - 1) * step + d * (k - 1) + 1 + e
             for s, step, d, k, e in zip(x.shape[2:], stride, dilation, w.shape[2:], extra, strict=True)]
    depth, outputs = w.shape[0] // groups, w.shape[1]
    y = np.zeros((x.shape[0], outputs * groups, *sizes), x.dtype)
    for g, tap in itertools.product(range(groups), np.ndindex(w.shape[2:])):
        window = tuple(slice(t * d, t * d + (s - 1) * step + 1, step)
                       for t, d, s, step in zip(tap, dilation, x.shape[2:], stride, strict=True))
        mine = slice(g * depth, (g + 1) * depth)
        y[(slice(None), slice(g * outputs, (g + 1) * outputs), *window)] += np.einsum(
            "nc...,co->no...", x[:, mine], w[(mine, slice(None), *tap)])
    y = y[(slice(None), slice(None), *(slice(p, s - p) for p, s in zip(padding, sizes, strict=True)))]
    return y if b is None else y + b.reshape(-1, *(1,) * n)


def record(label, x, w, bias=True, large=None, zero=None, errors=(), transposed=False, **options):
    n = len(w) - 2
    function = getattr(pydl, f"conv_transpose{n}d" if transposed else f"conv{n}d")
    reference = conv_transpose_reference if transposed else conv_reference
    outputs = w[1] * options.get("groups", 1) if transposed else w[0]

    def makers(x, w):
        return (draw(*x), draw(*w), draw(w[1] * options.get("groups", 1) if transposed else w[0]))[: 3 if bias else 2]

    assert outputs
    return OpRecord(label, lambda *a: function(*a, **options), lambda *a: reference(*a, **options), makers(x, w), rtol=5e-6,
                    large=large and makers(*large), zero_size=zero and makers(*zero), errors=list(errors))


def bad(function, x, w, kind, text, bias=None, **options):
    tensors = [pydl.zeros(*s) for s in (x, w, *([bias] if bias else []))]
    return (lambda: function(*tensors, **options), kind, text)


c1, c2, c3, t2 = pydl.conv1d, pydl.conv2d, pydl.conv3d, pydl.conv_transpose2d
ERRORS = [
    bad(c2, (1, 3, 5, 5), (4, 2, 3, 3), ShapeError, r"\[conv2d\] input of shape \(1, 3, 5, 5\) has 3 channels.*expects 2; check"),
    bad(c2, (1, 3, 2, 5), (4, 3, 3, 3), ShapeError, r"\[conv2d\].*too small on axis 2: size 2.*covers 3; enlarge"),
    bad(c2, (3, 5), (4, 3, 3, 3), ShapeError, r"\[conv2d\] input must have shape \(N, C, H, W\), got \(3, 5\)"),
    bad(c2, (1, 3, 5, 5), (4, 3, 3), ShapeError, r"\[conv2d\] weight must be \(O, C/groups, H, W\), got shape \(4, 3, 3\)"),
    bad(c2, (1, 3, 5, 5), (4, 3, 3, 3), ShapeError, r"\[conv2d\] bias of shape \(3,\), expected \(4,\)", bias=(3,)),
    bad(c2, (1, 4, 5, 5), (3, 2, 3, 3), ShapeError, r"\[conv2d\].*first axis \(3\) is no multiple of groups=2", groups=2),
    bad(c2, (1, 3, 5, 5), (4, 3, 0, 3), ShapeError, r"\[conv2d\].*empty kernel"),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"\[conv1d\] stride=0: expected at least 1", stride=0),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"\[conv1d\] padding=-1: expected at least 0", padding=-1),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"\[conv1d\] dilation=.*less than 2\*\*31", dilation=1 << 40),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"\[conv1d\] stride=1.5: expected one number or 1", stride=1.5),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"\[conv1d\] groups=0", groups=0),
    bad(c3, (1, 3, 5, 5, 5), (4, 3, 3, 3, 3), ArgumentError, r"\[conv3d\] stride=\(1, 2\): expected one number or 3",
        stride=(1, 2)),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"padding='same' needs stride 1", padding="same", stride=2),
    bad(c1, (1, 3, 5), (4, 3, 3), ArgumentError, r"padding='some'; expected a number", padding="some"),
    (lambda: c1(pydl.zeros(1, 3, 5), pydl.zeros(4, 3, 3, dtype=np.float64)), DTypeError,
     r"\[conv1d\].*input float32, weight float64"),
    (lambda: c1(pydl.zeros(1, 3, 5).long(), pydl.zeros(4, 3, 3).long()), DTypeError, r"\[conv1d\].*int64.*\.to\(pydl\.float32\)"),
]
TRANSPOSE_ERRORS = [
    bad(t2, (1, 3, 5, 5), (4, 3, 3, 3), ShapeError, r"\[conv_transpose2d\].*has 3 channels.*expects 4"),
    bad(t2, (1, 3, 5, 5), (3, 4, 3, 3), ArgumentError, r"output_padding=\(1, 1\) must be smaller", output_padding=1),
    bad(t2, (1, 3, 2, 2), (3, 4, 3, 3), ShapeError, r"output of size \(-2, -2\); reduce the padding", padding=3),
    bad(t2, (1, 3, 2), (3, 4, 3), ShapeError, r"\[conv_transpose2d\] weight must be \(C, O/groups, H, W\)"),
    bad(t2, (1, 4, 2, 2), (4, 3, 3, 3), ShapeError, r"no multiple of groups=3", groups=3),
]

RECORDS = [
    record("1d", (2, 2, 5), (3, 2, 3), large=((3, 20, 900), (40, 20, 5)), zero=((0, 3, 7), (4, 3, 3)), stride=2, padding=1,
           errors=ERRORS),
    record("2d", (1, 2, 4, 4), (2, 2, 3, 2), large=((4, 17, 33, 30), (35, 17, 3, 2)), zero=((2, 0, 5, 6), (3, 0, 3, 2))),
    record("2d_options", (1, 4, 5, 3), (2, 2, 3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2,
           large=((4, 16, 33, 30), (34, 8, 3, 2)), zero=((0, 4, 7, 6), (4, 2, 3, 2))),
    record("2d_same", (1, 2, 3, 3), (2, 2, 3, 2), padding="same", bias=False),
    record("2d_full", (1, 2, 2, 3), (2, 2, 3, 2), padding="full", dilation=2, zero=((1, 2, 0, 4), (3, 2, 3, 2))),
    record("pointwise", (2, 3, 2, 2), (4, 3, 1, 1), large=((4, 64, 28, 28), (96, 64, 1, 1))),
    record("depthwise", (1, 3, 4, 3), (3, 1, 3, 3), padding=1, groups=3, large=((4, 3, 90, 87), (3, 1, 3, 3)),
           zero=((0, 3, 6, 5), (3, 1, 3, 3))),
    record("3d", (1, 2, 3, 2, 3), (2, 2, 2, 1, 2), padding=(0, 1, 1), stride=(1, 2, 1),
           large=((2, 9, 9, 12, 13), (17, 9, 3, 3, 3)), zero=((0, 2, 4, 3, 4), (2, 2, 2, 2, 3))),
    record("transpose_1d", (2, 3, 4), (3, 2, 3), transposed=True, stride=2, padding=1, output_padding=1,
           zero=((0, 3, 4), (3, 2, 3)), errors=TRANSPOSE_ERRORS),
    record("transpose_2d", (1, 4, 2, 3), (4, 1, 3, 2), transposed=True, stride=(2, 3), padding=(1, 0), output_padding=(1, 2),
           groups=2, dilation=(2, 1), large=((2, 24, 17, 19), (24, 18, 3, 2)), zero=((0, 4, 3, 4), (4, 2, 3, 2))),
    record("transpose_depthwise", (1, 3, 2, 3), (3, 1, 3, 2), transposed=True, stride=2, padding=1, output_padding=1, groups=3,
           bias=False),
    record("transpose_3d", (1, 2, 2, 2, 2), (2, 2, 2, 1, 2), transposed=True, stride=(1, 2, 2),
           zero=((2, 0, 2, 3, 2), (0, 3, 2, 1, 3))),
]
test_ops = run_records(RECORDS)


def whole_numbers(rng, shape):
    return rng.integers(-3, 4, shape).astype(np.int64)


def check_exactly(n, x, w, b, transposed=False, dtype=np.float32, **options):
    """Values and all gradients, to the last bit. The gradients of a bilinear map follow from its values: exactly."""
    function = getattr(pydl, f"conv_transpose{n}d" if transposed else f"conv{n}d")
    reference = conv_transpose_reference if transposed else conv_reference
    expected = reference(x, w, b, **options)
    tensors = [pydl.tensor(a.astype(dtype), requires_grad=True) for a in (x, w, b)]
    y = function(*tensors, **options)
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    g = whole_numbers(np.random.default_rng(9), expected.shape)
    y.backward(pydl.tensor(g.astype(dtype)))
    np.testing.assert_array_equal(tensors[2].grad.numpy(), g.sum((0, *range(2, n + 2))))
    for which, t in enumerate(tensors[:2]):  # <g, f(d)> for random directions d equals <gradient, d>
        for seed in range(3):
            d = whole_numbers(np.random.default_rng(seed), t.shape)
            moved = reference(*[d if k == which else a for k, a in enumerate((x, w))], **options)
            assert (moved * g).sum() == (t.grad.numpy().astype(np.int64) * d).sum(), ("x", "w")[which]


def configurations():
    rng = np.random.default_rng(0)
    paddings = [0, 1, 2, "valid", "same", "full"]
    for i, (n, padding, groups) in enumerate(itertools.product((1, 2, 3), paddings, (1, 2, "depthwise"))):
        kernel, dilation = (tuple(int(v) for v in rng.integers(1, 4, n)) for _ in range(2))
        stride = (1,) * n if padding == "same" else tuple(int(v) for v in rng.integers(1, 4, n))
        if groups == "depthwise":
            c = o = group_count = int(rng.integers(2, 20))
        else:
            group_count = groups
            c, o = (group_count * int(rng.integers(1, 18)) for _ in range(2))
        size = tuple(int(d * (k - 1) + 1 + rng.integers(0, 5)) for d, k in zip(dilation, kernel, strict=True))
        yield pytest.param(n, c, o, size, kernel, {"stride": stride, "padding": padding, "dilation": dilation,
                                                   "groups": group_count}, id=f"{i}-{n}d-{padding}-{groups}")


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("n", "c", "o", "size", "kernel", "options"), list(configurations()))
def test_exact(n, c, o, size, kernel, options, isa):
    rng = np.random.default_rng(1)
    x, w, b = (whole_numbers(rng, s) for s in ((2, c, *size), (o, c // options["groups"], *kernel), (o,)))
    with instruction_set(isa):
        check_exactly(n, x, w, b, **options)
        if not isinstance(options["padding"], str):
            limits = zip(options["stride"], options["dilation"], strict=True)
            extra = tuple(max(s, d) - 1 for s, d in limits)
            x, w, b = (whole_numbers(rng, s) for s in ((2, c, *(3,) * n), (c, o // options["groups"], *kernel), (o,)))
            pads = tuple(min(options["padding"], d * (k - 1)) for k, d in zip(kernel, options["dilation"], strict=True))
            check_exactly(n, x, w, b, True, **{**options, "padding": pads, "output_padding": extra})


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize("channels", [1, 5, 6, 7, 13, 14, 15, 31, 32, 33])
def test_exact_around_the_block_edges(channels, isa):
    """Channels around the panel sizes, positions around the row blocks, K = C * 9 across 256."""
    rng = np.random.default_rng(2)
    with instruction_set(isa):
        for c, o, width, groups in [(channels, 3, 14, 1), (3, channels, 15, 1), (channels, channels, 7, channels),
                                    (29, channels, 4, 1)]:
            x, w, b = (whole_numbers(rng, s) for s in ((2, c, 5, width), (o, c // groups, 3, 3), (o,)))
            for dtype in (np.float32, np.float64):
                check_exactly(2, x, w, b, dtype=dtype, padding=1, groups=groups)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
def test_exact_in_every_memory_order(isa):
    rng = np.random.default_rng(3)
    x, w = whole_numbers(rng, (2, 3, 6, 5)), whole_numbers(rng, (4, 3, 2, 3))
    expected = conv_reference(x, w, stride=2, padding=1)
    with instruction_set(isa):
        for order in itertools.permutations(range(4)):
            back = np.argsort(order)
            a, b = (np.ascontiguousarray(v.astype(np.float32).transpose(order)).transpose(back) for v in (x, w))
            y = pydl.conv2d(pydl.from_numpy(a), pydl.from_numpy(b), stride=2, padding=1)
            np.testing.assert_array_equal(y.numpy(), expected)
            a, b = a[..., ::-1].copy()[..., ::-1], b[::-1].copy()[::-1]
            y = pydl.conv2d(pydl.from_numpy(a), pydl.from_numpy(b), stride=2, padding=1)
            np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("groups", [1, 6])
def test_special_values_spread_as_in_plain_arithmetic(groups, value, isa):
    rng = np.random.default_rng(4)
    x = whole_numbers(rng, (2, 6, 9, 8)).astype(np.float64)
    w = whole_numbers(rng, (6, 6 // groups, 3, 3)).astype(np.float64)
    w[w == 0] = 1
    w[0, 0, 1, 1] = 0  # 0 * inf is NaN
    x[1, 0, 4, 5] = value
    with np.errstate(invalid="ignore"):
        expected = conv_reference(x, w, padding=1, groups=groups)
    assert 0 < (~np.isfinite(expected)).sum() <= 9 * 6
    with instruction_set(isa):
        y = pydl.conv2d(pydl.tensor(x.astype(np.float32)), pydl.tensor(w.astype(np.float32)), padding=1, groups=groups)
        np.testing.assert_array_equal(y.numpy(), expected.astype(np.float32))


def test_a_sample_without_the_batch_axis():
    x, w, b = pydl.randn(3, 6, 5), pydl.randn(4, 3, 2, 2), pydl.randn(4)
    np.testing.assert_array_equal(pydl.conv2d(x, w, b).numpy(), pydl.conv2d(x[None], w, b).numpy()[0])
    w = pydl.randn(3, 2, 2, 2)
    np.testing.assert_array_equal(pydl.conv_transpose2d(x, w).numpy(), pydl.conv_transpose2d(x[None], w).numpy()[0])


def test_strides_beyond_the_input():
    """Most phases of such a gradient have no position at all: it must not walk through them."""
    x, w = pydl.ones(1, 1, 4, 4, requires_grad=True), pydl.ones(1, 1, 2, 2)
    y = pydl.conv2d(x, w, stride=2**31 - 1)
    y.sum().backward()
    assert y.item() == 4
    assert x.grad.sum().item() == x.grad[0, 0, :2, :2].sum().item() == 4


def test_hostile_memory():
    image = np.zeros((1, 1, 5, 5), np.float32)
    image[0, 0, 2, 2] = 1
    image.flags.writeable = False
    repeated = np.broadcast_to(np.float32(3), (2, 1, 3, 3))
    assert pydl.conv2d(pydl.from_numpy(image), pydl.from_numpy(repeated)).numpy().tolist() == np.full((1, 2, 3, 3), 3.0).tolist()
    unaligned = np.frombuffer(bytes(101), np.uint8)[1:].view(np.float32).reshape(1, 1, 5, 5)
    with pytest.raises(ValueError, match="copy it first"):
        pydl.conv2d(pydl.from_numpy(unaligned), pydl.from_numpy(repeated))


@pytest.mark.parametrize("groups", [1, 48])
def test_threads_do_not_change_a_bit(groups):
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((4, 48, 33, 31), (48, 48 // groups, 3, 3), (48,))]
    results = []
    for n in (1, 2, 5):
        with threads(n):
            x, w, b = (pydl.tensor(a, requires_grad=True) for a in arrays)
            y = pydl.conv2d(x, w, b, stride=2, padding=1, groups=groups)
            pydl.square(y).sum().backward()
            results.append([t.numpy().tobytes() for t in (y.detach(), x.grad, w.grad, b.grad)])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_depthwise_rows_of_any_width_are_exact(stride):
    """Rows shorter than the pixels taken at a time, and ends that overlap what was done before; whole numbers, so no rounding."""
    rng = np.random.default_rng(0)
    for width, channels in itertools.product(range(1, 15), (5, 16, 19)):
        x = rng.integers(-4, 5, (2, channels, 6, width)).astype(np.float32)
        w = rng.integers(-4, 5, (channels, 1, 3, 3)).astype(np.float32)
        b = rng.integers(-4, 5, channels).astype(np.float32)
        y = pydl.conv2d(pydl.tensor(x), pydl.tensor(w), pydl.tensor(b), stride=stride, padding=1, groups=channels)
        assert np.array_equal(y.numpy(), conv_reference(x, w, b, (stride,) * 2, (1, 1), (1, 1), channels))
