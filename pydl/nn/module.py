"""`Module`: a part of a network with its parameters; `Parameter`: a tensor that it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pydl.errors import ArgumentError, GraphError, PydlError, TooSmallError
from pydl.graph import engine
from pydl.nn.hooks import BackwardWatch, RemovableHandle
from pydl.nn.least_size import least_size
from pydl.ops._common import empty_like
from pydl.tensor import Tensor, requested_dtype

__all__ = ["Module", "Parameter"]

M = TypeVar("M", bound="Module")
_TABLES = ("_parameters", "_buffers", "_modules")


class Parameter(Tensor):
    """A tensor that a module learns: it requires a gradient and appears in `parameters()`."""

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        return super().__new__(cls, data, None, requires_grad)


class StateDictError(PydlError, RuntimeError):
    """A state dict does not fit a module: every missing, unexpected and mis-shaped key is listed."""


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` with ``strict=False`` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and networks.

    Subclasses set parameters, buffers and other modules as attributes in ``__init__`` and define ``forward``.
    """

    training: bool = True

    def __init__(self) -> None:
        for name in (*_TABLES, "_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "_transient", set())
        object.__setattr__(self, "_name", "")
        object.__setattr__(self, "training", True)

    # ------------------------------------------------------------------ attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise GraphError(f"{type(self).__name__}.{name}: call super().__init__() before setting attributes")
        if isinstance(value, Parameter):
            self._put("_parameters", name, value)
        elif isinstance(value, Module):
            self._put("_modules", name, value)
        elif (table := next((t for t in _TABLES if name in self.__dict__[t]), None)) is not None:
            if value is not None and not (table == "_buffers" and isinstance(value, Tensor)):
                kind = {"_parameters": "a Parameter", "_modules": "a Module", "_buffers": "a Tensor"}[table]
                raise ArgumentError(f"{type(self).__name__}.{name}: expected {kind} or None, got {type(value).__name__}")
            self.__dict__[table][name] = value
        else:
            object.__setattr__(self, name, value)

    def _put(self, table: str, name: str, value: Any) -> None:
        """Set an entry of one table; a replaced entry keeps its place in the order."""
        self.__dict__.pop(name, None)
        for other in _TABLES:
            if other != table:
                self.__dict__[other].pop(name, None)
        self.__dict__[table][name] = value
        if table == "_modules" and value is not None:
            self._name_part(name, value)

    def _name_part(self, name: str, part: Module) -> None:
        """The name of a part in messages. What defines no forward (a list of modules) is never called: its parts name it."""
        called = type(self).forward is not Module.forward
        object.__setattr__(part, "_name", name if called or not self._name else f"{self._name}.{name}")
        if type(part).forward is Module.forward:
            for inner, module in part.named_children():
                part._name_part(inner, module)

    def _register(self, table: str, name: str, value: Any, kind: type, noun: str) -> None:
        if "_parameters" not in self.__dict__:
            raise GraphError(f"{type(self).__name__}: call super().__init__() before registering {noun} {name!r}")
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(f"{type(self).__name__}: {noun} name {name!r}; expected a text without dots, not empty")
        if hasattr(self, name) and name not in self.__dict__[table]:
            raise ArgumentError(f"{type(self).__name__}: {noun} name {name!r} is an attribute already")
        if value is not None and not isinstance(value, kind):
            raise ArgumentError(f"{type(self).__name__}: {noun} {name!r} must be a {kind.__name__}, got {type(value).__name__}")
        self._put(table, name, value)

    def __getattr__(self, name: str) -> Any:
        for table in _TABLES:
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
        self._register("_parameters", name, param, Parameter, "parameter")

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """State that is saved but not learnt, such as running means; not saved if ``persistent=False``."""
        self._register("_buffers", name, tensor, Tensor, "buffer")
        (self._transient.discard if persistent else self._transient.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """A part under a name."""
        self._register("_modules", name, module, Module, "module")

    add_module = register_module

    # ------------------------------------------------------------------ calling
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        engine.push_module(self._name)
        engine.note_object(self)
        try:
            if not self.has_hooks():
                return self.forward(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        except PydlError as error:
            error.add_module(self._name)
            if isinstance(error, TooSmallError) and not engine.current_module_path():
                error.least = least_size(self, args)
            raise
        finally:
            engine.pop_module()

    def has_hooks(self) -> bool:
        """Whether something watches the calls of this module (not of its parts)."""
        return bool(self._pre_hooks or self._forward_hooks or self._backward_hooks or self._backward_pre_hooks)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook, with_kwargs in list(self._pre_hooks.values()):
            if with_kwargs:
                changed = hook(self, args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            elif (changed := hook(self, args)) is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        watch = None
        if self._backward_hooks or self._backward_pre_hooks:
            watch = BackwardWatch(self, list(self._backward_pre_hooks.values()), list(self._backward_hooks.values()))
            args = watch.enter(args)
        out = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks.values()):
            changed = hook(self, args, kwargs, out) if with_kwargs else hook(self, args, out)
            if changed is not None:
                out = changed
        return out if watch is None else watch.leave(out)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args)` before forward; what it returns replaces the arguments.

        With `with_kwargs` it is ``hook(module, args, kwargs)``, and returns both.
        """
        return _add_hook(self._pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args, output)` after forward; what it returns replaces the output.

        With `with_kwargs` it is ``hook(module, args, kwargs, output)``.
        """
        return _add_hook(self._forward_hooks, (hook, with_kwargs), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_output)` when the gradients of all outputs are known; what it returns replaces them."""
        return _add_hook(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_input, grad_output)` when the gradients of all inputs are known.

        Both are tuples with one entry for each positional argument and each output, None where there is no gradient. What
        the hook returns replaces `grad_input`. If no input requires a gradient, it is called as soon as `grad_output` is
        known.
        """
        return _add_hook(self._backward_hooks, hook, prepend)

    # ------------------------------------------------------------------ walking
    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all parts, with their paths; a shared part appears once, unless `remove_duplicate` is off."""
        seen: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if remove_duplicate and id(module) in seen:
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

    def _named(self, table: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else iter([(prefix, self)]):
            for name, value in getattr(module, table).items():
                if value is not None and not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths; a shared one appears once, under its first name."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers", prefix, recurse, remove_duplicate)

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
        return self._entry("_parameters", target, "get_parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        return self._entry("_buffers", target, "get_buffer")

    def _entry(self, table: str, target: str, caller: str) -> Any:
        path, _, name = target.rpartition(".")
        entries = self.get_submodule(path).__dict__[table]
        if entries.get(name) is None:
            raise ArgumentError(f"{caller}: no {caller[4:]} {target!r}; that module has {list(entries)}")
        return entries[name]

    def apply(self: M, function: Callable[[Module], None]) -> M:
        """Call `function` on every part, children first, then on the module itself."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ------------------------------------------------------------------ modes
    def train(self: M, mode: bool = True) -> M:
        """Training mode for this module and, by their own `train`, for all parts."""
        object.__setattr__(self, "training", bool(mode))
        for child in self.children():
            child.train(mode)
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

    def to(self: M, *args: Any, dtype: Any = None, device: Any = None) -> M:
        """Convert floating parameters, their gradients, and buffers, in place: ``to(pydl.float64)``, ``to(tensor)``.

        The device "cpu" is accepted and changes nothing; others are refused, as in `Tensor.to`.
        """
        dtype = requested_dtype(args, dtype, device)
        if dtype is None:
            return self
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise ArgumentError(f"{type(self).__name__}.to: {dtype} is no floating type")
        for value in [*self.parameters(), *self.buffers()]:
            for t in (value, value.grad):
                if t is not None and t.data.dtype.kind == "f" and t.data.dtype != dtype:
                    converted = empty_like(t.data, dtype)
                    np.copyto(converted, t.data, casting="same_kind")
                    t.data = converted
                    t.bump_version()
        return self

    def cpu(self: M) -> M:
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

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Name -> tensor for all parameters and persistent buffers; the tensors share the module's memory."""
        return {prefix + name: value.detach() for name, value in self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values from a state dict; nothing is changed if anything does not fit.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``, both empty if `strict`.

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
        return IncompatibleKeys(missing, unexpected)

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


def _add_hook(table: dict[int, Any], entry: Any, prepend: bool) -> RemovableHandle:
    handle = RemovableHandle(table)
    if prepend:
        later = dict(table)
        table.clear()
        table[handle.key] = entry
        table.update(later)
    else:
        table[handle.key] = entry
    return handle
