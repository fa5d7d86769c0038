"""Modules that hold other modules or parameters: in a row, in a list, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydl.errors import ArgumentError
from pydl.nn.functional_modules import ReLU
from pydl.nn.fusion import commutes, folded, folds, fused, fuses, leaves_pooling
from pydl.nn.module import Module, Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _Indexed(Module):
    """Shared by the containers whose members are numbered."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def _key(self, index: int) -> str:
        """The name of the member at a position, negative ones counted from the end."""
        if not isinstance(index, int) or not -len(self) <= index < len(self):
            raise ArgumentError(f"{type(self).__name__}: index {index} for {len(self)} modules")
        return list(self._modules)[index]

    def __getitem__(self, index: Any) -> Any:
        """A member, or for a slice a container of the members, under the names they have."""
        if not isinstance(index, slice):
            return self._modules[self._key(index)]
        part = type(self)()
        part._modules.update(list(self._modules.items())[index])
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        self.register_module(self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]
        for key in keys:
            del self._modules[key]
        self._renumber(list(self._modules.items()))

    def _renumber(self, members: list[tuple[str, Any]]) -> None:
        """Members that are named by a number get the number of their position."""
        self._modules.clear()
        for i, (name, module) in enumerate(members):
            self.register_module(str(i) if name.isdecimal() else name, module)

    def append(self, module: Module) -> Any:
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        for m in modules:
            self.append(m)
        return self

    __iadd__ = extend

    def insert(self, index: int, module: Module) -> Any:
        members = list(self._modules.items())
        members.insert(index, ("0", module))
        self._renumber(members)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take a member out."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Indexed):
    """Modules applied one after the other: ``Sequential(a, b)`` or ``Sequential({"name": a, ...})``."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            self.extend(modules)

    def forward(self, input: Any) -> Any:
        modules = list(self._modules.values())
        i = 0
        while i < len(modules):
            layer, then, last = (modules[i : i + 3] + [None, None])[:3]
            if then is not None and folds(layer, then, input):
                relu = type(last) is ReLU and not last.has_hooks()
                input = folded(layer, then, input, relu)
                i += 3 if relu else 2
                continue
            pooled = then is not None and last is not None and commutes(then, last)
            if then is not None and fuses(layer, then) and not (pooled and leaves_pooling(layer)):
                input = fused(layer, then, input)
                i += 2
            elif then is not None and commutes(layer, then):
                input = layer(then(input))
                i += 2
            else:
                input = layer(input)
                i += 1
        return input


class ModuleList(_Indexed):
    """A list of modules; calling it is the owner's business."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ModuleDict(Module):
    """Modules by name."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace members."""
        for name, module in modules.items():
            self.register_module(name, module)

    def pop(self, key: str) -> Module:
        """Take a member out."""
        return self._modules.pop(key)

    def clear(self) -> None:
        self._modules.clear()

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def items(self) -> Any:
        return self._modules.items()

    def keys(self) -> Any:
        return self._modules.keys()

    def values(self) -> Any:
        return self._modules.values()


class ParameterList(Module):
    """A list of parameters."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        for v in values:
            self.append(v)

    def append(self, value: Any) -> ParameterList:
        if not isinstance(value, Parameter):
            raise ArgumentError(f"ParameterList: expected a Parameter, got {type(value).__name__}")
        self.register_parameter(str(len(self._parameters)), value)
        return self

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int) -> Any:
        return list(self._parameters.values())[index]


class ParameterDict(Module):
    """Parameters by name."""

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        for name, p in (parameters or {}).items():
            self[name] = p

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, value)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def items(self) -> Any:
        return self._parameters.items()

    def keys(self) -> Any:
        return self._parameters.keys()

    def values(self) -> Any:
        return self._parameters.values()
