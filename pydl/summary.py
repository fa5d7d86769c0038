"""`summary`: the layers of a model as a table: shapes, parameters, floating-point operations, receptive field, memory.

The model is run once on zeros, in evaluation mode, and every operation is observed, so layers and functions called
inside ``forward`` count alike. The usual formulas follow from the operations' own rules:

- convolution: (k_h k_w C_in + 1) C_out parameters, 2 k_h k_w C_in + 1 operations for each output (a multiplication and
  an addition count as two); fully connected: (D_in + 1) D_out parameters;
- receptive field after layer k, kernels F and strides S: R_k = 1 + sum_{j<=k} (F_j - 1) prod_{i<j} S_i; where all n
  positions are joined (flatten, global pooling) it is R + (n - 1) prod S;
- activation memory: the bytes that the layer's operations newly write (views write none), about what training keeps.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph import SlidingWindow, TensorCore, no_grad, observe, wrap
from pydl.graph.op import Op, Shape
from pydl.nn.containers import ParameterDict, ParameterList
from pydl.nn.module import Module

__all__ = ["Layer", "Summary", "summary"]


@dataclass
class Layer:
    """One row of the table. A layer that is called several times has one row with all its operations."""

    path: str
    type: str
    output_shape: Shape | None = None  # None: never called
    parameters: int = 0
    flops: int = 0
    receptive_field: Shape | None = None  # None: no convolution or pooling leads here, or it cannot be told
    activation_bytes: int = 0
    calls: int = 0


@dataclass
class Summary:
    """The table of `summary`: the rows in the order of the first call, and totals; ``print`` shows it as text."""

    model: str
    inputs: list[Shape]
    layers: list[Layer] = field(default_factory=list)
    parameters: int = 0
    trainable_parameters: int = 0
    parameter_bytes: int = 0
    input_bytes: int = 0

    @property
    def flops(self) -> int:
        return sum(layer.flops for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        return sum(layer.activation_bytes for layer in self.layers)

    def __getitem__(self, path: str) -> Layer:
        """The first row of a path."""
        for layer in self.layers:
            if layer.path == path:
                return layer
        raise ArgumentError(f"summary: no row {path!r}; there are {[layer.path for layer in self.layers]}")

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def totals(self) -> list[tuple[str, str]]:
        """The lines below the table, as (name, text)."""
        fixed = self.parameters - self.trainable_parameters
        return [
            ("input", ", ".join(map(_shape_text, self.inputs)) + f" ({_bytes_text(self.input_bytes)})"),
            ("parameters", f"{self.parameters:,} ({_bytes_text(self.parameter_bytes)})"
                           + (f", of these {fixed:,} fixed" if fixed else "")),
            ("FLOPs, forward", f"{self.flops:,} ({_scaled(self.flops)})"),
            ("activations", f"{_bytes_text(self.activation_bytes)} written, about what training keeps for backward"),
        ]  # fmt: skip

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (layer.path or "(model)", layer.type + (f" x{layer.calls}" if layer.calls > 1 else ""),
             _shape_text(layer.output_shape), f"{layer.parameters:,}", f"{layer.flops:,}",
             _field_text(layer.receptive_field), _bytes_text(layer.activation_bytes))
            for layer in self.layers
        ]  # fmt: skip

    def __str__(self) -> str:
        lines = [_HEADER, *self._cells()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
        text = [
            "  ".join(c.ljust(w) if i < _LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, text))
        text.insert(1, rule)
        name_width = max(len(name) for name, _ in self.totals())
        return "\n".join([self.model, rule, *text, rule, *(f"{name.ljust(name_width)}  {t}" for name, t in self.totals())])

    def __rich__(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.table import Table

        table = Table(title=self.model, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False,
                      padding=(0, 1, 0, 0))  # fmt: skip
        styles = ("cyan", "", "", "green", "yellow", "", "magenta")
        for i, (name, style) in enumerate(zip(_HEADER, styles, strict=True)):
            # In a narrow terminal the long texts (paths, joined operations) wrap, the numbers stay whole.
            table.add_column(name.replace(" ", "\n"), style=style, justify="left" if i < _LEFT else "right", overflow="fold",
                             no_wrap=i >= _LEFT - 1)  # fmt: skip
        for cells in self._cells():
            table.add_row(*cells)
        grid = Table.grid(padding=(0, 2))
        for name, text in self.totals():
            grid.add_row(f"[bold]{name}[/]", text)
        return Group(table, "", grid)

    def show(self, file: TextIO | None = None) -> None:
        """Print the table: in colour by rich on a terminal, as plain text elsewhere."""
        file = sys.stdout if file is None else file
        if file.isatty():
            from rich.console import Console

            Console(file=file).print(self)
        else:
            print(self, file=file)


_HEADER = ("layer", "type", "output shape", "parameters", "FLOPs", "receptive field", "activations")
_LEFT = 3  # the first columns are text


def _shape_text(shape: Shape | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "scalar"


def _field_text(sizes: Shape | None) -> str:
    if sizes is None:
        return "-"
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _bytes_text(n: int) -> str:
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{n} B" if unit == "B" else f"{size:.1f} {unit}"


def _scaled(n: int) -> str:
    value, names = float(n), ["FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs"]
    while value >= 1000 and len(names) > 1:
        value /= 1000
        names.pop(0)
    return f"{value:.2f} {names[0]}"


def summary(
    model: Module, input_size: Sequence[Any], dtype: Any = np.float32, depth: int | None = None
) -> Summary:
    """Run the model once on zeros and tabulate its layers.

    Parameters
    ----------
    model : Module
        Any module; it is run in evaluation mode without recording, and its modes are restored.
    input_size : sequence of int, or sequence of such
        The shape of the input with the batch axis, ``(1, 1, 28, 28)``; a sequence of shapes for several inputs.
    dtype : dtype or sequence of dtype
        Element type of the inputs; int64 for token indices.
    depth : int, optional
        Show modules down to this depth, with what is inside them summed up. Default: the innermost.

    Raises
    ------
    ArgumentError
        If the sizes are no shapes, or `dtype` does not fit their number.

    Examples
    --------
    >>> from pydl import nn
    >>> table = summary(nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU()), (1, 1, 28, 28))
    >>> table["0"].parameters, table["0"].output_shape, table["1"].receptive_field
    (156, (1, 6, 24, 24), (5, 5))
    """
    if not isinstance(model, Module):
        raise ArgumentError(f"summary: expected a Module, got {type(model).__name__}")
    if depth is not None and depth < 0:
        raise ArgumentError(f"summary: depth={depth}: expected 0 or more")
    shapes = _shapes(input_size)
    dtypes = list(dtype) if isinstance(dtype, list | tuple) else [dtype] * len(shapes)
    if len(dtypes) != len(shapes):
        raise ArgumentError(f"summary: {len(dtypes)} dtypes for {len(shapes)} inputs")
    inputs = [np.zeros(shape, d) for shape, d in zip(shapes, dtypes, strict=True)]
    recorder = _Recorder(model, depth)
    recorder.run([wrap(a) for a in inputs])
    parameters = list(model.parameters())
    return Summary(
        model=type(model).__name__,
        inputs=shapes,
        layers=recorder.finish(),
        parameters=sum(p.data.size for p in parameters),
        trainable_parameters=sum(p.data.size for p in parameters if p.requires_grad),
        parameter_bytes=sum(p.data.nbytes for p in parameters),
        input_bytes=sum(a.nbytes for a in inputs),
    )


def _shapes(sizes: Any) -> list[Shape]:
    sizes = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    groups = sizes if sizes and all(isinstance(s, list | tuple) for s in sizes) else [sizes]
    shapes = []
    for group in groups:
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in group):
            raise ArgumentError(f"summary: input_size={tuple(group)}; expected a shape such as (1, 1, 28, 28), or several")
        shapes.append(tuple(int(n) for n in group))
    return shapes


@dataclass
class _Frame:
    """A module being called, and which of its parts ran last: what its own operations are filed under."""

    module: Module
    after: int = 0


class _Recorder:
    """Files every operation under the module that is being called."""

    def __init__(self, model: Module, depth: int | None) -> None:
        self.model, self.depth = model, depth
        self.paths = {id(m): path for path, m in model.named_modules()}
        self.stack: list[_Frame] = []
        self.rows: dict[tuple[int, int], Layer] = {}  # (module, part that ran before, or -1 for the whole module)
        self.fields = _Fields()
        self.thread = threading.get_ident()
        self.nested: list[int] = []  # operations seen inside each running operation (checkpoint, Function)

    def run(self, inputs: list[Any]) -> None:
        modes = [(m, m.training) for m in self.model.modules()]
        handles: list[Any] = []
        try:
            for module in self.model.modules():
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave))
            self.model.eval()
            with no_grad(), observe(self._operation):
                self.model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
            for module, training in modes:
                object.__setattr__(module, "training", training)

    def _enter(self, module: Module, args: Any) -> None:
        self.stack.append(_Frame(module))

    def _leave(self, module: Module, args: Any, out: Any) -> None:
        frame = self.stack.pop()
        level = len(self.stack)
        if self._is_whole(frame.module, level):
            row = self._row((id(module), -1), self.paths[id(module)], type(module).__name__)
            row.calls += 1
            first = first_tensor(out)
            if first is not None:
                row.output_shape = first.data.shape
                row.receptive_field = self.fields.of(first.data)
        if self.stack:
            self.stack[-1].after = id(module)

    def _is_whole(self, module: Module, level: int) -> bool:
        """Whether a module is one row: it has no parts, or they are below the depth that is shown."""
        if self.depth is not None and level >= self.depth:
            return level == self.depth
        return not any(True for _ in module.children())

    def _row(self, key: tuple[int, int], path: str, kind: str) -> Layer:
        return self.rows.setdefault(key, Layer(path, kind))

    def _owner(self, name: str) -> Layer:
        for level, frame in enumerate(self.stack):
            if self._is_whole(frame.module, level):
                return self._row((id(frame.module), -1), self.paths[id(frame.module)], type(frame.module).__name__)
        frame = self.stack[-1]
        row = self._row((id(frame.module), frame.after), self.paths[id(frame.module)], "")
        names = row.type.split(", ") if row.type else []
        if name not in names:
            row.type = ", ".join([*names, name])
        return row

    def _operation(self, op: Any, ctx: Any, arrays: list[Any]) -> Any:
        if threading.get_ident() != self.thread:  # a data loader at work meanwhile
            return op.forward(ctx, *arrays)
        self.nested.append(0)
        out = op.forward(ctx, *arrays)
        inner = self.nested.pop()
        if self.nested:
            self.nested[-1] += 1
        outputs = out if isinstance(out, tuple) else (out,)
        self.fields.follow(op, arrays, outputs)
        row = self._owner(getattr(op, "name", "") or op.__name__.lower())
        row.output_shape = outputs[0].shape
        row.receptive_field = self.fields.of(outputs[0])
        if inner == 0:  # what an operation computes through others is counted there
            given = [a for a in arrays if isinstance(a, np.ndarray)]
            row.flops += int(op.cost(outputs[0].shape, *arrays).flops)
            row.activation_bytes += sum(o.nbytes for o in outputs if not any(np.may_share_memory(o, a) for a in given))
        return out

    def finish(self) -> list[Layer]:
        """The rows, with each parameter counted in the row nearest to its module, once."""
        nearest: dict[str, Layer] = {}
        for row in self.rows.values():
            nearest.setdefault(row.path, row)
        layers = list(self.rows.values())
        seen: set[int] = set()
        for path, module in self.model.named_modules():
            size = 0
            for p in module._parameters.values():
                if p is not None and id(p) not in seen:
                    seen.add(id(p))
                    size += p.data.size
            found = _enclosing(path, nearest, isinstance(module, ParameterList | ParameterDict), self.depth)
            if found is not None:
                found.parameters += size
            elif size:
                nearest[path] = Layer(path, type(module).__name__, parameters=size)
                layers.append(nearest[path])
        return layers


def _enclosing(path: str, rows: dict[str, Layer], is_list: bool, depth: int | None) -> Layer | None:
    """The row of a path; for a list of parameters, which is never called, or below the depth shown, one further out."""
    while path not in rows and path and (is_list or depth is not None):
        path = path.rpartition(".")[0]
    return rows.get(path)


def first_tensor(value: Any) -> Any:
    """The first tensor in nested tuples, lists and dictionaries."""
    if isinstance(value, TensorCore):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((t for t in map(first_tensor, parts) if t is not None), None)


@dataclass
class _Field:
    """Receptive field and distance between neighbours (product of the strides), for each spatial axis."""

    size: tuple[float, ...]
    step: tuple[float, ...]
    joined: bool = False  # the spatial axes are gone: every feature sees all of it


class _Fields:
    """The receptive field of each array, followed from operation to operation."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, _Field | None]] = {}  # id -> (the array, which keeps the id its own; the field)

    def of(self, array: Any) -> Shape | None:
        found = self.known.get(id(array), (None, None))[1]
        return None if found is None else tuple(int(np.ceil(n)) for n in found.size)

    def follow(self, op: Any, arrays: list[Any], outputs: tuple[Any, ...]) -> None:
        given = [a for a in arrays if id(a) in self.known]
        window = getattr(op, "window", Op.window)(*arrays)
        if window is None and not given:
            return
        fields = [self._after(window, a, out) for out in outputs[:1] for a in (given or arrays[:1])]
        merged = None if None in fields else _widest([f for f in fields if f is not None])
        for out in outputs:
            self.known[id(out)] = (out, merged)

    def _after(self, window: SlidingWindow | None, array: np.ndarray, out: np.ndarray) -> _Field | None:
        before = self.known.get(id(array), (None, None))[1]
        if window is not None:
            n = len(window.kernel)
            if id(array) not in self.known:
                before = _Field((1.0,) * n, (1.0,) * n)
            if before is None or before.joined or len(before.size) != n:
                return None
            return _slide(before, window)
        if before is None or before.joined:
            return before
        n = len(before.size)
        if out.shape[-n:] == array.shape[-n:]:
            return before  # nothing moved in space
        if out.ndim <= array.ndim - n or all(m == 1 for m in out.shape[-n:]):
            return _join(before, array.shape[-n:], joined=out.ndim <= array.ndim - n)
        return None


def _slide(before: _Field, window: SlidingWindow) -> _Field:
    size, step = [], []
    for r, j, k, s, d in zip(before.size, before.step, window.kernel, window.stride, window.dilation, strict=True):
        reach = d * (k - 1) + 1
        if window.transposed:  # an output sees every s-th tap of the kernel
            size.append(r + (-(-reach // s) - 1) * j)
            step.append(j / s)
        else:
            size.append(r + (reach - 1) * j)
            step.append(j * s)
    return _Field(tuple(size), tuple(step))


def _join(before: _Field, shape: Shape, joined: bool) -> _Field:
    size = tuple(r + (n - 1) * j for r, j, n in zip(before.size, before.step, shape, strict=True))
    return _Field(size, tuple(j * n for j, n in zip(before.step, shape, strict=True)), joined)


def _widest(fields: list[_Field]) -> _Field | None:
    """Where branches meet: the larger field on each axis; unknown if their axes do not correspond."""
    if len({(len(f.size), f.joined) for f in fields}) != 1:
        return None
    return _Field(
        tuple(max(s) for s in zip(*(f.size for f in fields), strict=True)),
        tuple(max(s) for s in zip(*(f.step for f in fields), strict=True)),
        fields[0].joined,
    )
