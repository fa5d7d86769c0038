"""Recurrent networks over whole sequences (kernels: csrc/cpu/rnn.cpp, csrc/cpu/rnn_backward.cpp).

Letters: T steps, B sequences, E inputs, H hidden units, P outputs per direction (H, or the size of the projection), L layers,
D directions (1 or 2), G gates. Inside, a batch is a matrix of rows: step after step, in each step the sequences that are
still running, longest first. A padded batch of equal lengths has that form already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import TensorCore, apply
from pydl.graph.op import Cost, Op
from pydl.ops._common import check_floating, contiguous, empty
from pydl.ops.dropout import dropout
from pydl.ops.index import getitem
from pydl.ops.shape import cat, reshape, squeeze, stack, transpose, unsqueeze

__all__ = [
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
]

CELLS = {"rnn_tanh": 0, "rnn_relu": 1, "lstm": 2, "gru": 3, "gru_before": 4}  # as in csrc/cpu/rnn.h
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3, "gru_before": 3}


def _op(cell: str) -> str:
    """The public function for a cell."""
    return "gru" if cell == "gru_before" else cell


class Plan(NamedTuple):
    """What is constant in a layer: the kind of cell, the direction, and how many sequences run at each step."""

    cell: str
    reverse: bool
    batch_sizes: np.ndarray  # int64 [T], falling
    op: str                  # the name that errors use: the function that the user called


class RnnLayer(Op):
    """One layer in one direction: rows (N, E) and states -> rows (N, P), last h (B, P) and, for an LSTM, last c (B, H)."""

    name = "rnn"

    @staticmethod
    def shape(x: np.ndarray, h0: Any, c0: Any, w_ih: np.ndarray, w_hh: np.ndarray, b_ih: Any, b_hh: Any, w_hr: Any,
              plan: Plan) -> tuple[int, int, int, int]:
        """(rows, B, H, P), after all checks."""
        op, gates = plan.op, GATES[plan.cell]
        check_floating(op, input=x, h0=h0, c0=c0, weight_ih=w_ih, weight_hh=w_hh, bias_ih=b_ih, bias_hh=b_hh, weight_hr=w_hr)
        hidden = w_hh.shape[0] // gates if w_hh.ndim == 2 else 0
        outputs = w_hr.shape[0] if w_hr is not None and w_hr.ndim == 2 else hidden
        if hidden < 1 or outputs < 1:
            raise ShapeError(f"[{op}] weight_hh of shape {w_hh.shape}; expected ({gates} * hidden_size, outputs), none of them 0")
        if w_hr is not None and plan.cell != "lstm":
            raise ArgumentError(f"[{op}] weight_hr of shape {w_hr.shape}: only an LSTM has a projection; leave it out")
        if x.ndim != 2 or w_ih.ndim != 2 or x.shape[1] != w_ih.shape[1]:
            raise ShapeError(
                f"[{op}] input with {x.shape[-1]} features, but weight_ih {w_ih.shape} takes {w_ih.shape[-1]}; check input_size, "
                "or whether the axes are (T, B, E) or with batch_first=True (B, T, E)"
            )
        batch = int(plan.batch_sizes[0])
        rows = int(plan.batch_sizes.sum())
        expected = {
            "input": (x, (rows, x.shape[1])), "weight_ih": (w_ih, (gates * hidden, x.shape[1])),
            "weight_hh": (w_hh, (gates * hidden, outputs)), "bias_ih": (b_ih, (gates * hidden,)),
            "bias_hh": (b_hh, (gates * hidden,)), "weight_hr": (w_hr, (outputs, hidden)), "h0": (h0, (batch, outputs)),
            "c0": (c0, (batch, hidden)),
        }
        for name, (array, shape) in expected.items():
            if array is not None and array.shape != shape:
                raise ShapeError(
                    f"[{op}] {name} of shape {array.shape}, expected {shape} for hidden_size={hidden}, batch size {batch}"
                    + (f" and proj_size={outputs}" if w_hr is not None else "")
                )
        if (b_ih is None) != (b_hh is None):
            raise ArgumentError(f"[{op}] bias_ih and bias_hh: give both or none")
        return rows, batch, hidden, outputs

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, h0: Any, c0: Any, w_ih: np.ndarray, w_hh: np.ndarray, b_ih: Any, b_hh: Any, w_hr: Any,
                plan: Plan) -> tuple[np.ndarray, ...]:
        rows, batch, hidden, outputs = RnnLayer.shape(x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, plan)
        x, w_ih, w_hh = contiguous(x), contiguous(w_ih), contiguous(w_hh)
        h0, c0, b_ih, b_hh, w_hr = (None if a is None else contiguous(a) for a in (h0, c0, b_ih, b_hh, w_hr))
        gated = GATES[plan.cell] > 1
        y, hn = empty((rows, outputs), x.dtype), empty((batch, outputs), x.dtype)
        cn = empty((batch, hidden), x.dtype) if plan.cell == "lstm" else None
        gates = empty((rows, GATES[plan.cell] * hidden), x.dtype) if gated else y
        extra = empty((rows, hidden), x.dtype) if gated else None
        inner = empty((rows, hidden), x.dtype) if w_hr is not None else None
        _core.rnn_forward(CELLS[plan.cell], plan.reverse, (plan.batch_sizes, x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0),
                          (y, hn, cn, gates, extra, inner))
        ctx.save(x, h0, c0, w_ih, w_hh, w_hr, y, gates, extra, inner)
        ctx.plan, ctx.materialize_grads = plan, False
        return (y, hn) if cn is None else (y, hn, cn)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, h0, c0, w_ih, w_hh, w_hr, y, gates, extra, inner = ctx.saved
        plan: Plan = ctx.plan
        gy, ghn, gcn = (None if g is None else contiguous(g) for g in (*grads, None)[:3])
        bias = (w_ih.shape[0],)
        like = (x, h0, c0, w_ih, w_hh, bias, bias, w_hr)
        dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh, dw_hr = out = tuple(
            empty(a if isinstance(a, tuple) else a.shape, x.dtype) if need else None
            for need, a in zip(ctx.needs, like, strict=False)
        )
        _core.rnn_backward(CELLS[plan.cell], plan.reverse, (plan.batch_sizes, x, w_ih, w_hh, None, None, w_hr, h0, c0),
                           (y, None, None, gates, extra, inner), (gy, ghn, gcn),
                           (dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh0, dc0))
        return out

    @staticmethod
    def cost(out_shape: Any, *args: Any) -> Cost:
        x, _, _, w_ih, w_hh, _, _, w_hr, _ = args
        rows = x.shape[0]
        weights = w_ih.size + w_hh.size + (0 if w_hr is None else w_hr.size)
        saved = rows * (w_ih.shape[0] + 2 * w_hh.shape[1]) * x.itemsize
        return Cost(2 * rows * weights + 8 * rows * w_ih.shape[0], x.nbytes + weights * x.itemsize + saved)


class TakeRows(Op):
    """out[i] = x[index[i]], or `fill` where the index is negative; `inverse` says where each row of x went (-1: nowhere)."""

    name, flops_per_element = "take_rows", 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, index: np.ndarray, inverse: np.ndarray, fill: float) -> np.ndarray:
        ctx.inverse = inverse
        return _take_rows(x, index, fill)

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        return _take_rows(g, ctx.inverse, 0.0)


def _take_rows(x: np.ndarray, index: np.ndarray, fill: float) -> np.ndarray:
    out = empty((len(index), *x.shape[1:]), x.dtype)
    _core.rnn_take_rows(contiguous(x).reshape(len(x), -1), index, fill, out.reshape(len(index), -1))
    return out


class Ragged(NamedTuple):
    """How sequences of unequal lengths become rows: tables of positions, all int64."""

    batch_sizes: np.ndarray  # [longest] how many sequences have a step t
    order: np.ndarray        # [B] sequences from the longest to the shortest
    inverse: np.ndarray      # [B] where each sequence went
    rows: np.ndarray         # [sum of lengths] position t * B + b of each row in the padded batch
    places: np.ndarray       # [T * B] row of each position, or -1 where it is padding


def as_lengths(op: str, lengths: Any, batch: int, steps: int) -> np.ndarray:
    """Checked int64 lengths, one for each sequence, each from 1 to `steps`."""
    array = np.asarray(lengths.data if isinstance(lengths, TensorCore) else lengths)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"[{op}] lengths must be integers, got {array.dtype}; convert with .to(pydl.int64)")
    if array.shape != (batch,):
        raise ShapeError(f"[{op}] lengths of shape {array.shape}, expected ({batch},): one for each sequence of the batch")
    for i in np.flatnonzero((array < 1) | (array > steps))[:1]:
        fix = "remove empty sequences from the batch" if array[i] < 1 else "cut the length or pad the input further"
        raise ArgumentError(f"[{op}] lengths[{i}]={array[i]}, expected 1 to {steps} (the steps of the input); {fix}")
    return array.astype(np.int64)


def ragged(lengths: np.ndarray, order: np.ndarray, steps: int) -> Ragged:
    """The tables for checked lengths, `order` sorting them from long to short, and a padded batch of `steps` steps."""
    batch = len(lengths)
    in_order = lengths[order]
    longest = int(in_order[0]) if batch else 0
    running = in_order[None, :] > np.arange(longest)[:, None]  # [longest, B]
    rows = (np.arange(longest)[:, None] * batch + order[None, :])[running]
    places = np.full(steps * batch, -1, np.int64)
    places[rows] = np.arange(len(rows))
    return Ragged(running.sum(1), order, np.argsort(order), rows, places)


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """The order that sorts lengths from long to short; equal ones keep their order."""
    return np.argsort(-lengths, kind="stable")


def pack_rows(input: Any, plan: Ragged) -> Any:
    """(T, B, ...) -> (sum of lengths, ...)."""
    shape = input.data.shape
    return apply(TakeRows, reshape(input, (shape[0] * shape[1], *shape[2:])), plan.rows, plan.places, 0.0)


def pad_rows(rows: Any, plan: Ragged, steps: int, fill: float = 0.0) -> Any:
    """(sum of lengths, ...) -> (T, B, ...), padding set to `fill`."""
    padded = apply(TakeRows, rows, plan.places, plan.rows, fill)
    return reshape(padded, (steps, len(plan.order), *rows.data.shape[1:]))


def reorder(state: Any, order: np.ndarray, inverse: np.ndarray) -> Any:
    """The sequences (axis 1) of a state (L * D, B, H) in another order; None stays None."""
    if state is None:
        return None
    return transpose(apply(TakeRows, transpose(state, 0, 1), order, inverse, 0.0), 0, 1)


class _Network(NamedTuple):
    """A stack of layers: the arguments that all public functions share, checked."""

    cell: str
    params: Sequence[Any]
    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool

    @property
    def op(self) -> str:
        return _op(self.cell)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def weights(self, layer: int, direction: int) -> tuple[Any, Any, Any, Any, Any]:
        """(w_ih, w_hh, b_ih, b_hh, w_hr) from the flat list, PyTorch's order."""
        count = len(self.params) // (self.num_layers * self.directions)
        at = (layer * self.directions + direction) * count
        own = list(self.params[at : at + count])
        biases = own[2:4] if self.has_biases else [None, None]
        projection = own[-1] if count > (4 if self.has_biases else 2) else None
        return own[0], own[1], biases[0], biases[1], projection

    def check(self, batch: int, states: tuple[Any, ...]) -> None:
        layers, plain = self.num_layers * self.directions, 4 if self.has_biases else 2
        allowed = [layers * plain] + ([layers * (plain + 1)] if self.cell == "lstm" else [])
        if self.num_layers < 1 or len(self.params) not in allowed:
            raise ArgumentError(
                f"[{self.op}] {len(self.params)} parameters for num_layers={self.num_layers}, "
                f"bidirectional={self.bidirectional}, has_biases={self.has_biases}; "
                f"expected {' or '.join(map(str, allowed))} (weight_ih, weight_hh, then biases)"
            )
        if not 0 <= self.dropout <= 1:
            raise ArgumentError(f"[{self.op}] dropout={self.dropout}; expected a probability from 0 to 1")
        _, w_hh, _, _, w_hr = self.weights(0, 0)
        hidden = w_hh.data.shape[0] // GATES[self.cell]
        widths = (w_hh.data.shape[-1] if w_hr is not None else hidden, hidden)
        for name, state, width in zip(("h0", "c0"), states, widths, strict=False):
            if state is not None and state.data.shape != (layers, batch, width):
                raise ShapeError(
                    f"[{self.op}] {name} of shape {state.data.shape}, expected ({layers}, {batch}, {width}): num_layers="
                    f"{self.num_layers} times {self.directions} direction(s), batch size, "
                    + ("proj_size" if w_hr is not None and name == "h0" else "hidden_size")
                )

    def run(self, x: Any, batch_sizes: np.ndarray, states: tuple[Any, ...]) -> tuple[Any, ...]:
        """Rows (N, E) -> rows (N, D * P) and the last states (L * D, B, ...)."""
        last: list[list[Any]] = [[] for _ in states]
        for layer in range(self.num_layers):
            if layer:
                x = dropout(x, self.dropout, self.train)
            outputs = []
            for direction in range(self.directions):
                k = layer * self.directions + direction
                own = [None if s is None else getitem(s, k) for s in (*states, None)[:2]]
                plan = Plan(self.cell, direction == 1, batch_sizes, self.op)
                y, *ends = apply(RnnLayer, x, *own, *self.weights(layer, direction), plan)
                outputs.append(y)
                for kept, end in zip(last, ends, strict=True):
                    kept.append(end)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
        return (x, *(unsqueeze(s[0], 0) if len(s) == 1 else stack(s) for s in last))


def _sequence(network: _Network, input: Any, states: tuple[Any, ...], batch_first: bool, lengths: Any) -> tuple[Any, ...]:
    """A padded batch (T, B, E) or, batch first, (B, T, E) through the network."""
    op = network.op
    if input.data.ndim != 3:
        axes = "(B, T, E)" if batch_first else "(T, B, E)"
        raise ShapeError(f"[{op}] input of shape {input.data.shape}, expected three axes {axes}; unsqueeze the batch axis")
    x = transpose(input, 0, 1) if batch_first else input
    steps, batch, features = x.data.shape
    if steps == 0:
        raise ShapeError(f"[{op}] input of shape {input.data.shape} has no steps; a sequence needs at least one")
    network.check(batch, states)
    plan = None
    if lengths is not None:
        checked = as_lengths(op, lengths, batch, steps)
        if batch and checked.min() < steps:
            plan = ragged(checked, longest_first(checked), steps)
    if plan is None:
        y, *last = network.run(reshape(x, (steps * batch, features)), np.full(steps, batch, np.int64), states)
        y = reshape(y, (steps, batch, y.data.shape[-1]))
    else:
        sorted_states = tuple(reorder(s, plan.order, plan.inverse) for s in states)
        y, *last = network.run(pack_rows(x, plan), plan.batch_sizes, sorted_states)
        y = pad_rows(y, plan, steps)
        last = [reorder(s, plan.inverse, plan.order) for s in last]
    return (transpose(y, 0, 1) if batch_first else y, *last)


def packed_sequence(network: _Network, data: Any, batch_sizes: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
    """Packed rows (N, E) through the network; the sequences of the states are in packed order."""
    sizes = np.ascontiguousarray(batch_sizes.data if isinstance(batch_sizes, TensorCore) else batch_sizes)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes) or (np.diff(sizes) > 0).any() or sizes[-1] < 1:
        raise ArgumentError(f"[{network.op}] batch_sizes {sizes.tolist()}: expected falling positive integers, one for each "
                            "step; make them with pack_padded_sequence")
    if data.data.ndim != 2 or len(data.data) != sizes.sum():
        raise ShapeError(f"[{network.op}] packed data of shape {data.data.shape}, expected ({int(sizes.sum())}, E): as many rows "
                         "as batch_sizes add up to")
    network.check(int(sizes[0]), states)
    return network.run(data, sizes.astype(np.int64), states)


def _run(cell: str, input: Any, states: Any, params: Any, has_biases: bool, num_layers: int, dropout: float, train: bool,
         bidirectional: bool, batch_first: bool, lengths: Any, batch_sizes: Any) -> tuple[Any, ...]:
    network = _Network(cell, params, has_biases, num_layers, dropout, train, bidirectional)
    wanted = 2 if cell == "lstm" else 1
    states = (None,) * wanted if states is None else tuple(states) if cell == "lstm" else (states,)
    if len(states) != wanted:
        raise ArgumentError(f"[{network.op}] hx: expected the two states (h0, c0), got {len(states)}")
    if batch_sizes is not None:
        return packed_sequence(network, input, batch_sizes, states)
    return _sequence(network, input, states, batch_first, lengths)


def rnn_tanh(input: Any, hx: Any, params: Sequence[Any], has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
             train: bool = False, bidirectional: bool = False, batch_first: bool = False, lengths: Any = None,
             batch_sizes: Any = None) -> tuple[Any, Any]:
    """Simple (Elman) network: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    Shapes: input (T, B, E), or (B, T, E) with batch_first; hx (L * D, B, H) or None (zeros) -> output (T, B, D * H) and the
    last h (L * D, B, H).

    Parameters
    ----------
    params : list of Tensor
        For each layer and direction weight_ih (G H, E), weight_hh (G H, P), then with ``has_biases`` bias_ih and bias_hh (G H).
    dropout : float
        Probability of dropping an output of a layer on its way to the next one, when ``train``.
    bidirectional : bool
        A second set of weights reads each sequence from its end; outputs side by side.
    lengths : integers, optional
        Steps of each sequence; later ones are padding: their outputs are 0, they get no gradient, and the last state is that
        of the last real step. Any order.
    batch_sizes : integers, optional
        The input is packed: (rows, E), and at step t this many sequences run (`pydl.nn.utils.rnn.pack_padded_sequence`).

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        If shapes, lengths or the number of parameters do not fit.
    """
    y, h = _run("rnn_tanh", input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths,
                batch_sizes)
    return y, h


def rnn_relu(input: Any, hx: Any, params: Sequence[Any], has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
             train: bool = False, bidirectional: bool = False, batch_first: bool = False, lengths: Any = None,
             batch_sizes: Any = None) -> tuple[Any, Any]:
    """Simple network with ReLU: h_t = max(0, W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Arguments: `rnn_tanh`."""
    y, h = _run("rnn_relu", input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths,
                batch_sizes)
    return y, h


def lstm(input: Any, hx: Any, params: Sequence[Any], has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
         train: bool = False, bidirectional: bool = False, batch_first: bool = False, lengths: Any = None,
         batch_sizes: Any = None) -> tuple[Any, Any, Any]:
    """Long short-term memory: c_t = f c_{t-1} + i g, h_t = o tanh(c_t), gates in the order i, f, g, o.

    i, f, o = sigmoid and g = tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh. With a projection weight_hr (P, H), last of each
    layer's parameters, h_t = W_hr (o tanh(c_t)). ``hx`` is (h0, c0) of shapes (L * D, B, P) and (L * D, B, H), or None; returns
    output, last h, last c. Other arguments and errors: `rnn_tanh`. Hochreiter and Schmidhuber 1997; Gers et al. 2000; Sak et
    al. 2014 (projection).
    """
    y, h, c = _run("lstm", input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths,
                   batch_sizes)
    return y, h, c


def gru(input: Any, hx: Any, params: Sequence[Any], has_biases: bool = True, num_layers: int = 1, dropout: float = 0.0,
        train: bool = False, bidirectional: bool = False, batch_first: bool = False, lengths: Any = None,
        batch_sizes: Any = None, reset_after: bool = True) -> tuple[Any, Any]:
    """Gated recurrent unit: h_t = (1 - z) n + z h_{t-1}, gates in the order r, z, n.

    r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). With ``reset_after`` (as in PyTorch)
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)); without, as first published,
    n = tanh(W_in x_t + b_in + W_hn (r h_{t-1}) + b_hn). Other arguments, shapes and errors: `rnn_tanh`. Cho et al. 2014,
    arXiv:1406.1078.
    """
    y, h = _run("gru" if reset_after else "gru_before", input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
                batch_first, lengths, batch_sizes)
    return y, h


def _cell(cell: str, input: Any, states: tuple[Any, ...], weights: Sequence[Any]) -> tuple[Any, ...]:
    """One step; the states after it. Without a batch axis: (E) and (H)."""
    op = _op(cell) + "_cell"
    if input.data.ndim not in (1, 2):
        raise ShapeError(f"[{op}] input of shape {input.data.shape}, expected (B, E) or (E): a cell takes one step")
    single = input.data.ndim == 1
    for name, state in zip(("h", "c"), states, strict=False):
        if state is not None and state.data.ndim != input.data.ndim:
            raise ShapeError(f"[{op}] {name} of shape {state.data.shape} beside input of shape {input.data.shape}: both need a "
                             "batch axis, or neither")
    x, *own = (unsqueeze(t, 0) if single and t is not None else t for t in (input, *states))
    plan = Plan(cell, False, np.array([x.data.shape[0]], np.int64), op)
    _, *after = apply(RnnLayer, x, *(*own, None)[:2], *weights, None, plan)
    return tuple(squeeze(t, 0) if single else t for t in after)


def rnn_tanh_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of `rnn_tanh`: input (B, E) or (E), hx (B, H) or (H) or None (zeros) -> h (B, H) or (H)."""
    return _cell("rnn_tanh", input, (hx,), (w_ih, w_hh, b_ih, b_hh))[0]


def rnn_relu_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of `rnn_relu`. Shapes: `rnn_tanh_cell`."""
    return _cell("rnn_relu", input, (hx,), (w_ih, w_hh, b_ih, b_hh))[0]


def lstm_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> tuple[Any, Any]:
    """One step of `lstm`: input (B, E) or (E), hx (h, c) or None -> (h, c), each (B, H) or (H)."""
    h, c = (None, None) if hx is None else hx
    after = _cell("lstm", input, (h, c), (w_ih, w_hh, b_ih, b_hh))
    return after[0], after[1]


def gru_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, reset_after: bool = True) -> Any:
    """One step of `gru`. Shapes: `rnn_tanh_cell`."""
    return _cell("gru" if reset_after else "gru_before", input, (hx,), (w_ih, w_hh, b_ih, b_hh))[0]


FUNCTIONS: dict[str, Callable[..., Any]] = {"rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu, "lstm": lstm, "gru": gru}
