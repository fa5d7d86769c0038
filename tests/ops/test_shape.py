"""Changing shapes: every check of tests/ops/records.py; views, scalars, integers, negative strides, and bad arguments."""

import itertools

import numpy as np
import pytest
from records import OpRecord, draw, run_records, threads

import pydl
from pydl.errors import ArgumentError, ShapeError


def bad(function, *args, kind=ArgumentError, text):
    return (lambda: function(*args), kind, text)


X = pydl.zeros(2, 3, 4)
S = pydl.tensor(1.0)


def record(label, function, reference, *shapes, errors=(), large=None, zero=None, double=True):
    return OpRecord(
        label,
        lambda *x: function(*x),
        reference,
        tuple(draw(*s) for s in shapes or ((2, 3, 4),)),
        rtol=2e-7,
        zero_size=tuple(draw(*s) for s in (zero or [(0, *s[1:]) for s in shapes or ((2, 3, 4),)])),
        large=large and tuple(draw(*s) for s in large),
        errors=list(errors),
        double_backward=double,
    )


RECORDS = [
    record(
        "reshape",
        lambda x: x.reshape(4, -1),
        lambda x: x.reshape(4, x.size // 4),
        zero=[(4, 0, 3)],
        errors=[
            bad(
                X.reshape, 5, 5, kind=ShapeError, text=r"\[reshape\] input of shape \(2, 3, 4\) has 24 elements.*needs 25; use -1"
            ),
            bad(X.reshape, 5, -1, kind=ShapeError, text=r"\[reshape\].*24 is no multiple of 5"),
            bad(X.reshape, -1, -1, text=r"\[reshape\].*at most one -1"),
            bad(X.reshape, 24, -2, -1, text=r"at most one -1"),
            bad(pydl.zeros(0).reshape, 0, -1, kind=ShapeError, text=r"no multiple of 0"),
        ],
    ),
    record(
        "flatten",
        lambda x: pydl.flatten(x, 1),
        lambda x: x.reshape(x.shape[0], 12),
        errors=[
            bad(pydl.flatten, X, 2, 1, text=r"\[flatten\] start_dim=2 comes after end_dim=1"),
            bad(pydl.flatten, X, 3, text=r"\[flatten\] start_dim=3 for a tensor of 3 axes; expected -3 to 2"),
        ],
    ),
    record(
        "unflatten",
        lambda x: pydl.unflatten(x, 2, (2, -1)),
        lambda x: x.reshape(x.shape[0], 3, 2, 2),
        errors=[bad(pydl.unflatten, X, 2, (3, 2), kind=ShapeError, text=r"4 elements, shape \(3, 2\) needs 6")],
    ),
    record(
        "permute",
        lambda x: pydl.permute(x, 2, 0, -2),
        lambda x: x.transpose(2, 0, 1),
        errors=[
            bad(pydl.permute, X, 0, 1, text=r"\[permute\] dims \(0, 1\) must name each of the 3 axes"),
            bad(pydl.permute, X, 0, 1, 1, text=r"\[permute\]"),
            bad(pydl.permute, X, 0, 1, 5, text=r"\[permute\] dim=5"),
        ],
    ),
    record(
        "transpose",
        lambda x: pydl.transpose(x, 0, -1),
        lambda x: x.swapaxes(0, 2),
        errors=[bad(pydl.transpose, X, 0, 3, text=r"\[transpose\] dim1=3")],
    ),
    record("t", pydl.t, np.transpose, (3, 4), errors=[bad(pydl.t, X, kind=ShapeError, text=r"\[t\] expected at most 2 axes")]),
    record(
        "movedim",
        lambda x: pydl.movedim(x, (0, 1), (-1, 0)),
        lambda x: np.moveaxis(x, (0, 1), (-1, 0)),
        errors=[
            bad(pydl.movedim, X, (0, 1), (0,), text=r"\[movedim\] 2 source axes but 1 destinations"),
            bad(pydl.movedim, X, (0, 1), (2, -1), text=r"\[movedim\].*names an axis twice"),
        ],
    ),
    record(
        "squeeze",
        lambda x: pydl.squeeze(x, (0, 1)),
        lambda x: x[:, 0],
        (3, 1, 4),
        errors=[bad(pydl.squeeze, X, 3, text=r"\[squeeze\] dim=3")],
    ),
    record(
        "unsqueeze",
        lambda x: pydl.unsqueeze(x, -2),
        lambda x: x[:, :, None],
        errors=[bad(pydl.unsqueeze, X, 4, text=r"\[unsqueeze\] dim=4")],
    ),
    record(
        "expand",
        lambda x: pydl.expand(x, 2, -1, 3, -1),
        lambda x: np.broadcast_to(x, (2, x.shape[0], 3, 4)),
        (3, 1, 4),
        errors=[
            bad(
                pydl.expand,
                X,
                2,
                5,
                4,
                kind=ShapeError,
                text=r"\[expand\] input of shape \(2, 3, 4\) cannot be repeated to \(2, 5, 4\)",
            ),
            bad(pydl.expand, X, 3, 4, kind=ShapeError, text=r"\[expand\]"),
            bad(pydl.expand, X, -1, 2, 3, 4, kind=ShapeError, text="expand"),
        ],
    ),
    record(
        "flip",
        lambda x: pydl.flip(x, 0, -1),
        lambda x: x[::-1, :, ::-1],
        errors=[bad(pydl.flip, X, 3, text=r"\[flip\] dim=3"), bad(pydl.flip, X, 0, -3, text=r"names an axis twice")],
    ),
    record(
        "roll",
        lambda x: pydl.roll(x, (-1, 5), (0, 2)),
        lambda x: np.roll(x, (-1, 5), (0, 2)),
        errors=[
            bad(pydl.roll, X, (1, 2), 0, text=r"\[roll\] shifts=\(1, 2\), dims=0.*one shift for each axis"),
            bad(pydl.roll, S, 1, 0, text=r"\[roll\]"),
        ],
    ),
    record("roll_flat", lambda x: pydl.roll(x, 7), lambda x: np.roll(x, 7)),
    record(
        "cat",
        lambda *x: pydl.cat(x, 1),
        lambda *x: np.concatenate(x, 1),
        (2, 3, 2),
        (2, 1, 2),
        (2, 0, 2),
        large=[(40, 30, 35), (40, 3, 35), (40, 0, 35)],
        errors=[
            bad(
                pydl.cat,
                [X, pydl.zeros(2, 3, 5)],
                1,
                kind=ShapeError,
                text=r"\[cat\] tensors\[1\] has shape \(2, 3, 5\).*all axes but dim=1",
            ),
            bad(pydl.cat, [X, pydl.zeros(2, 3)], kind=ShapeError, text=r"\[cat\] tensors\[1\]"),
            bad(pydl.cat, [], text=r"\[cat\] expected at least one"),
            bad(pydl.cat, [S, S], kind=ShapeError, text=r"\[cat\].*use stack"),
            bad(pydl.cat, [X], 3, text=r"\[cat\] dim=3"),
        ],
    ),
    record(
        "stack",
        lambda *x: pydl.stack(x, -1),
        lambda *x: np.stack(x, -1),
        (2, 3),
        (2, 3),
        errors=[
            bad(pydl.stack, [X, pydl.zeros(2)], kind=ShapeError, text=r"\[stack\] all tensors must have one shape"),
            bad(pydl.stack, [], text=r"\[stack\] expected at least one"),
        ],
    ),
    record(
        "narrow",
        lambda x: pydl.narrow(x, 2, -3, 2),
        lambda x: x[:, :, 1:3],
        errors=[
            bad(pydl.narrow, X, 2, 3, 2, text=r"\[narrow\] start=3, length=2 leave axis 2 of size 4"),
            bad(pydl.narrow, X, 2, 0, -1, text=r"\[narrow\]"),
            bad(pydl.narrow, S, 0, 0, 1, kind=ShapeError, text=r"\[narrow\] a scalar"),
        ],
    ),
    record(
        "split",
        lambda x: pydl.split(x, 3, 2),
        lambda x: tuple(np.split(x, [3], 2)),
        errors=[
            bad(pydl.split, X, 0, text=r"\[split\] split_size must be positive"),
            bad(pydl.split, X, [1, 2], text=r"\[split\] sections \[1, 2\] add up to 3, axis 0 has size 2"),
            bad(pydl.split, S, 1, kind=ShapeError, text=r"\[split\] a scalar"),
        ],
    ),
    record("split_sections", lambda x: pydl.split(x, [1, 0, 3], -1), lambda x: tuple(np.split(x, [1, 1], -1))),
    record(
        "chunk",
        lambda x: pydl.chunk(x, 3, 2),
        lambda x: (x[..., :2], x[..., 2:]),
        errors=[
            bad(pydl.chunk, X, 0, text=r"\[chunk\] chunks must be positive"),
            bad(pydl.chunk, S, 2, kind=ShapeError, text=r"\[chunk\] a scalar"),
        ],
    ),
    record(
        "unbind",
        lambda x: pydl.unbind(x, 1),
        lambda x: tuple(x[:, i] for i in range(3)),
        errors=[bad(pydl.unbind, S, kind=ShapeError, text=r"\[unbind\] a scalar")],
    ),
    record(
        "repeat",
        lambda x: pydl.repeat(x, 2, 1, 3),
        lambda x: np.tile(x, (2, 1, 3)),
        (2, 3),
        errors=[
            bad(pydl.repeat, X, 2, 2, text=r"\[repeat\] 2 counts for 3 axes"),
            bad(pydl.repeat, X, 1, 1, -1, text=r"must not be negative"),
        ],
    ),
    record("tile", lambda x: pydl.tile(x, (2,)), lambda x: np.tile(x, (2,)), (2, 3)),
    record(
        "repeat_interleave",
        lambda x: pydl.repeat_interleave(x, 2, 1),
        lambda x: np.repeat(x, 2, 1),
        errors=[
            bad(pydl.repeat_interleave, X, -1, 1, text=r"\[repeat_interleave\] repeats=-1"),
            bad(pydl.repeat_interleave, X, pydl.tensor([1, 2]), 1, text=r"not negative, or 3 of them"),
        ],
    ),
    record("repeat_counts", lambda x: pydl.repeat_interleave(x, pydl.tensor([2, 0, 3]), 1), lambda x: np.repeat(x, [2, 0, 3], 1)),
    record("repeat_flat", lambda x: pydl.repeat_interleave(x, 3), lambda x: np.repeat(x, 3)),
    record(
        "diagonal",
        lambda x: pydl.diagonal(x, 1, 0, 2),
        lambda x: np.diagonal(x, 1, 0, 2),
        errors=[
            bad(pydl.diagonal, X, 0, 1, -2, text=r"\[diagonal\] dim1=1 and dim2=-2 name one axis"),
            bad(pydl.diagonal, pydl.zeros(3), text=r"\[diagonal\] dim2=1 for a tensor of 1 axes"),
        ],
    ),
    record(
        "tril",
        lambda x: pydl.tril(x, 1),
        lambda x: np.tril(x, 1),
        errors=[bad(pydl.tril, pydl.zeros(3), kind=ShapeError, text=r"\[tril\] expected at least 2 axes, got shape \(3,\)")],
    ),
    record("triu", lambda x: pydl.triu(x, -1), lambda x: np.triu(x, -1), (4, 3)),
    record(
        "meshgrid",
        lambda a, b: pydl.meshgrid(a, b, indexing="xy"),
        lambda a, b: tuple(np.meshgrid(a, b)),
        (3,),
        (4,),
        double=False,
        errors=[bad(pydl.meshgrid, X, text=r"\[meshgrid\].*expected vectors")],
    ),
    record(
        "pad",
        lambda x: pydl.pad(x, (1, 0, -1, 2), value=3.0),
        lambda x: np.pad(x, ((0, 0), (0, 2), (1, 0)), constant_values=3)[:, 1:],
        large=[(40, 30, 35)],
        errors=[
            bad(pydl.pad, X, (1,), text=r"\[pad\] pad=\(1,\): expected pairs"),
            bad(pydl.pad, X, (1,) * 8, text=r"at most 3 axes"),
            bad(pydl.pad, X, (1, 1), "mirror", text=r"\[pad\] mode='mirror'"),
            bad(pydl.pad, X, (-1, 1), "reflect", text=r"negative padding"),
            bad(pydl.pad, X, (4, 0), "reflect", kind=ShapeError, text=r"reflect padding \(4, 0\) on axis 2 of size 4: at most 3"),
            bad(pydl.pad, X, (0, 5), "circular", kind=ShapeError, text=r"at most 4"),
            bad(pydl.pad, X, (-5, 9), kind=ShapeError, text=r"\[pad\] padding \(-5, 9\) does not fit axis 2 of size 4"),
        ],
    ),
    record(
        "pad_reflect", lambda x: pydl.pad(x, (2, 3, 1, 0), "reflect"), lambda x: np.pad(x, ((0, 0), (1, 0), (2, 3)), "reflect")
    ),
    record(
        "pad_replicate", lambda x: pydl.pad(x, (5, 0, 1, 2), "replicate"), lambda x: np.pad(x, ((0, 0), (1, 2), (5, 0)), "edge")
    ),
    record(
        "pad_circular", lambda x: pydl.pad(x, (2, 4, 1, 0), "circular"), lambda x: np.pad(x, ((0, 0), (1, 0), (2, 4)), "wrap")
    ),
    record(
        "contiguous",
        lambda x: pydl.contiguous(pydl.permute(x, 2, 0, 1)),
        lambda x: x.transpose(2, 0, 1),
        large=[(30, 40, 50)],
        zero=[(2, 0, 3)],
        errors=[
            bad(pydl.contiguous, X, "nhwc", text=r"\[contiguous\] memory_format='nhwc'"),
            bad(pydl.contiguous, S, "channels_last", kind=ShapeError, text=r"channels_last needs shape"),
        ],
    ),
]
test_ops = run_records(RECORDS)


def test_the_gradient_of_a_square_sees_each_element_once():
    """A rearrangement that loses or doubles elements would show here, whatever its own backward says."""
    for r in RECORDS:
        rng = np.random.default_rng(0)
        arrays = [make(rng) for make in r.inputs]
        inputs = [pydl.tensor(a, requires_grad=True) for a in arrays]
        outs = r.function(*inputs)
        outs = outs if isinstance(outs, tuple) else (outs,)
        total = sum((o * o).sum() for o in outs)
        total.backward()
        marked = [np.zeros(a.shape) for a in arrays]
        for k, a in enumerate(arrays):
            for at in np.ndindex(a.shape):  # how often each element is in the result
                probe = [np.zeros(b.shape) for b in arrays]
                probe[k][at] = 1
                found = r.reference(*probe)
                base = r.reference(*[np.zeros(b.shape) for b in arrays])
                pairs = zip(found, base, strict=True) if isinstance(found, tuple) else [(found, base)]
                marked[k][at] = sum((f - b).sum() for f, b in pairs)
            np.testing.assert_allclose(inputs[k].grad.numpy(), 2 * a * marked[k], rtol=1e-12, err_msg=r.name)


def test_views_share_memory_and_versions():
    x = pydl.zeros(2, 3, 4)
    views = [
        x.reshape(6, 4),
        x.permute(2, 0, 1),
        x.transpose(0, 1),
        x.unsqueeze(0),
        x.flip(1),
        x.narrow(1, 1, 2),
        x[:, ::2, None],
        x.flatten(1),
        x.diagonal(0, 1, 2),
        x.expand(5, 2, 3, 4),
        *x.split(1),
        *x.unbind(2),
        x.T,
        x.mT,
    ]
    before = x.version
    x += 1
    assert x.version == before + 1
    for v in views:
        assert np.shares_memory(v.data, x.data)
        assert v.version == x.version
        assert (v.numpy() == 1).all()
    with pytest.raises(ShapeError, match=r"\[view\].*strides.*use .reshape"):
        x.transpose(0, 1).view(6, 4)
    assert not np.shares_memory(x.transpose(0, 1).reshape(6, 4).data, x.data)
    assert not np.shares_memory(x.cpu().clone().data, x.data)


def test_a_saved_view_changed_in_place_is_caught():
    x = pydl.ones(3, requires_grad=True)
    y = x * 1
    z = (y.reshape(3, 1) * y.reshape(3, 1)).sum()
    with pydl.no_grad():
        y[0] = 5.0
    with pytest.raises(pydl.errors.GraphError, match="changed in place"):
        z.backward()


def test_scalars():
    s = pydl.tensor(2.5, requires_grad=True)
    for f in (
        lambda x: x.reshape(1),
        lambda x: x.reshape(()),
        lambda x: x.flatten(),
        lambda x: x.squeeze(),
        lambda x: x.squeeze(0),
        lambda x: x.unsqueeze(-1),
        lambda x: x.expand(3),
        lambda x: x.expand(2, 2),
        pydl.t,
        lambda x: x.transpose(0, -1),
        lambda x: x.permute(),
        lambda x: x.flip(()),
        lambda x: x.roll(1),
        lambda x: x.repeat(3),
        lambda x: x.tile((2,)),
        lambda x: x.repeat_interleave(2),
        lambda x: pydl.stack([x, x]),
        lambda x: pydl.meshgrid(x, x)[0],
        lambda x: x.broadcast_to((2, 1)),
        lambda x: pydl.pad(x, ()),
    ):
        y = f(s)
        assert (y.detach().numpy() == 2.5).all()
        s.grad = None
        y.sum().backward()
        assert s.grad.item() == y.numel()


DTYPES = [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16, np.int16, np.int8]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_every_dtype_and_negative_strides(dtype):
    base = (np.random.default_rng(0).integers(0, 2, (4, 6, 8)) * 3).astype(dtype)
    for x in (base[::-2, ::-1, ::3], base.transpose(2, 0, 1)[::2], base[:, :0], np.broadcast_to(base[:1], (3, 6, 8))):
        t = pydl.from_numpy(x)
        n = x.shape[0]
        for ours, theirs in [
            (t.reshape(-1), x.reshape(-1)),
            (t.permute(1, 2, 0), x.transpose(1, 2, 0)),
            (t.flip(0, 2), x[::-1, :, ::-1]),
            (pydl.cat([t, t], 1), np.concatenate([x, x], 1)),
            (pydl.stack([t, t]), np.stack([x, x])),
            (t.contiguous(), x),
            (t.clone(), x),
            (t.tril(), np.tril(x)),
            (t.repeat(2, 1, 1), np.tile(x, (2, 1, 1))),
            (t[n // 2 :], x[n // 2 :]),
            (pydl.pad(t, (1, 2)), np.pad(x, ((0, 0), (0, 0), (1, 2)))),
            (t.roll(1, 2), np.roll(x, 1, 2)),
            (t.repeat_interleave(2, 0), np.repeat(x, 2, 0)),
            (t.diagonal(), np.diagonal(x)),
        ]:
            assert ours.dtype == dtype
            np.testing.assert_array_equal(ours.numpy(), theirs)


def test_channels_last_is_kept_where_it_can_be():
    x = pydl.contiguous(pydl.randn(2, 3, 4, 5), "channels_last")
    for y in (pydl.cat([x, x], 1), pydl.pad(x, (1, 1, 2, 2)), x.clone(), pydl.contiguous(x, "channels_last")):
        assert y.stride()[1] == 1
    assert pydl.contiguous(x).is_contiguous_array
    assert pydl.contiguous(x, "channels_last") is x


def test_promotion_in_cat():
    out = pydl.cat([pydl.tensor([1, 2]), pydl.tensor([0.5])])
    assert out.dtype == pydl.float32
    assert out.tolist() == [1, 2, 0.5]
    assert pydl.cat([pydl.tensor([True]), pydl.tensor([3])]).tolist() == [1, 3]


def test_huge_views_cost_nothing():
    x = pydl.expand(pydl.ones(1, 1), 1 << 20, 1 << 20)  # 4 TiB if it were copied
    assert x[5, 7].item() == 1
    assert x.narrow(0, 3, 2).shape == (2, 1 << 20)
    with pytest.raises(MemoryError):
        x.contiguous()


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_rows_copied_between_any_orders_of_axes(dtype):
    """More rows than one task takes, of lengths with and without a tail; the fastest axis stays."""
    for shape in ((3, 70, 5, 67), (2, 9, 130, 64), (40, 3, 7, 31)):
        base = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        for order in itertools.permutations(range(3)):
            for x in (base.transpose(*order, 3), base[:, ::-1].transpose(*order, 3), base[..., 1:-3].transpose(*order, 3)):
                expected = np.array(x, order="C")
                for n in (1, 2):
                    with threads(n):
                        assert np.array_equal(pydl.from_numpy(x).contiguous().numpy(), expected)


def test_cat_of_every_mixture_of_layouts():
    """Dense rows in either order go through one kernel, all else through copies: both along each axis, with an empty part."""
    rng = np.random.default_rng(0)
    for dim in range(4):
        for kinds in itertools.product(("rows", "channels_last", "slice", "empty"), repeat=2):
            parts = []
            for kind in ("rows", *kinds):
                shape = [2, 3, 4, 5]
                shape[dim] = 0 if kind == "empty" else int(rng.integers(1, 6))
                x = rng.normal(size=shape).astype(np.float32)
                if kind == "slice":
                    x = np.concatenate([x, x], -1)[..., ::2]
                t = pydl.from_numpy(x)
                parts.append(pydl.contiguous(t, "channels_last") if kind == "channels_last" else t)
            for order in (parts, parts[::-1]):
                expected = np.concatenate([p.numpy() for p in order], dim)
                assert np.array_equal(pydl.cat(order, dim).numpy(), expected)
    with pytest.raises(ShapeError, match=r"\[cat\] tensors\[1\] has shape \(2,\)"):
        pydl.cat([pydl.zeros(2, 3), pydl.zeros(2)], 1)
