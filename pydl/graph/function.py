"""User-defined operations (`Function`) and gradient checkpointing, both on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydl.errors import GraphError
from pydl.graph import engine
from pydl.graph.engine import TensorCore
from pydl.graph.modes import enable_grad, no_grad
from pydl.graph.op import Op


class _Context:
    """The `ctx` of a user's Function: PyTorch's names over the node's own."""

    def __init__(self, node: Any) -> None:
        object.__setattr__(self, "_node", node)

    def save_for_backward(self, *tensors: Any) -> None:
        self._node.save(*[None if t is None else t.data for t in tensors])

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._node.saved_tensors

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        return self._node.needs[1:]

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self._node.mark_non_differentiable(*[t.data for t in tensors])

    def set_materialize_grads(self, value: bool) -> None:
        self._node.materialize_grads = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._node, name, value)


class _FunctionOp(Op):
    name = "function"
    backward_on_tensors = True

    @staticmethod
    def forward(ctx: Any, function: Any, *args: Any) -> Any:
        originals = function._arguments
        tensors = [engine.wrap(a) if isinstance(o, TensorCore) else o for a, o in zip(args, originals, strict=True)]
        ctx.function = function.cls
        with no_grad():
            out = function.cls.forward(_Context(ctx), *tensors)
        if isinstance(out, tuple):
            return tuple(t.data for t in out)
        return out.data

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        result = ctx.function.backward(_Context(ctx), *grads)
        return (None, *(result if isinstance(result, tuple) else (result,)))


class _Call:
    """One call of a Function: which class, and which arguments were tensors."""

    def __init__(self, cls: type, arguments: tuple[Any, ...]) -> None:
        self.cls = cls
        self._arguments = arguments


class Function:
    """Base of user-defined operations: static `forward(ctx, *args)` and `backward(ctx, *grads)` on tensors.

    Examples
    --------
    >>> import pydl
    >>> class Cube(pydl.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x * x * grad
    >>> x = pydl.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad.item()
    12.0
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any) -> Any:
        return engine.apply(_FunctionOp, _Call(cls, args), *args)


class _CheckpointOp(Op):
    name = "checkpoint"
    backward_on_tensors = True

    @staticmethod
    def forward(ctx: Any, call: Any, *args: Any) -> Any:
        ctx.call = call
        call.rng_state = call.save_rng() if call.save_rng else None
        ctx.save(*[a if isinstance(o, TensorCore) else None for a, o in zip(args, call.arguments, strict=False)])
        with no_grad():
            out = call.function(*call.arguments)
        return tuple(t.data for t in out) if isinstance(out, tuple) else out.data

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if engine.is_grad_enabled():
            raise GraphError("[checkpoint] cannot be differentiated twice (create_graph=True)")
        call = ctx.call
        inputs = []
        for original, saved in zip(call.arguments, ctx.saved_tensors, strict=False):
            if isinstance(original, TensorCore):
                copy = engine.wrap(saved.data)
                copy.requires_grad = original.requires_grad
                inputs.append(copy)
            else:
                inputs.append(original)
        with enable_grad(), call.replay_rng():
            out = call.function(*inputs)
        outs = list(out) if isinstance(out, tuple) else [out]
        pairs = [(o, g) for o, g in zip(outs, grads, strict=True) if o.requires_grad]
        with no_grad():
            # Not `targets`: parameters that the function closes over get their gradients here as well.
            engine.run_backward([o for o, _ in pairs], [g for _, g in pairs])
        return (None, *[t.grad if isinstance(t, TensorCore) else None for t in inputs], *[None] * len(call.closure))


class _CheckpointCall:
    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], closure: tuple[Any, ...]) -> None:
        from pydl.random import get_rng_state

        self.function, self.arguments, self.closure = function, arguments, closure
        self.save_rng = get_rng_state
        self.rng_state: Any = None

    def replay_rng(self) -> Any:
        from pydl.random import fork_rng

        return fork_rng(self.rng_state)


def checkpoint(function: Callable[..., Any], *args: Any, parameters: Any = ()) -> Any:
    """Run `function(*args)` without keeping its intermediate results; backward computes them again.

    Saves memory for time (Chen et al. 2016, arXiv:1604.06174). The random state is replayed, so dropout masks agree.

    Parameters
    ----------
    function : callable
        Takes and returns tensors. A module is recognised, and its parameters get their gradients.
    parameters : iterable of Tensor
        Parameters that `function` closes over, needed when none of `args` requires a gradient.
    """
    if hasattr(function, "parameters") and not parameters:
        parameters = tuple(function.parameters())
    closure = tuple(p for p in parameters if p.requires_grad)
    call = _CheckpointCall(function, args, closure)
    return engine.apply(_CheckpointOp, call, *args, *closure)
