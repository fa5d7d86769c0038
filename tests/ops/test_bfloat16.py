"""Products in bfloat16 (pydl.autocast): values, gradients, bits, and where the precision holds.

That blocks, panels and tails of pairs are right is tested with whole numbers, which bfloat16 holds exactly: the tests of
matmul, conv, conv_rows and rnn run at the level "bfloat16" of `records.EXACT_LEVELS`.
"""

import threading

import numpy as np
import pytest
from records import instruction_set, threads

import pydl
from pydl import _core, nn
from pydl.errors import ArgumentError

needs_bfloat16 = pytest.mark.skipif(bool(_core.why_no_bfloat16()), reason=f"autocast: {_core.why_no_bfloat16()}")


def rounded(x):
    """To the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def leaf(x):
    return pydl.from_numpy(x.copy()).requires_grad_()


@needs_bfloat16
@pytest.mark.parametrize("shape", [(64, 100, 70), (37, 513, 300), (40, 1, 40), (33, 7, 45), (200, 5000, 30), (50, 20_001, 20)],
                         ids=str)
def test_factors_are_rounded_and_sums_are_float32(shape):
    m, k, n = shape
    a, b, g = draw(m, k), draw(k, n), draw(m, n)
    x, y = leaf(a), leaf(b)
    with pydl.autocast("bfloat16"):
        out = x @ y
    out.backward(pydl.from_numpy(g))
    ra, rb, rg = (rounded(v).astype(np.float64) for v in (a, b, g))
    for found, expected, exact in ((out.detach(), ra @ rb, a.astype(np.float64) @ b),
                                   (x.grad, rg @ rb.T, g.astype(np.float64) @ b.T),
                                   (y.grad, ra.T @ rg, a.T.astype(np.float64) @ g)):  # fmt: skip
        assert error(found.numpy(), expected) < 2e-6
        assert 1e-4 < error(found.numpy(), exact) < 5e-3


@needs_bfloat16
@pytest.mark.parametrize(("x", "w", "options"), [
    ((2, 64, 20, 22), (256, 64, 1, 1), {}), ((2, 128, 11, 13), (160, 128, 3, 3), {"stride": 2, "padding": 1}),
    ((3, 129, 9, 40), (131, 129, 1, 3), {"padding": (0, 1)}), ((2, 48, 30), (40, 48, 5), {"padding": 2, "dilation": 2}),
], ids=str)  # fmt: skip
def test_convolution(x, w, options):
    x, w = draw(*x), draw(*w)
    conv = pydl.conv1d if x.ndim == 3 else pydl.conv2d

    def run(autocast, *arrays):
        inputs = [leaf(a) for a in arrays]
        with pydl.autocast("bfloat16", enabled=autocast):
            y = conv(*inputs, **options)
        y.backward(pydl.from_numpy(draw(*y.shape).astype(y.dtype)))
        return [y.detach().numpy(), *(i.grad.numpy() for i in inputs)]

    exact = run(False, x.astype(np.float64), w.astype(np.float64))
    results = run(True, x, w), run(False, x, w)
    for low, high, value in zip(*results, exact, strict=True):
        assert error(low, value) < 5e-3
        assert error(high, value) < 1e-5
    assert error(results[0][0], exact[0]) > 1e-4, "forward was not computed in bfloat16"
    assert error(results[0][1], exact[1]) > 1e-4, "nor the gradient of the data"


@needs_bfloat16
@pytest.mark.parametrize(("n", "c", "o", "size"), [(4, 96, 130, (13, 12)), (2, 64, 40, (30, 29)), (9, 300, 260, (7, 7))])
def test_convolution_by_winograd(n, c, o, size):
    """Tiles of two may be computed in bfloat16, with less than twice the error of plain products; tiles of four are not."""
    arrays = draw(n, c, *size), draw(o, c, 3, 3), draw(n, o, *size)

    def run(name, autocast, dtype=np.float32):
        x, w = (leaf(a.astype(dtype)) for a in arrays[:2])
        _core.set_conv_method(name)
        try:
            with pydl.autocast(enabled=autocast):
                y = pydl.conv2d(x, w, padding=1)
            y.backward(pydl.from_numpy(arrays[2].astype(dtype)))
        finally:
            _core.set_conv_method("automatic")
        return [y.detach().numpy(), x.grad.numpy(), w.grad.numpy()]

    exact = run("gemm", False, np.float64)
    for two, four, high in zip(run("winograd2", True), run("winograd4", True), run("winograd4", False), strict=True):
        np.testing.assert_array_equal(four, high)
        assert not np.array_equal(two, high)
    for two, plain, value in zip(run("winograd2", True), run("gemm", True), exact, strict=True):
        assert 1e-3 < error(two, value) < max(2 * error(plain, value), 4.5e-3)


@needs_bfloat16
@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers(layer):
    pydl.manual_seed(0)
    model = getattr(nn, layer)(70, 61, num_layers=2, bidirectional=True)
    x = draw(9, 37, 70)
    twin = getattr(nn, layer)(70, 61, num_layers=2, bidirectional=True).double()
    twin.load_state_dict(model.state_dict())
    results = []
    for net, dtype, autocast in ((twin, np.float64, False), (model, np.float32, True), (model, np.float32, False)):
        net.zero_grad()
        inputs = leaf(x.astype(dtype))
        with pydl.autocast(enabled=autocast):
            y = net(inputs)[0]
        (y * y).sum().backward()
        results.append([y.detach().numpy(), inputs.grad.numpy(), *(p.grad.numpy().copy() for p in net.parameters())])
    for exact, low, high in zip(*results, strict=True):
        assert 1e-5 < error(low, exact) < 2e-2
        assert error(high, exact) < 1e-5


@needs_bfloat16
def test_same_bits_for_every_number_of_threads():
    """Workers compute in the precision of the thread that called them."""
    x, w, s, t = draw(4, 128, 15, 17), draw(130, 128, 1, 1), draw(6, 150, 130), draw(6, 130, 150)
    pydl.manual_seed(0)
    lstm = nn.LSTM(40, 200)
    results = []
    for n in (1, 2, 5):
        with threads(n), pydl.autocast():
            images, weights = leaf(x), leaf(w)
            y = pydl.conv2d(images, weights)
            y.backward(pydl.ones_like(y))
            stacked = pydl.from_numpy(s) @ pydl.from_numpy(t)
            sequence, _ = lstm(pydl.from_numpy(draw(5, 20, 40)))
            found = y.detach(), images.grad, weights.grad, stacked, sequence.detach()
            results.append([r.numpy() for r in found])
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(first, other)
    assert error(results[0][3], s.astype(np.float64) @ t) > 1e-4


@needs_bfloat16
def test_special_values():
    """Infinities and NaN stay; what is nearer to 2^128 than to the largest bfloat16 becomes infinite, tiny numbers become 0."""
    a, b = np.zeros((40, 3), np.float32), np.eye(3, 40, dtype=np.float32)
    values = np.array([np.inf, -np.inf, np.nan, 3.4e38, 3.385e38, 1e-39, -0.0, 1.00390625, 1.01171875], np.float32)
    a[:9, 0] = values
    with pydl.autocast():
        found = (pydl.from_numpy(a) @ pydl.from_numpy(b)).numpy()[:9, 0]
    expected = np.array([np.inf, -np.inf, np.nan, np.inf, 255 * 2.0**120, 0, 0, 1.0, 1.015625], np.float32)
    np.testing.assert_array_equal(found, expected)


@needs_bfloat16
def test_backward_takes_the_precision_of_forward():
    a, b, g = draw(50, 60), draw(60, 70), pydl.from_numpy(draw(50, 70))
    gradients = []
    for inside_forward in (False, True):
        for inside_backward in (False, True):
            x = leaf(a)
            with pydl.autocast(enabled=inside_forward):
                y = x @ pydl.from_numpy(b)
            with pydl.autocast(enabled=inside_backward):
                y.backward(g)
                assert _core.precision() == int(inside_backward)
            gradients.append(x.grad.numpy())
    np.testing.assert_array_equal(gradients[0], gradients[1])
    np.testing.assert_array_equal(gradients[2], gradients[3])
    assert error(gradients[2], gradients[0]) > 1e-4


@needs_bfloat16
@pytest.mark.parametrize("around", [False, True])
def test_hooks_compute_as_what_calls_backward(around):
    a, b = pydl.from_numpy(draw(50, 60)), pydl.from_numpy(draw(60, 70))
    results = []
    for autocast in (False, True):
        with pydl.autocast(enabled=autocast):
            results.append((a @ b).numpy())
    assert not np.array_equal(*results)
    seen = []
    x = leaf(a.numpy())
    x.register_hook(lambda g: seen.append((a @ b).numpy()))
    with pydl.autocast(enabled=not around):
        middle = x * 2.0
        y = middle @ b
    middle.register_hook(lambda g: seen.append((a @ b).numpy()))
    with pydl.autocast(enabled=around):
        y.sum().backward()
    assert len(seen) == 2
    for found in seen:
        np.testing.assert_array_equal(found, results[around])


@needs_bfloat16
def test_where_it_holds():
    a, b = pydl.from_numpy(draw(50, 60)), pydl.from_numpy(draw(60, 70))
    high = (a @ b).numpy()

    def is_low():
        return not np.array_equal((a @ b).numpy(), high)

    @pydl.autocast(dtype=pydl.bfloat16)
    def decorated():
        return is_low()

    assert decorated()
    assert not is_low()
    seen = []
    with pydl.autocast():
        other = threading.Thread(target=lambda: seen.append(is_low()))
        other.start()
        other.join()
        seen.append(is_low())
        with pydl.autocast(enabled=False):
            seen.append(is_low())
        seen.append(is_low())
    assert seen == [False, True, False, True]
    with pytest.raises(pydl.errors.ShapeError), pydl.autocast():
        a @ a
    assert not is_low(), "an error ends it too"


@needs_bfloat16
def test_precision_of_the_process():
    a, b = pydl.from_numpy(draw(50, 60)), pydl.from_numpy(draw(60, 70))
    high = (a @ b).numpy()
    seen = []
    try:
        for name in ("high", "medium"):
            pydl.set_float32_matmul_precision(name)
            assert pydl.get_float32_matmul_precision() == name
            other = threading.Thread(target=lambda: seen.append(np.array_equal((a @ b).numpy(), high)))
            other.start()
            other.join()
    finally:
        pydl.set_float32_matmul_precision("highest")
    assert seen == [True, False]
    np.testing.assert_array_equal((a @ b).numpy(), high)


@needs_bfloat16
def test_float64_is_not_touched():
    a, b = draw(50, 60).astype(np.float64), draw(60, 70).astype(np.float64)
    with pydl.autocast():
        assert error((pydl.from_numpy(a) @ pydl.from_numpy(b)).numpy(), a @ b) < 1e-14


@needs_bfloat16
@pytest.mark.parametrize("whole", [True, False], ids=["autocast inside of the step", "outside"])
def test_captured_steps(whole):
    """Replays compute each product as recorded; another precision around the step is another recording."""
    x, target = pydl.from_numpy(draw(64, 40)), pydl.from_numpy(draw(64, 30))

    def train(captured):
        pydl.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, 80), nn.Tanh(), nn.Linear(80, 30))
        optimizer = pydl.optim.SGD(model.parameters(), lr=0.05)

        def step(x, target):
            optimizer.zero_grad()
            with pydl.autocast(enabled=whole or bool(_core.precision())):
                y = model(x)
            loss = nn.functional.mse_loss(y, target)
            loss.backward()
            optimizer.step()
            return loss

        run = pydl.capture(step) if captured else step
        losses = []
        for low in (True, False) if not whole else (True,):
            for _ in range(6):
                with pydl.autocast(enabled=low and not whole):
                    losses.append(run(x, target).item())
        return losses, [p.detach().numpy() for p in model.parameters()], getattr(run, "replays", True)

    eager, captured = train(False), train(True)
    assert captured[2]
    assert eager[0] == captured[0]
    for first, second in zip(eager[1], captured[1], strict=True):
        np.testing.assert_array_equal(first, second)


@needs_bfloat16
def test_the_profiler_knows():
    """The roofline of an operation is that of what it multiplies."""
    a, b = leaf(draw(50, 60)), leaf(draw(60, 70))
    with pydl.profiler.profile() as watched:
        with pydl.autocast():
            low = a @ b
        high = a @ b
        (low.sum() + high.sum()).backward()
    sizes = [(e.phase, e.itemsize) for e in watched.result.events if e.name == "matmul"]
    assert sizes == [("forward", 2), ("forward", 4), ("backward", 4), ("backward", 2)]


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match=r"\[autocast\] dtype='float16': expected 'bfloat16'"):
        pydl.autocast("float16")
    with pytest.raises(ArgumentError, match="expected one of highest, high, medium"):
        pydl.set_float32_matmul_precision("low")


def test_refused_where_there_is_no_bfloat16():
    with instruction_set("generic"):
        with pytest.raises(ArgumentError, match=r"AVX512-BF16.*enabled=False"):
            pydl.autocast("bfloat16")
        with pytest.raises(ArgumentError, match=r"AVX512-BF16.*choose 'highest' or 'high'"):
            pydl.set_float32_matmul_precision("medium")
        with pydl.autocast("bfloat16", enabled=False):
            assert (pydl.ones(2, 3) @ pydl.ones(3, 2)).numpy().tolist() == [[3, 3], [3, 3]]
    assert pydl.get_float32_matmul_precision() == "highest"
