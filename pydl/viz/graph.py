"""`graph`: the computation graph of a tensor as DOT and SVG."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydl.errors import ArgumentError, GraphError
from pydl.graph import TensorCore
from pydl.viz.layout import Point, layered

__all__ = ["Drawing", "graph"]

_COLOURS = {  # kind -> (fill, border)
    "op": ("#e8f0fe", "#4a78c2"),
    "output": ("#fff1dc", "#d18a1f"),
    "leaf": ("#e4f4e7", "#3f9155"),
    "constant": ("#f2f2f2", "#8c8c8c"),
}
_FONT = "DejaVu Sans, Verdana, Helvetica, sans-serif"
_SIZE, _LINE, _PAD = 12, 16, 9
_TOO_MANY = 3000


@dataclass
class Box:
    """One node of the drawing: a bold title and lines below it."""

    kind: str
    title: str
    lines: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[float, float]:
        # Widths of DejaVu Sans, the widest of the fonts asked for; bold is wider still.
        widths = [_text_width(self.title) * 1.12, *map(_text_width, self.lines)]
        return max(*widths, 34.0) + 2 * _PAD, _LINE * (1 + len(self.lines)) + 2 * _PAD - 4


def _text_width(text: str) -> float:
    return sum(0.36 if c in "il.,:;'|!()[] " else 0.98 if c in "mwMW" else 0.66 for c in text) * _SIZE


@dataclass
class Drawing:
    """The graph as text: `dot` for Graphviz, `svg` for any browser; shown as a picture in notebooks."""

    boxes: list[Box]
    edges: list[tuple[int, int]]
    direction: str = "LR"

    @property
    def dot(self) -> str:
        """The graph in Graphviz's language."""
        lines = [
            f"digraph computation {{\n  rankdir={self.direction};",
            f'  node [shape=box, style="rounded,filled", fontname="{_FONT.split(",")[0]}", fontsize={_SIZE}];',
        ]
        for i, box in enumerate(self.boxes):
            fill, border = _COLOURS[box.kind]
            label = "\\n".join(_dot_escape(t) for t in (box.title, *box.lines))
            lines.append(f'  n{i} [label="{label}", fillcolor="{fill}", color="{border}"];')
        lines += [f"  n{a} -> n{b};" for a, b in self.edges]
        return "\n".join([*lines, "}"]) + "\n"

    @property
    def svg(self) -> str:
        """The picture, laid out by the program ``dot`` if it is installed, else by pydl itself."""
        program = shutil.which("dot")
        if program:
            return _run_dot(program, self.dot, "svg").decode()
        return self._own_svg()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing: ``.svg``, ``.dot`` or ``.gv``; with Graphviz installed also ``.png`` and ``.pdf``."""
        path = Path(path)
        kind = path.suffix.lower()
        if kind in (".dot", ".gv"):
            data = self.dot.encode()
        elif kind == ".svg":
            data = self.svg.encode()
        elif kind in (".png", ".pdf"):
            program = shutil.which("dot")
            if program is None:
                raise ArgumentError(f"viz.graph: {kind} needs the program dot (apt install graphviz); save as .svg without it")
            data = _run_dot(program, self.dot, kind[1:])
        else:
            raise ArgumentError(f"viz.graph: unknown file type {path.name!r}; expected .svg, .dot, .gv, .png or .pdf")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _repr_svg_(self) -> str:
        return self.svg

    def _own_svg(self) -> str:
        across = self.direction == "LR"

        def turn(p: Point) -> Point:
            return (p[1], p[0]) if across else p

        layout = layered([turn(box.size) for box in self.boxes], self.edges)
        width, height = turn((layout.width, layout.height))
        margin = 12
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 2 * margin:.0f}" height="{height + 2 * margin:.0f}" '
            f'viewBox="{-margin} {-margin} {width + 2 * margin:.1f} {height + 2 * margin:.1f}" '
            f'font-family="{_FONT}" font-size="{_SIZE}" text-anchor="middle">\n'
            f'<rect x="{-margin}" y="{-margin}" width="100%" height="100%" fill="white"/>\n'
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0,1 L10,5 L0,9 z" fill="#5f6773"/></marker></defs>\n'
        )
        parts = [_curve([turn(p) for p in route], across) for route in layout.routes]
        parts += [_svg_box(box, turn(c)) for box, c in zip(self.boxes, layout.centres, strict=True)]
        return head + "\n".join(parts) + "\n</svg>\n"


def _dot_escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _run_dot(program: str, text: str, kind: str) -> bytes:
    done = subprocess.run([program, f"-T{kind}"], input=text.encode(), capture_output=True)
    if done.returncode:
        raise GraphError(f"viz.graph: {program} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _curve(points: list[Point], across: bool) -> str:
    """Points in pairs: bends between the layers, straight lines through them."""
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        if across:
            middle = (x0 + x1) / 2
            path += f" C{middle:.1f},{y0:.1f} {middle:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
        else:
            middle = (y0 + y1) / 2
            path += f" C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
    return f'<path d="{path}" fill="none" stroke="#5f6773" stroke-width="1.2" marker-end="url(#arrow)"/>'


def _svg_box(box: Box, centre: Point) -> str:
    (x, y), (w, h) = centre, box.size
    fill, border = _COLOURS[box.kind]
    radius = 10 if box.kind in ("op", "output") else 2
    first = y - h / 2 + _PAD + _SIZE - 3
    text = [f'<text x="{x:.1f}" y="{first:.1f}" font-weight="bold" fill="#1d2733">{escape(box.title)}</text>']
    for i, line in enumerate(box.lines, 1):
        text.append(f'<text x="{x:.1f}" y="{first + i * _LINE:.1f}" fill="#3c4856">{escape(line)}</text>')
    rect = (
        f'<rect x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius}" fill="{fill}" '
        f'stroke="{border}" stroke-width="{1.8 if box.kind == "output" else 1.2}"/>'
    )
    return "<g>" + rect + "".join(text) + "</g>"


def graph(tensor: Any, params: Any = None, direction: str = "LR") -> Drawing:
    """Draw how a tensor was computed: operations with their output shapes, and the tensors that they started from.

    Leaves show their name, shape, value (scalars) and gradient if there is one; so do computed tensors that `params`
    names. Constants appear while backward has not freed them (``backward(retain_graph=True)`` keeps them).

    Parameters
    ----------
    tensor : Tensor or sequence of Tensor
        What was computed.
    params : Module, mapping of name to Tensor, or iterable of (name, Tensor), optional
        Names for leaves and for computed tensors.
    direction : {"LR", "TB"}
        From left to right, or from top to bottom.

    Raises
    ------
    GraphError
        If no operation was recorded for the tensor.

    Examples
    --------
    J = 3(a + bc) at a = 5, b = 3, c = 2 has dJ/da = 3, dJ/db = 3c = 6, dJ/dc = 3b = 9:

    >>> import pydl
    >>> a, b, c = (pydl.tensor(v, requires_grad=True) for v in (5.0, 3.0, 2.0))
    >>> J = 3 * (a + b * c)
    >>> J.backward(retain_graph=True)
    >>> drawing = graph(J, {"a": a, "b": b, "c": c, "J": J})
    >>> [box.lines[-1] for box in drawing.boxes if box.kind == "leaf"]
    ['gradient 3', 'gradient 6', 'gradient 9']
    """
    if direction not in ("LR", "TB"):
        raise ArgumentError(f"viz.graph: direction={direction!r}; expected 'LR' or 'TB'")
    roots = list(tensor) if isinstance(tensor, list | tuple) else [tensor]
    for root in roots:
        if not isinstance(root, TensorCore):
            raise ArgumentError(f"viz.graph: expected a Tensor, got {type(root).__name__}")
        if not root.requires_grad:
            raise GraphError(
                f"viz.graph: no operation was recorded for the tensor of shape {root.data.shape}; set requires_grad=True on "
                "an input, and do not compute it under no_grad"
            )
    return _Walk(roots, _names(params)).draw(direction)


def _names(params: Any) -> list[tuple[str, Any]]:
    if params is None:
        return []
    if hasattr(params, "named_parameters"):
        return list(params.named_parameters())
    pairs: Iterable[Any] = params.items() if isinstance(params, Mapping) else params
    named = [tuple(pair) for pair in pairs]
    for pair in named:
        if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], TensorCore):
            raise ArgumentError("viz.graph: params: expected a Module, {name: Tensor} or (name, Tensor) pairs")
    return named


class _Walk:
    """Collects boxes and edges from the outputs back to the leaves; iterates, so that long graphs are no problem."""

    def __init__(self, roots: list[Any], named: list[tuple[str, Any]]) -> None:
        self.roots = roots
        self.leaf_names = {id(t): name for name, t in named if t.node is None}
        self.computed: dict[int, list[tuple[str, Any]]] = {}  # id of a node -> its tensors that have a name or are outputs
        known = {id(t) for _, t in named}
        for name, t in [*named, *(("", r) for r in roots if id(r) not in known)]:
            if t.node is not None:
                self.computed.setdefault(id(t.node), []).append((name, t))
        self.root_nodes = {id(r.node) for r in roots}
        self.number: dict[int, int] = {}
        self.held: list[Any] = []  # keeps every object seen, so that ids stay theirs
        self.boxes: list[Box] = []
        self.edges: dict[tuple[int, int], None] = {}

    def draw(self, direction: str) -> Drawing:
        todo = [r if r.node is None else r.node for r in reversed(self.roots)]
        for item in todo:
            self._box(item)
        while todo:
            item = todo.pop()
            if isinstance(item, TensorCore):
                continue
            inputs = [i for i in item.next_nodes if i is not None] + list(item.constant_inputs)
            fresh = []
            for source in inputs:
                if id(source) not in self.number:
                    fresh.append(source)
                    self._box(source)
                self.edges[self.number[id(source)], self.number[id(item)]] = None
            todo += reversed(fresh)
        # From the inputs to the outputs: the order in which it was computed, and the leaves as they were first used.
        order = sorted(range(len(self.boxes)), key=lambda i: (getattr(self.held[i], "sequence", 0), i))
        place = {old: new for new, old in enumerate(order)}
        return Drawing([self.boxes[i] for i in order], sorted((place[a], place[b]) for a, b in self.edges), direction)

    def _box(self, item: Any) -> None:
        if id(item) in self.number:
            return
        if len(self.boxes) >= _TOO_MANY:
            raise ArgumentError(f"viz.graph: more than {_TOO_MANY} nodes; draw a smaller model or fewer time steps")
        self.number[id(item)] = len(self.boxes)
        self.held.append(item)
        self.boxes.append(self._leaf(item) if isinstance(item, TensorCore) else self._operation(item))

    def _leaf(self, tensor: Any) -> Box:
        kind = "leaf" if tensor.requires_grad else "constant"
        usual = "constant" if kind == "constant" else "parameter" if type(tensor).__name__ == "Parameter" else "tensor"
        return Box(kind, self.leaf_names.get(id(tensor), usual), _value_lines(tensor))

    def _operation(self, node: Any) -> Box:
        tensors = self.computed.get(id(node), [])
        function = getattr(node, "function", None)  # a user's Function is recorded under one name for all
        name = function.__name__ if isinstance(function, type) else node.name
        names = [n for n, _ in tensors if n]
        box = Box("output" if id(node) in self.root_nodes else "op", f"{', '.join(names)} = {name}" if names else name)
        if node.module_path:
            box.lines.append(f"in {node.module_path}")
        if len(tensors) == 1 and len(node.output_meta) == 1:
            box.lines += _value_lines(tensors[0][1])
        else:
            box.lines += [_shape(shape) for shape, _ in node.output_meta]
        return box


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "scalar"


def _value_lines(tensor: Any) -> list[str]:
    array = tensor.data
    lines = [f"value {array.item():.6g}" if array.size == 1 else _shape(array.shape)]
    if tensor.grad is not None:
        grad = tensor.grad.data
        if grad.size == 1:
            lines.append(f"gradient {grad.item():.6g}")
        else:
            lines.append(f"gradient, norm {float((grad.astype('f8') ** 2).sum()) ** 0.5:.3g}")
    return lines
