"""Recurrent layers and single cells, with PyTorch's parameter names, gate order and numerics."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module
from pydl.nn.utils.rnn import PackedSequence
from pydl.ops.rnn import FUNCTIONS, GATES, reorder
from pydl.ops.shape import squeeze, unsqueeze

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]


def _check_sizes(name: str, **sizes: int) -> None:
    for key, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name}: {key}={value!r}; expected a positive integer")


class _Uniform(Module):
    """Layers whose parameters start within 1 / sqrt(hidden_size)."""

    hidden_size: int

    def reset_parameters(self) -> None:
        """All uniform within 1 / sqrt(hidden_size), as in PyTorch."""
        bound = self.hidden_size**-0.5
        for p in self.parameters():
            init.uniform_(p, -bound, bound)


class _Recurrent(_Uniform):
    """A stack of recurrent layers; subclasses name the cell."""

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
        bidirectional: bool, proj_size: int = 0, options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_sizes(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{name}: dropout={dropout}; expected a probability from 0 to 1")
        if dropout and num_layers == 1:
            warnings.warn(f"{name}: dropout={dropout} acts between layers, but num_layers=1: it does nothing", stacklevel=3)
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(f"{name}: proj_size={proj_size}; expected 0 (none) to hidden_size - 1 = {hidden_size - 1}")
        self.cell, self.options = cell, options or {}
        self.input_size, self.hidden_size, self.num_layers, self.proj_size = input_size, hidden_size, num_layers, proj_size
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        gates, outputs = GATES[cell] * hidden_size, proj_size or hidden_size
        self._names: list[str] = []
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[: 2 if bidirectional else 1]:
                inputs = input_size if layer == 0 else outputs * (2 if bidirectional else 1)
                shapes = {"weight_ih": (gates, inputs), "weight_hh": (gates, outputs)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}  # type: ignore[dict-item]
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for key, shape in shapes.items():
                    self._names.append(f"{key}_l{layer}{suffix}")
                    self.register_parameter(self._names[-1], new_parameter(*shape))
        self.reset_parameters()

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction."""
        per = len(self._names) // (self.num_layers * (2 if self.bidirectional else 1))
        flat = [getattr(self, n) for n in self._names]
        return [flat[i : i + per] for i in range(0, len(flat), per)]

    def flatten_parameters(self) -> None:
        """Nothing to do: weights are packed by the kernel. There for code written for PyTorch."""

    def _call(self, input: Any, states: tuple[Any, ...] | None, **options: Any) -> tuple[Any, tuple[Any, ...]]:
        hx = states if self.cell == "lstm" or states is None else states[0]
        y, *last = FUNCTIONS[self.cell](
            input, hx, [getattr(self, n) for n in self._names], self.bias, self.num_layers, self.dropout, self.training,
            self.bidirectional, **options, **self.options,
        )
        return y, tuple(last)

    def _run(self, input: Any, states: tuple[Any, ...] | None, lengths: Any) -> tuple[Any, tuple[Any, ...]]:
        name = type(self).__name__
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ArgumentError(f"{name}: a PackedSequence knows its lengths; leave out lengths=")
            return self._run_packed(input, states)
        if input.data.ndim not in (2, 3):
            axes = "(B, T, input_size)" if self.batch_first else "(T, B, input_size)"
            raise ShapeError(f"{name}: input of shape {input.data.shape}, expected {axes}, or (T, input_size) "
                             "without a batch axis")
        if input.data.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: input of shape {input.data.shape} has {input.data.shape[-1]} features, expected "
                             f"input_size={self.input_size}")
        if input.data.ndim == 3:
            return self._call(input, states, batch_first=self.batch_first, lengths=lengths)
        if lengths is not None:
            raise ArgumentError(f"{name}: input of shape {input.data.shape} is one sequence; lengths= is for batches")
        for state in states or ():
            if state.data.ndim != 2:
                raise ShapeError(f"{name}: state of shape {state.data.shape} beside an input without a batch axis; expected two "
                                 "axes (layers * directions, size)")
        y, last = self._call(unsqueeze(input, 1), states and tuple(unsqueeze(s, 1) for s in states))
        return squeeze(y, 1), tuple(squeeze(s, 1) for s in last)

    def _run_packed(self, packed: PackedSequence, states: tuple[Any, ...] | None) -> tuple[Any, tuple[Any, ...]]:
        data, sizes, order, inverse = packed
        if order is not None and states is not None:
            for state in states:
                if state.data.ndim != 3 or state.data.shape[1] != len(order.data):
                    raise ShapeError(f"{type(self).__name__}: state of shape {state.data.shape} for a packed batch of "
                                     f"{len(order.data)} sequences; expected (layers * directions, {len(order.data)}, size)")
            states = tuple(reorder(s, order.data, inverse.data) for s in states)
        y, last = self._call(data, states, batch_sizes=sizes)
        if order is not None:
            last = tuple(reorder(s, inverse.data, order.data) for s in last)
        return PackedSequence(y, sizes, order, inverse), last

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        y, last = self._run(input, None if hx is None else (hx,), lengths)
        return y, last[0]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        for name, value in usual.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)}"
        return text + "".join(f", {k}={v}" for k, v in self.options.items() if v is False)


class RNN(_Recurrent):
    """Simple (Elman) recurrent network, formula in `pydl.rnn_tanh`.

    Shapes: input (T, B, input_size), or (B, T, input_size) with batch_first, or (T, input_size), or a `PackedSequence`;
    ``hx`` (num_layers * D, B, hidden_size) -> output (T, B, D * hidden_size) and the last ``h`` like hx; D is 2 if bidirectional.
    ``lengths`` (integers, one per sequence, any order) marks later steps as padding: zero output, no gradient.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNN: nonlinearity={nonlinearity!r}; expected 'tanh' or 'relu'")
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        self.nonlinearity = nonlinearity


class LSTM(_Recurrent):
    """Long short-term memory, formula in `pydl.lstm`.

    As `RNN`, but the state is a pair: ``hx`` = (h, c), c of shape (num_layers * D, B, hidden_size); with ``proj_size`` the
    outputs and h have that size.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Any, tuple[Any, Any]]:
        if hx is not None and (not isinstance(hx, tuple | list) or len(hx) != 2):
            raise ArgumentError(f"LSTM: hx must be the pair (h0, c0), got {type(hx).__name__}")
        y, last = self._run(input, None if hx is None else tuple(hx), lengths)
        return y, (last[0], last[1])


class GRU(_Recurrent):
    """Gated recurrent unit, formulas in `pydl.gru`. As `RNN`; ``reset_after=False`` resets before the recurrent product."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, reset_after: bool = True,
    ) -> None:
        super().__init__("gru", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         options={"reset_after": reset_after})


class _Cell(_Uniform):
    gates: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        _check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        n = self.gates * hidden_size
        self.weight_ih, self.weight_hh = new_parameter(n, input_size), new_parameter(n, hidden_size)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, new_parameter(n) if bias else None)
        self.reset_parameters()

    @property
    def _weights(self) -> tuple[Any, Any, Any, Any]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of `RNN`: input (B, input_size) and h (B, hidden_size), both maybe without the batch axis -> h."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNNCell: nonlinearity={nonlinearity!r}; expected 'tanh' or 'relu'")
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        cell = ops.rnn_tanh_cell if self.nonlinearity == "tanh" else ops.rnn_relu_cell
        return cell(input, hx, *self._weights)


class LSTMCell(_Cell):
    """One step of `LSTM`: input (B, input_size) and (h, c), each (B, hidden_size) -> (h, c)."""

    gates = 4

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        return ops.lstm_cell(input, hx, *self._weights)


class GRUCell(_Cell):
    """One step of `GRU`: input (B, input_size) and h (B, hidden_size) -> h."""

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, reset_after: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.reset_after = reset_after

    def forward(self, input: Any, hx: Any = None) -> Any:
        return ops.gru_cell(input, hx, *self._weights, reset_after=self.reset_after)
