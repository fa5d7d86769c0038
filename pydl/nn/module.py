"""`Module`: a part of a network with its parameters; `Parameter`: a tensor that it learns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from pydl.errors import ArgumentError, GraphError, PydlError
from pydl.graph import engine
from pydl.tensor import Tensor

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that a module learns: it requires a gradient and appears in `parameters()`."""

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        return super().__new__(cls, data, None, requires_grad)


class StateDictError(PydlError, KeyError):
    """A state dict does not fit a module: every missing, unexpected and mis-shaped key is listed."""

    __str__ = PydlError.__str__


class Module:
    """Base of all layers and networks.

    Subclasses set parameters, buffers and other modules as attributes in ``__init__`` and define ``forward``.
    """

    training: bool = True

    def __init__(self) -> None:
        for name in ("_parameters", "_buffers", "_modules", "_pre_hooks", "_forward_hooks", "_backward_hooks"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "_transient", set())
        object.__setattr__(self, "_name", "")
        object.__setattr__(self, "training", True)

    # ------------------------------------------------------------------ attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise GraphError(f"{type(self).__name__}.{name}: call super().__init__() before setting attributes")
        tables = (self._parameters, self._modules, self._buffers)
        if isinstance(value, Parameter):
            self._forget(name)
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._forget(name)
            self._modules[name] = value
            object.__setattr__(value, "_name", name)
        elif any(name in t for t in tables):
            table = next(t for t in tables if name in t)
            if value is not None and not (table is self._buffers and isinstance(value, Tensor)):
                kind = "a Parameter" if table is self._parameters else "a Module" if table is self._modules else "a Tensor"
                raise ArgumentError(f"{type(self).__name__}.{name}: expected {kind} or None, got {type(value).__name__}")
            table[name] = value
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name: str) -> None:
        self.__dict__.pop(name, None)
        for table in (self._parameters, self._modules, self._buffers):
            table.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_modules", "_buffers"):
            found = self.__dict__.get(table, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._modules, self._buffers):
            if name in table:
                del table[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._modules, *self._buffers})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """A parameter under a name; None reserves the name."""
        self._forget(name)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """State that is saved but not learnt, such as running means; not saved if ``persistent=False``."""
        self._forget(name)
        self._buffers[name] = tensor
        (self._transient.discard if persistent else self._transient.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """A part under a name."""
        self._forget(name)
        self._modules[name] = module
        if module is not None:
            object.__setattr__(module, "_name", name)

    add_module = register_module

    # ------------------------------------------------------------------ calling
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        engine.push_module(self._name)
        try:
            for hook in self._pre_hooks.values():
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            out = self.forward(*args, **kwargs)
            for hook in self._forward_hooks.values():
                changed = hook(self, args, out)
                if changed is not None:
                    out = changed
            if self._backward_hooks:
                self._watch_backward(out)
            return out
        except PydlError as error:
            error.add_module(self._name)
            raise
        finally:
            engine.pop_module()

    def _watch_backward(self, out: Any) -> None:
        for t in out if isinstance(out, tuple) else (out,):
            if isinstance(t, Tensor) and t.requires_grad:
                for hook in self._backward_hooks.values():
                    t.register_hook(functools.partial(hook, self))

    def _register(self, table: dict[int, Any], hook: Callable[..., Any]) -> RemovableHandle:
        handle = RemovableHandle(table)
        table[handle.key] = hook
        return handle

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, args)` before forward; what it returns replaces the arguments."""
        return self._register(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, args, output)` after forward; what it returns replaces the output."""
        return self._register(self._forward_hooks, hook)

    def register_output_grad_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, grad)` when the gradient of an output is known; what it returns replaces the gradient."""
        return self._register(self._backward_hooks, hook)

    # ------------------------------------------------------------------ walking
    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all parts, with their paths; a shared part appears once."""
        seen: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path, module
            for name, child in module._modules.items():
                if child is not None:
                    yield from walk(f"{path}.{name}" if path else name, child)

        return walk(prefix, self)

    def modules(self) -> Iterator[Module]:
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((n, m) for n, m in self._modules.items() if m is not None)

    def children(self) -> Iterator[Module]:
        return (m for _, m in self.named_children())

    def _named(self, table: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else iter([(prefix, self)]):
            for name, value in getattr(module, table).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The part at a dotted path; "" is the module itself."""
        module = self
        for name in target.split(".") if target else ():
            if name not in module._modules:
                raise ArgumentError(f"get_submodule: {type(module).__name__} has no part {name!r} (path {target!r}); "
                                    f"it has {list(module._modules)}")
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        table = self.get_submodule(path)._parameters
        if table.get(name) is None:
            raise ArgumentError(f"get_parameter: no parameter {target!r}")
        return table[name]

    def apply(self: M, function: Callable[[Module], None]) -> M:
        """Call `function` on every part, children first, then on the module itself."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ------------------------------------------------------------------ modes
    def train(self: M, mode: bool = True) -> M:
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self: M) -> M:
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def freeze(self: M) -> M:
        """Learn nothing here any more: no gradients for the parameters."""
        return self.requires_grad_(False)

    def unfreeze(self: M) -> M:
        return self.requires_grad_(True)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad.zero_()

    def to(self: M, dtype: Any) -> M:
        """Convert floating parameters and buffers, in place."""
        for module in self.modules():
            for table in (module._parameters, module._buffers):
                for value in table.values():
                    if value is not None and value.data.dtype.kind == "f":
                        value.data = value.data.astype(np.dtype(dtype))
        return self

    def float(self: M) -> M:
        return self.to(np.float32)

    def double(self: M) -> M:
        return self.to(np.float64)

    # ------------------------------------------------------------------ state
    def _state(self) -> Iterator[tuple[str, Any]]:
        """Every saved tensor under each of its names (a shared one under all of them)."""

        def walk(path: str, module: Module) -> Iterator[tuple[str, Any]]:
            for name, value in module._parameters.items():
                if value is not None:
                    yield path + name, value
            for name, value in module._buffers.items():
                if value is not None and name not in module._transient:
                    yield path + name, value
            for name, child in module._modules.items():
                if child is not None:
                    yield from walk(f"{path}{name}.", child)

        return walk("", self)

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> tensor for all parameters and persistent buffers; the tensors share the module's memory."""
        return {name: value.detach() for name, value in self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values from a state dict; nothing is changed if anything does not fit.

        Raises
        ------
        StateDictError
            Listing all missing, unexpected (unless ``strict=False``) and mis-shaped keys.
        """
        own = dict(self._state())
        arrays = {k: np.asarray(v.data if isinstance(v, Tensor) else v) for k, v in state_dict.items()}
        problems = []
        missing = [k for k in own if k not in arrays]
        unexpected = [k for k in arrays if k not in own]
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(unexpected))
        wrong = [f"{k} is {arrays[k].shape}, expected {own[k].shape}" for k in own if k in arrays
                 and arrays[k].shape != own[k].shape]
        if wrong:
            problems.append("wrong shape: " + "; ".join(wrong))
        if problems:
            raise StateDictError(f"load_state_dict for {type(self).__name__}: " + " | ".join(problems))
        for key, value in own.items():
            if key in arrays:
                np.copyto(value.data, arrays[key], casting="unsafe")
                value.bump_version()

    # ------------------------------------------------------------------ printing
    def extra_repr(self) -> str:
        """What to print between the brackets."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "".join(f"  {line}\n" for line in ([extra] if extra else []) + lines)
        return f"{type(self).__name__}(\n{body})"


class RemovableHandle:
    """Removes a module hook again."""

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
