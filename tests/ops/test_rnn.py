"""Recurrent networks against plain NumPy loops in float64, central differences, and their own promises."""

import numpy as np
import pytest
from records import ISAS, instruction_set, threads

import pydl
from pydl import _core, nn
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.nn.utils import rnn as rnn_utils
from pydl.ops.rnn import GATES


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny problems: waking a second thread costs more than it saves."""
    with threads(1):
        yield


CELLS = ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_before"]


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def step(cell, x, h, c, w_ih, w_hh, b_ih, b_hh, w_hr):
    """One step of one sequence: vectors in, (h, c) out."""
    n = w_hh.shape[0] // GATES[cell]
    a, q = w_ih @ x + b_ih, w_hh @ h + b_hh
    if cell == "rnn_tanh":
        return np.tanh(a + q), c
    if cell == "rnn_relu":
        return np.maximum(a + q, 0), c
    if cell == "lstm":
        i, f, g, o = np.split(a + q, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (h if w_hr is None else w_hr @ h), c
    r, z = sigmoid((a + q)[:n]), sigmoid((a + q)[n : 2 * n])
    recurrent = r * q[2 * n :] if cell == "gru" else w_hh[2 * n :] @ (r * h) + b_hh[2 * n :]
    return (1 - z) * np.tanh(a[2 * n :] + recurrent) + z * h, c


def reference(cell, x, h0, c0, weights, layers, directions, lengths):
    """Loops over layers, directions, sequences and steps; weights as tuples of five."""
    T, B, _ = x.shape
    last_h, last_c = np.zeros_like(h0), np.zeros_like(c0)
    for layer in range(layers):
        outs = []
        for d in range(directions):
            k = layer * directions + d
            out = np.zeros((T, B, h0.shape[-1]))
            for b in range(B):
                h, c = h0[k, b], c0[k, b]
                for t in range(lengths[b]) if d == 0 else reversed(range(lengths[b])):
                    h, c = step(cell, x[t, b], h, c, *weights[k])
                    out[t, b] = h
                last_h[k, b], last_c[k, b] = h, c
            outs.append(out)
        x = np.concatenate(outs, -1)
    return x, last_h, last_c


class Case:
    """Random weights, inputs and states of one configuration."""

    def __init__(self, cell, T, B, E, H, layers=1, directions=1, proj=0, bias=True, seed=0, scale=None):
        rng = np.random.default_rng(seed)
        self.cell, self.layers, self.directions, self.bias, self.proj = cell, layers, directions, bias, proj
        G, P, scale = GATES[cell], proj or H, scale or 1.5 / np.sqrt(H)
        self.weights = []
        for k in range(layers * directions):
            inputs = E if k < directions else P * directions
            shapes = [(G * H, inputs), (G * H, P), (G * H,), (G * H,), (P, H)]
            own = [rng.uniform(-scale, scale, s) for s in shapes]
            if not bias:
                own[2], own[3] = own[2] * 0, own[3] * 0
            self.weights.append((*own[:4], own[4] if proj else None))
        self.x = rng.standard_normal((T, B, E))
        self.h0, self.c0 = rng.standard_normal((layers * directions, B, P)), rng.standard_normal((layers * directions, B, H))

    def params(self):
        flat = []
        for w_ih, w_hh, b_ih, b_hh, w_hr in self.weights:
            flat += [w_ih, w_hh] + ([b_ih, b_hh] if self.bias else []) + ([w_hr] if self.proj else [])
        return flat

    @property
    def states(self):
        return [self.h0, self.c0] if self.cell == "lstm" else [self.h0]

    def reference(self, lengths=None):
        lengths = [len(self.x)] * self.x.shape[1] if lengths is None else lengths
        y, h, c = reference(self.cell, self.x, self.h0, self.c0, self.weights, self.layers, self.directions, lengths)
        return (y, h, c) if self.cell == "lstm" else (y, h)

    def call(self, x, states, params, lengths=None, **options):
        function = pydl.gru if self.cell == "gru_before" else getattr(pydl, self.cell)
        if self.cell == "gru_before":
            options["reset_after"] = False
        hx = None if states is None else tuple(states) if self.cell == "lstm" else states[0]
        return function(x, hx, params, self.bias, self.layers, 0.0, False, self.directions == 2, lengths=lengths, **options)

    def tensors(self, dtype=np.float64, requires_grad=False):
        return [pydl.tensor(a.astype(dtype), requires_grad=requires_grad) for a in (self.x, *self.states, *self.params())]

    def run(self, tensors, **options):
        n = len(self.states)
        return self.call(tensors[0], tensors[1 : n + 1], tensors[n + 1 :], **options)


CONFIGURATIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "two layers": {"layers": 2},
    "both ways": {"directions": 2},
    "deep, both ways": {"layers": 2, "directions": 2},
}


def cases():
    for cell in CELLS:
        for name, options in CONFIGURATIONS.items():
            yield pytest.param(cell, options, id=f"{cell} {name}")
    yield pytest.param("lstm", {"proj": 2}, id="lstm projection")
    yield pytest.param("lstm", {"proj": 2, "layers": 2, "directions": 2, "bias": False}, id="lstm projection deep, both ways")


@pytest.mark.parametrize("lengths", [None, [2, 4, 1, 3, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize(("cell", "options"), list(cases()))
def test_value(cell, options, lengths):
    case = Case(cell, T=4, B=5, E=3, H=7, **options)
    expected = case.reference(lengths)
    assert np.unique(expected[0]).size > 20
    for isa in ISAS:
        with instruction_set(isa):
            for dtype, tol in ((np.float32, 2e-6), (np.float64, 1e-13)):
                for out, ref in zip(case.run(case.tensors(dtype), lengths=lengths), expected, strict=True):
                    assert out.dtype == dtype
                    np.testing.assert_allclose(out.numpy(), ref, rtol=0, atol=tol)


@pytest.mark.parametrize("lengths", [None, [1, 3, 2]], ids=["full", "ragged"])
@pytest.mark.parametrize(("cell", "options"), list(cases()))
def test_gradient(cell, options, lengths):
    case = Case(cell, T=3, B=3, E=2, H=3 if options.get("proj") else 2, **options)

    def function(*tensors):  # one vector of all outputs: one pass of differences instead of one for each output
        return pydl.cat([out.reshape(-1) for out in case.run(tensors, lengths=lengths)])

    assert gradcheck(function, tuple(case.tensors(requires_grad=True)))


def directional(case, lengths, dtype=np.float64):
    """The derivative of a weighted sum of all outputs along one random direction: from backward, and from differences."""
    rng = np.random.default_rng(5)
    inputs = case.tensors(requires_grad=True)
    outs = case.run(inputs, lengths=lengths)
    weights = [rng.standard_normal(o.shape) for o in outs]
    pydl.autograd.backward(list(outs), weights)
    along = [rng.standard_normal(t.shape) for t in inputs]
    analytic = sum((t.grad.numpy() * d).sum() for t, d in zip(inputs, along, strict=True))
    values = []
    for eps in (1e-6, -1e-6):
        moved = [pydl.tensor(t.detach().numpy() + eps * d) for t, d in zip(inputs, along, strict=True)]
        values.append(sum((o.numpy() * w).sum() for o, w in zip(case.run(moved, lengths=lengths), weights, strict=True)))
    return analytic, (values[0] - values[1]) / 2e-6


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("B", "H", "proj"), [(1, 33, 0), (2, 16, 0), (5, 31, 17), (13, 65, 0), (15, 40, 33), (61, 9, 0)])
def test_gradient_of_large_batches(cell, B, H, proj):
    case = Case(cell, T=3, B=B, E=5, H=H, directions=2, proj=proj if cell == "lstm" else 0)
    for lengths in (None, np.random.default_rng(B).integers(1, 4, B)):
        for isa in ISAS:
            with instruction_set(isa):
                analytic, numeric = directional(case, lengths)
                assert abs(analytic - numeric) <= 1e-6 * max(1, abs(numeric))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("T", "B", "H"), [(5, 9, 24), (3, 9, 530), (2, 130, 40)])
def test_one_and_several_threads_give_the_same_bits(cell, T, B, H):
    case = Case(cell, T=T, B=B, E=6, H=H, directions=2)
    lengths = np.random.default_rng(0).integers(1, T + 1, B)
    for rows in (None, lengths):
        results = []
        for n in (1, 2, 3):
            with threads(n):
                inputs = case.tensors(np.float32, requires_grad=True)
                outs = case.run(inputs, lengths=rows)
                pydl.autograd.backward(list(outs), [np.cos(np.arange(o.numel())).reshape(o.shape) for o in outs])
                results.append([o.detach().numpy().tobytes() for o in outs] + [t.grad.numpy().tobytes() for t in inputs])
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("cell", CELLS)
def test_padding_has_no_influence(cell):
    case = Case(cell, T=6, B=4, E=3, H=5, directions=2, layers=2)
    lengths = np.array([3, 6, 1, 4])
    dirty = case.x.copy()
    for b, n in enumerate(lengths):
        dirty[n:, b] = np.nan
    tensors = case.tensors(requires_grad=True)
    tensors[0] = pydl.tensor(dirty, requires_grad=True)
    outs = case.run(tensors, lengths=lengths)
    pydl.autograd.backward(list(outs), [np.ones(o.shape) for o in outs])
    for b, n in enumerate(lengths):
        assert not outs[0].detach().numpy()[n:, b].any()
        assert not tensors[0].grad.numpy()[n:, b].any()
        assert np.abs(tensors[0].grad.numpy()[:n, b]).min() > 0
    assert all(np.isfinite(t.grad.numpy()).all() for t in tensors)
    for out, ref in zip(outs, case.reference(lengths), strict=True):
        np.testing.assert_allclose(out.detach().numpy(), ref, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_carried_state_continues_the_sequence(cell):
    case = Case(cell, T=9, B=3, E=4, H=6, layers=2)
    x, *rest = case.tensors()
    whole = case.run([x, *rest])
    states, params = rest[: len(case.states)], rest[len(case.states) :]
    parts = []
    for t in range(0, 9, 4):
        y, *states = case.call(x[t : t + 4], states, params)
        parts.append(y.numpy())
    np.testing.assert_allclose(np.concatenate(parts), whole[0].numpy(), atol=1e-14)
    for a, b in zip(states, whole[1:], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-14)


def test_missing_states_are_zeros_and_unused_outputs_give_no_gradient():
    for cell in CELLS:
        case = Case(cell, T=3, B=2, E=3, H=4)
        tensors = case.tensors(requires_grad=True)
        n = len(case.states)
        zero = [pydl.tensor(np.zeros_like(s)) for s in case.states]
        x, params = tensors[0], tensors[n + 1 :]
        for a, b in zip(case.call(x, None, params), case.call(x, zero, params), strict=True):
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
        for i in range(n + 1):  # backward from one output alone
            assert gradcheck(lambda *t, case=case, i=i: case.run(t)[i], tuple(tensors))


def test_batch_first_and_views():
    case = Case("lstm", T=5, B=3, E=4, H=6)
    x, *rest = case.tensors()
    y, h, c = case.run([x, *rest])
    first = pydl.from_numpy(np.ascontiguousarray(case.x.transpose(1, 0, 2)))
    y2, h2, c2 = case.run([first, *rest], batch_first=True)
    np.testing.assert_array_equal(y.numpy(), y2.numpy().transpose(1, 0, 2))
    np.testing.assert_array_equal(h.numpy(), h2.numpy())
    np.testing.assert_array_equal(c.numpy(), c2.numpy())
    wide = np.zeros((5, 3, 8))
    wide[..., ::2] = case.x
    strided = [pydl.from_numpy(np.asfortranarray(t.numpy())) for t in rest]
    np.testing.assert_array_equal(case.run([pydl.from_numpy(wide[..., ::2]), *strided])[0].numpy(), y.numpy())


def test_empty_batch():
    for cell in CELLS:
        case = Case(cell, T=3, B=0, E=3, H=4)
        tensors = case.tensors(np.float32, requires_grad=True)
        outs = case.run(tensors)
        assert outs[0].shape == (3, 0, 4)
        assert outs[1].shape == (1, 0, 4)
        outs[0].sum().backward()
        for t in tensors:
            assert t.grad.shape == t.shape
            assert not t.grad.numpy().any()


def test_nan_reaches_the_output():
    for cell in CELLS:
        case = Case(cell, T=2, B=2, E=3, H=40)
        case.x[0, 1, 0] = np.nan
        y = case.run(case.tensors(np.float32))[0].numpy()
        assert np.isnan(y[:, 1]).all()
        assert np.isfinite(y[:, 0]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_saturated_and_tiny_gates(cell):
    for scale in (1e-4, 1.0, 30.0, 1e4):
        case = Case(cell, T=3, B=4, E=6, H=21, seed=7)
        case.x = case.x * scale
        outs = case.run(case.tensors(np.float32, requires_grad=True))
        for out, ref in zip(outs, case.reference(), strict=True):
            size = max(1.0, np.abs(ref).max())  # relu grows with its input
            np.testing.assert_allclose(out.detach().numpy() / size, ref / size, rtol=0, atol=2e-6 if scale < 2 else 5e-5)
        pydl.autograd.backward(list(outs), [np.ones(o.shape) for o in outs])


# ---------------------------------------------------------------------- packing
def test_packing_and_padding():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 2))
    lengths = [2, 4, 1]
    packed = rnn_utils.pack_padded_sequence(pydl.tensor(x), lengths, enforce_sorted=False)
    assert packed.sorted_indices.numpy().tolist() == [1, 0, 2]
    assert packed.unsorted_indices.numpy().tolist() == [1, 0, 2]
    assert packed.batch_sizes.numpy().tolist() == [3, 2, 1, 1]
    np.testing.assert_array_equal(packed.data.numpy(), np.stack([x[0, 1], x[0, 0], x[0, 2], x[1, 1], x[1, 0], x[2, 1], x[3, 1]]))
    padded, back = rnn_utils.pad_packed_sequence(packed, batch_first=True, padding_value=-7.0, total_length=6)
    assert back.numpy().tolist() == lengths
    assert padded.shape == (3, 6, 2)
    for b, n in enumerate(lengths):
        np.testing.assert_array_equal(padded.numpy()[b, :n], x[:n, b])
        assert (padded.numpy()[b, n:] == -7).all()
    parts = rnn_utils.unpack_sequence(packed)
    again = rnn_utils.pack_sequence(parts, enforce_sorted=False)
    np.testing.assert_array_equal(again.data.numpy(), packed.data.numpy())
    left = rnn_utils.pad_sequence(parts, padding_side="left").numpy()
    np.testing.assert_array_equal(left[-1], np.stack([x[1, 0], x[3, 1], x[0, 2]]))
    assert not left[:3, 2].any()


def test_packing_gradient():
    x = pydl.tensor(np.random.default_rng(0).standard_normal((3, 3, 2)), requires_grad=True)

    def function(t):
        packed = rnn_utils.pack_padded_sequence(t, [1, 3, 2], enforce_sorted=False)
        return packed.data, rnn_utils.pad_packed_sequence(packed)[0]

    assert gradcheck(function, (x,))
    parts = tuple(pydl.tensor(np.ones((n, 2)), requires_grad=True) for n in (1, 3, 2))
    assert gradcheck(lambda *p: rnn_utils.pad_sequence(list(p), batch_first=True), parts)


@pytest.mark.parametrize("make", [
    lambda: nn.RNN(3, 5, 2, bidirectional=True), lambda: nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2),
    lambda: nn.GRU(3, 5, 2, reset_after=False),
], ids=["RNN", "LSTM", "GRU"])  # fmt: skip
def test_packed_and_masked_agree(make):
    layer = make().double()
    rng = np.random.default_rng(1)
    x, lengths = pydl.tensor(rng.standard_normal((5, 4, 3))), [2, 5, 1, 5]
    D = layer.num_layers * (2 if layer.bidirectional else 1)
    h = pydl.tensor(rng.standard_normal((D, 4, layer.proj_size or 5)))
    hx = (h, pydl.tensor(rng.standard_normal((D, 4, 5)))) if layer.cell == "lstm" else h
    y, last = layer(x, hx, lengths=lengths)
    out, last_packed = layer(rnn_utils.pack_padded_sequence(x, lengths, enforce_sorted=False), hx)
    np.testing.assert_array_equal(rnn_utils.pad_packed_sequence(out)[0].detach().numpy(), y.detach().numpy())
    for a, b in zip(*(s if isinstance(s, tuple) else (s,) for s in (last, last_packed)), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    for b, n in enumerate(lengths):  # each sequence alone
        alone, _ = layer(x[:n, b], tuple(s[:, b] for s in hx) if isinstance(hx, tuple) else hx[:, b])
        np.testing.assert_allclose(alone.detach().numpy(), y.detach().numpy()[:n, b], atol=1e-14)


# ---------------------------------------------------------------------- modules
def test_modules_match_the_functions():
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
    names = [n + f"_l{k}" + s for k in range(2) for s in ("", "_reverse")
             for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")]
    assert list(layer.state_dict()) == names
    assert layer.weight_ih_l1_reverse.shape == (16, 4)
    assert [len(w) for w in layer.all_weights] == [5] * 4
    assert repr(layer) == "LSTM(3, 4, proj_size=2, num_layers=2, bidirectional=True)"
    assert repr(nn.GRU(3, 4, reset_after=False)) == "GRU(3, 4, reset_after=False)"
    bound = 0.5
    for p in layer.parameters():
        assert np.abs(p.detach().numpy()).max() <= bound
    assert np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()]).std() > 0.5 * bound
    x = pydl.randn(5, 3)
    y, (h, c) = layer(x)
    assert (y.shape, h.shape, c.shape) == ((5, 4), (4, 2), (4, 4))


@pytest.mark.parametrize("batched", [True, False])
def test_cells_repeat_what_layers_do(batched):
    pairs = [(nn.RNN(3, 5), nn.RNNCell(3, 5)), (nn.RNN(3, 5, nonlinearity="relu"), nn.RNNCell(3, 5, nonlinearity="relu")),
             (nn.LSTM(3, 5), nn.LSTMCell(3, 5)), (nn.GRU(3, 5, bias=False), nn.GRUCell(3, 5, bias=False)),
             (nn.GRU(3, 5, reset_after=False), nn.GRUCell(3, 5, reset_after=False))]
    x = pydl.randn(4, 2, 3) if batched else pydl.randn(4, 3)
    for layer, cell in pairs:
        cell.load_state_dict({k[:-3]: v for k, v in layer.state_dict().items()})
        y, _ = layer(x)
        state = None
        for t in range(4):
            state = cell(x[t], state)
            h = state[0] if isinstance(state, tuple) else state
            np.testing.assert_array_equal(h.detach().numpy(), y.detach().numpy()[t])
        h.sum().backward()
        y[3].sum().backward()
        for a, b in zip(layer.parameters(), cell.parameters(), strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-6)


def test_dropout_acts_between_layers_in_training_only():
    layer = nn.GRU(3, 8, num_layers=2, dropout=0.5)
    x = pydl.randn(6, 4, 3)
    a, b = layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy()
    assert (a != b).any()
    pydl.manual_seed(3)
    a = layer(x)[0].detach().numpy()
    pydl.manual_seed(3)
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), a)
    layer.eval()
    plain = nn.GRU(3, 8, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), plain(x)[0].detach().numpy())
    everything = nn.GRU(3, 8, num_layers=2, dropout=1.0)
    np.testing.assert_array_equal(everything(x)[0].detach().numpy(), everything(pydl.zeros(6, 4, 3))[0].detach().numpy())
    with pytest.warns(UserWarning, match="num_layers=1"):
        nn.GRU(3, 8, dropout=0.5)


# ---------------------------------------------------------------------- errors
def packed_call(lengths, **options):
    return rnn_utils.pack_padded_sequence(pydl.zeros(4, 3, 2), lengths, **options)


ERRORS = [
    (lambda: nn.LSTM(3, 4)(pydl.zeros(5, 2, 7)), ShapeError, r"LSTM: input of shape \(5, 2, 7\) has 7 features.*input_size=3"),
    (lambda: nn.LSTM(3, 4)(pydl.zeros(3)), ShapeError, r"LSTM: input of shape \(3,\), expected \(T, B, input_size\)"),
    (lambda: nn.LSTM(3, 4, 2)(pydl.zeros(5, 2, 3), (pydl.zeros(1, 2, 4), pydl.zeros(2, 2, 4))), ShapeError,
     r"\[lstm\] h0 of shape \(1, 2, 4\), expected \(2, 2, 4\): num_layers=2"),
    (lambda: nn.LSTM(3, 4, proj_size=2)(pydl.zeros(5, 2, 3), (pydl.zeros(1, 2, 4), pydl.zeros(1, 2, 4))), ShapeError,
     r"h0 of shape \(1, 2, 4\), expected \(1, 2, 2\).*proj_size"),
    (lambda: nn.LSTM(3, 4)(pydl.zeros(5, 2, 3), pydl.zeros(1, 2, 4)), ArgumentError, r"pair \(h0, c0\)"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(0, 2, 3)), ShapeError, r"\[gru\] input of shape \(0, 2, 3\) has no steps"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(5, 3), pydl.zeros(1, 1, 4)), ShapeError, r"without a batch axis"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(5, 2, 3), lengths=[5, 6]), ArgumentError, r"\[gru\] lengths\[1\]=6, expected 1 to 5"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(5, 2, 3), lengths=[0, 6]), ArgumentError, r"lengths\[0\]=0.*remove empty sequences"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(5, 2, 3), lengths=[5]), ShapeError, r"lengths of shape \(1,\), expected \(2,\)"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(5, 2, 3), lengths=[1.0, 2.0]), DTypeError, r"lengths must be integers"),
    (lambda: nn.GRU(3, 4)(pydl.zeros(5, 2, 3).to(pydl.float64)), DTypeError, r"\[gru\].*input float64.*weight_ih float32"),
    (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ArgumentError, r"nonlinearity='gelu'; expected 'tanh' or 'relu'"),
    (lambda: nn.RNN(3, 0), ArgumentError, r"hidden_size=0"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ArgumentError, r"proj_size=4; expected 0 \(none\) to hidden_size - 1 = 3"),
    (lambda: nn.LSTM(3, 4, 2, dropout=1.5), ArgumentError, r"dropout=1.5"),
    (lambda: nn.LSTMCell(3, 4)(pydl.zeros(2, 5)), ShapeError,
     r"\[lstm_cell\] input with 5 features, but weight_ih \(16, 3\) takes 3"),
    (lambda: nn.GRUCell(3, 4)(pydl.zeros(2, 3), pydl.zeros(2, 5)), ShapeError,
     r"\[gru_cell\] h0 of shape \(2, 5\), expected \(2, 4\)"),
    (lambda: nn.GRUCell(3, 4)(pydl.zeros(3), pydl.zeros(2, 4)), ShapeError, r"\[gru_cell\] h of shape \(2, 4\) beside input"),
    (lambda: nn.GRUCell(3, 4)(pydl.zeros(1, 2, 3)), ShapeError, r"\[gru_cell\] input of shape \(1, 2, 3\)"),
    (lambda: pydl.gru(pydl.zeros(5, 2, 3), None, [pydl.zeros(12, 3)]), ArgumentError, r"\[gru\] 1 parameters.*expected 4"),
    (lambda: pydl.gru(pydl.zeros(5, 2, 3), None, [pydl.zeros(12, 3), pydl.zeros(12, 5)], False), ShapeError,
     r"\[gru\] weight_hh of shape \(12, 5\), expected \(12, 4\)"),
    (lambda: pydl.gru(pydl.zeros(5, 3), None, [pydl.zeros(12, 3), pydl.zeros(12, 4)], False, batch_sizes=[3, 3]), ShapeError,
     r"packed data of shape \(5, 3\), expected \(6, E\)"),
    (lambda: pydl.gru(pydl.zeros(5, 3), None, [pydl.zeros(12, 3), pydl.zeros(12, 4)], False, batch_sizes=[2, 3]), ArgumentError,
     r"batch_sizes \[2, 3\]: expected falling"),
    (lambda: packed_call([1, 2, 3]), ArgumentError, r"lengths \[1, 2, 3\] do not fall.*enforce_sorted=False"),
    (lambda: packed_call([5, 2, 1]), ArgumentError, r"\[pack_padded_sequence\] lengths\[0\]=5, expected 1 to 4"),
    (lambda: packed_call([3, 2, 0]), ArgumentError, r"lengths\[2\]=0"),
    (lambda: rnn_utils.pad_packed_sequence(packed_call([3, 2, 1]), total_length=2), ArgumentError, r"total_length=2 is below"),
    (lambda: rnn_utils.pad_sequence([]), ArgumentError, r"sequences is empty"),
    (lambda: rnn_utils.pad_sequence([pydl.zeros(2, 3), pydl.zeros(2, 4)]), ShapeError, r"sequences\[1\] of shape \(2, 4\)"),
    (lambda: nn.GRU(2, 4)(packed_call([3, 2, 1], enforce_sorted=False), pydl.zeros(1, 2, 4)), ShapeError, r"packed batch of 3"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "pattern"), ERRORS)
def test_errors(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()


def test_kernels_check_what_memory_safety_needs():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(_core.NativeError, match="row index beyond"):
        _core.rnn_take_rows(x, np.array([2]), 0.0, np.zeros((1, 3), np.float32))
    weights = (np.zeros((4, 3), np.float32), np.zeros((4, 4), np.float32), None, None, None, None, None)
    y = np.zeros((2, 4), np.float32)
    for sizes in ([1, 2], [3, -1], [2, 2], []):
        with pytest.raises(_core.NativeError):
            _core.rnn_forward(0, False, (np.array(sizes, np.int64), x, *weights), (y, y[:1], None, y, None, None))
