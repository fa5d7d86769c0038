"""Reuse of trained networks: parts that stay as they are, a new last layer, rates of their own for parts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydl import nn
from pydl.errors import ArgumentError
from pydl.nn.module import Module

__all__ = ["classifiers", "freeze", "parameter_groups", "replace_head", "unfreeze"]

M = TypeVar("M", bound=Module)


def classifiers(model: Module) -> list[str]:
    """The paths of the layers that give the scores: what `replace_head` replaces.

    The last linear layer or 1 x 1 convolution, in the order in which parts are set; a network with several heads names them
    in its attribute ``classifiers``.
    """
    named = [path for path in getattr(model, "classifiers", ()) if model._modules.get(path.split(".")[0]) is not None]
    if named:
        return named
    last = None
    for path, layer in model.named_modules():
        if any(True for _ in layer.parameters(recurse=False)):
            last = path, layer
    if last is None or not _is_classifier(last[1]):
        what = "no parameters" if last is None else f"its last parameters in {type(last[1]).__name__} {last[0]}".rstrip()
        raise ArgumentError(f"replace_head: {type(model).__name__} has {what}; expected a Linear or a 1 x 1 Conv2d. "
                            "Name the layer that gives the scores: path='...'")
    return [last[0]]


def _is_classifier(layer: Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1})


def replace_head(model: M, num_classes: int, path: str | None = None) -> M:
    """Put new layers, freshly initialised, in the place of those that give the scores.

    Parameters
    ----------
    model : Module
        Changed in place, and returned. The new layers are trainable; make the optimizer afterwards.
    num_classes : int
        Scores to give from now on.
    path : str, optional
        Of the layer, where `classifiers` does not find it.

    Examples
    --------
    >>> from pydl import models
    >>> models.replace_head(models.create("lenet5"), 3).output
    Linear(in_features=84, out_features=3, bias=True)
    """
    if num_classes < 1:
        raise ArgumentError(f"replace_head: num_classes={num_classes}; expected 1 or more")
    for place in [path] if path is not None else classifiers(model):
        old = model.get_submodule(place)
        if not _is_classifier(old) or not place:
            raise ArgumentError(f"replace_head: {place or 'the model itself'} is {type(old).__name__}; expected the path of "
                                "a part that is a Linear or a 1 x 1 Conv2d")
        new: Any
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, num_classes, old.bias is not None)
        else:
            new = nn.Conv2d(old.in_channels, num_classes, 1, bias=old.bias is not None)
        nn.init.normal_(new.weight, 0, 0.01)  # scores start near 0, whatever comes in
        if new.bias is not None:
            nn.init.zeros_(new.bias)
        new.to(dtype=old.weight.dtype).train(old.training)
        owner, _, name = place.rpartition(".")
        setattr(model.get_submodule(owner), name, new)
    return model


# --------------------------------------------------------------------------- what learns


def _before(model: Module, place: str | None, caller: str) -> tuple[list[tuple[str, Module]], list[tuple[str, Module]]]:
    """The parts before `place` (None: all) and those from it on, in the order in which they are set."""
    parts = [*model.named_modules()]
    if place is None:
        return parts, []
    paths = [path for path, _ in parts]
    if place not in paths or not place:
        raise ArgumentError(f"{caller}: {type(model).__name__} has no part {place!r}{_near(place, paths)}")
    i = paths.index(place)
    return parts[:i], parts[i:]


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    tops = [k for k in dict.fromkeys(k.split(".")[0] for k in known) if k]
    return f"; did you mean {' or '.join(near)}?" if near else f"; its parts are {', '.join(tops)}"


def _set(parts: list[tuple[str, Module]], learns: bool) -> None:
    for _, part in parts:
        for p in part.parameters(recurse=False):
            p.requires_grad = learns
        if hasattr(part, "frozen"):
            part.frozen = not learns
            if not learns:
                part.eval()


def freeze(model: M, until: str | None = None) -> M:
    """Let nothing before the part `until` learn any more; without it, nothing at all.

    Frozen batch norms also stay in evaluation, ``model.train()`` notwithstanding: their running statistics are part of what
    was learnt. Give the optimizer what is left, ``[p for p in model.parameters() if p.requires_grad]`` or `parameter_groups`.

    Parameters
    ----------
    model : Module
        Changed in place, and returned.
    until : str, optional
        Path of the first part that goes on learning, in the order in which parts are set, "layer4" or "features.10" say.

    Examples
    --------
    >>> from pydl import models
    >>> model = models.freeze(models.create("resnet18", width=8), until="layer4")
    >>> {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"layer4", "fc"}
    True
    """
    _set(_before(model, until, "freeze")[0], False)
    return model


def unfreeze(model: M, start: str | None = None) -> M:
    """Let the part `start` and all after it learn (again); without it, everything."""
    before, after = _before(model, start, "unfreeze")
    _set(after if start is not None else before, True)
    return model


def parameter_groups(model: Module, rates: Mapping[str, float | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups of parameters for an optimizer, each with its own learning rate or further options.

    Parameters
    ----------
    model : Module
        Parameters that are frozen are left out.
    rates : dict
        From the beginning of parameters' names, whole parts of them ("fc", "layer4.1"), to a rate or to a dict of options;
        the longest one that fits counts, and "" fits all.

    Raises
    ------
    ArgumentError
        For a name that fits nothing, and for parameters that no name fits.

    Examples
    --------
    >>> from pydl import models, optim
    >>> model = models.create("resnet18", width=8)
    >>> groups = models.parameter_groups(model, {"": 1e-4, "layer4": 1e-3, "fc": {"lr": 1e-2, "weight_decay": 0.0}})
    >>> [group["lr"] for group in optim.AdamW(groups).param_groups]
    [0.0001, 0.001, 0.01]
    """
    groups: dict[str, dict[str, Any]] = {
        prefix: {"params": [], **(options if isinstance(options, Mapping) else {"lr": options})}
        for prefix, options in rates.items()
    }
    used, left = set(), []
    for name, p in model.named_parameters():
        fits = [prefix for prefix in groups if prefix == "" or name == prefix or name.startswith(f"{prefix}.")]
        used.update(fits)
        if not p.requires_grad:
            continue
        if fits:
            groups[max(fits, key=len)]["params"].append(p)
        else:
            left.append(name)
    if unknown := [prefix for prefix in groups if prefix not in used]:
        paths = [path for path, _ in model.named_modules()]
        raise ArgumentError(f"parameter_groups: no parameter's name begins with {unknown[0]!r}{_near(unknown[0], paths)}")
    if left:
        others = " and others" if len(left) > 3 else ""
        raise ArgumentError(f"parameter_groups: no rate for {', '.join(left[:3])}{others}; freeze them, or give a rate for "
                            "all others under ''")
    return [group for group in groups.values() if group["params"]]
