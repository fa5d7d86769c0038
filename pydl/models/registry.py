"""Networks by name: `register` puts one in, `create` makes it, `list` gives the names."""

from __future__ import annotations

import builtins
import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydl.errors import ArgumentError
from pydl.nn.module import Module

F = TypeVar("F", bound=Callable[..., Module])


@dataclass(frozen=True)
class Entry:
    """What is registered: how to make the network, and the shape of one example that it takes (no batch axis)."""

    make: Callable[..., Module]
    input_size: tuple[int, ...] | None = None


_ENTRIES: dict[str, Entry] = {}


def register(name: str, input_size: tuple[int, ...] | None = None) -> Callable[[F], F]:
    """Decorator for a class or function that makes a network: it becomes known to `create` and to the command line.

    Examples
    --------
    >>> from pydl import models, nn
    >>> @models.register("one-layer", input_size=(4,))
    ... def one_layer(num_classes=3):
    ...     return nn.Linear(4, num_classes)
    >>> models.create("one-layer", num_classes=5)
    Linear(in_features=4, out_features=5, bias=True)
    """
    if not name or any(c in name for c in ":/\\") or name != name.lower():
        raise ArgumentError(f"models.register: {name!r} cannot be a name; use lower case without ':' and '/'")

    def decorate(make: F) -> F:
        if name in _ENTRIES and _ENTRIES[name].make is not make:
            raise ArgumentError(f"models.register: the name {name!r} is taken by {_ENTRIES[name].make!r}")
        _ENTRIES[name] = Entry(make, input_size)
        return make

    return decorate


def list() -> builtins.list[str]:
    """The names that `create` knows, sorted."""
    return sorted(_ENTRIES)


def entry(name: str) -> Entry:
    """The record under a name, or `ArgumentError` with the names that come near."""
    if name not in _ENTRIES:
        near = difflib.get_close_matches(name.lower(), _ENTRIES, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(list())}"
        raise ArgumentError(f"models: no network is called {name!r}; {hint}")
    return _ENTRIES[name]


def create(name: str, *, weights: str | os.PathLike[str] | None = None, download: bool = False, **kwargs: Any) -> Module:
    """A new network by its registered name; the arguments go to its constructor.

    Parameters
    ----------
    weights : str or path, optional
        "imagenet" (see `published`) for weights that a package carries, or the path of a .safetensors or .pth file. With another
        `num_classes` than the published one the network gets a new last layer.
    download : bool
        Fetch published weights if they are not in the cache.

    Raises
    ------
    WeightsNotFoundError
        If published weights are not in the cache; the message says what provides them.
    """
    make = entry(name).make
    if weights is None:
        return make(**kwargs)
    from pydl.models.pretrained import published
    from pydl.models.surgery import replace_head
    from pydl.models.weights import load_weights
    from pydl.nn import init

    if os.path.splitext(weights)[1]:
        with init.skip():
            model = make(**kwargs)
        return load_weights(model, weights)
    found = published(name, os.fspath(weights))
    path = found.path(None, download)
    if found.num_classes is None:
        return found.read(path, **kwargs)
    classes = kwargs.pop("num_classes", found.num_classes)
    model = found.read(path, num_classes=found.num_classes, **kwargs)
    return model if classes == found.num_classes else replace_head(model, classes)
