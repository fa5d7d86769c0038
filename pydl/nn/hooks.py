"""Hooks on modules: the handle that removes one, and the gates that catch a module's gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydl.graph.engine import TensorCore, apply
from pydl.graph.op import Cost, Op, Shape


class RemovableHandle:
    """Removes a module hook again: ``handle.remove()``, or leaving a ``with`` block."""

    _next = 0

    def __init__(self, table: dict[int, Any]) -> None:
        self.table = table
        self.key = RemovableHandle._next
        RemovableHandle._next += 1

    def remove(self) -> None:
        self.table.pop(self.key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


class _Gate(Op):
    """Hands tensors on unchanged; on the way back, `function` sees all their gradients at once and may replace them."""

    name, backward_on_tensors = "module_hook", True

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        ctx.function = function
        ctx.materialize_grads = False  # an output that the loss does not depend on has gradient None
        return tuple(a.view() for a in arrays)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *ctx.function(grads))

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(0, 0)


def _gate(values: Sequence[Any], function: Callable[..., Any]) -> tuple[tuple[Any, ...], list[int]]:
    """The values with every tensor that requires a gradient led through one gate; and the positions of those."""
    at = [i for i, v in enumerate(values) if isinstance(v, TensorCore) and v.requires_grad]
    passed = list(values)
    if at:
        for i, t in zip(at, apply(_Gate, function, *[values[i] for i in at]), strict=True):
            t.share_version(values[i])
            passed[i] = t
    return tuple(passed), at


class BackwardWatch:
    """Calls a module's backward hooks for one forward pass."""

    def __init__(self, module: Any, pre_hooks: Sequence[Any], hooks: Sequence[Any]) -> None:
        self.module, self.pre_hooks, self.hooks = module, pre_hooks, hooks
        self.inputs: list[int] = []
        self.count = 0
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of forward, watched."""
        self.count = len(args)
        args, self.inputs = _gate(args, self._input_gradients)
        return args

    def leave(self, out: Any) -> Any:
        """The output of forward (a tensor or a tuple), watched."""
        outputs = out if isinstance(out, tuple) else (out,)
        at: list[int] = []
        passed, at = _gate(outputs, lambda grads: self._output_gradients(grads, len(outputs), at))
        return passed if isinstance(out, tuple) else passed[0]

    def _output_gradients(self, grads: tuple[Any, ...], count: int, at: list[int]) -> tuple[Any, ...]:
        self.grad_output = _spread(grads, count, at)
        for hook in self.pre_hooks:
            replaced = hook(self.module, self.grad_output)
            if replaced is not None:
                self.grad_output = replaced if isinstance(replaced, tuple) else (replaced,)
        if not self.inputs:  # nothing before this module is differentiated: no input gate will report
            self._input_gradients(())
        return tuple(self.grad_output[i] for i in at)

    def _input_gradients(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        grad_input = _spread(grads, self.count, self.inputs)
        for hook in self.hooks:
            replaced = hook(self.module, grad_input, self.grad_output)
            if replaced is not None:
                grad_input = replaced if isinstance(replaced, tuple) else (replaced,)
        return tuple(grad_input[i] for i in self.inputs)


def _spread(grads: tuple[Any, ...], count: int, at: list[int]) -> tuple[Any, ...]:
    """One entry for each argument, None where there is no gradient."""
    found = dict(zip(at, grads, strict=True))
    return tuple(found.get(i) for i in range(count))
