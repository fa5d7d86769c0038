"""`Optimizer` and the update rules; a whole step over all parameters is one native call (csrc/cpu/optim.cpp)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import Guard, Notes, TensorCore, current_notes, run_observed, wrap
from pydl.graph.modes import enable_grad
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import copy, empty_like, fill, is_dense

Names = tuple[str | None, str | None, str | None]
_KINDS = {"sgd": 0, "adam": 1, "rmsprop": 2, "adagrad": 3}


class OptimizerStep(Op):
    """One update of many parameters by one native call."""

    name = "optimizer_step"

    @staticmethod
    def forward(ctx: Any, kind: str, targets: list[Any], gradients: list[Any], states: list[list[Any]], options: Any) -> None:
        _core.optim_step(_KINDS[kind], targets, gradients, *states, options)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        """Parameters and state are read and written, gradients read; about three operations for each array and element."""
        _, targets, gradients, states, _ = args
        kept = [a for group in states for a in group]
        elements = sum(a.size for a in targets)
        arrays = 2 + len(kept) / max(len(targets), 1)
        moved = sum(2 * a.nbytes for a in [*targets, *kept]) + sum(a.nbytes for a in gradients)
        return Cost(int(3 * (arrays - 1) * elements), moved)


class Optimizer:
    """Base: parameter groups with their own options, and per-parameter state.

    Parameters
    ----------
    params : iterable of Parameter, or of dicts with the key "params" and options of their own
    """

    kind = ""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Any, dict[str, Any]] = {}  # by parameter
        if isinstance(params, TensorCore):
            raise ArgumentError(f"{type(self).__name__}: params is one tensor; expected a list of tensors, or of dicts")
        groups = list(params)
        if not groups:
            raise ArgumentError(f"{type(self).__name__}: got no parameters")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(dict(group))

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters with options of their own; missing options take the optimizer's defaults."""
        name = type(self).__name__
        if "params" not in group:
            raise ArgumentError(f"{name}: a group of parameters is a dict with the key 'params', got {sorted(group)}")
        params = group["params"]
        group["params"] = [params] if isinstance(params, TensorCore) else list(params)
        unknown = set(group) - set(self.defaults) - {"params", "initial_lr"}
        if unknown:
            raise ArgumentError(f"{name}: unknown options {sorted(unknown)}; expected {sorted(self.defaults)}")
        present = {id(p) for g in self.param_groups for p in g["params"]}
        for p in group["params"]:
            if not isinstance(p, TensorCore):
                raise ArgumentError(f"{name}: expected tensors, got {type(p).__name__}; pass model.parameters()")
            if id(p) in present:
                raise ArgumentError(f"{name}: a parameter of shape {p.data.shape} is listed twice")
            if not p.is_leaf:
                raise ArgumentError(f"{name}: a tensor of shape {p.data.shape} is computed, not a leaf")
            present.add(id(p))
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "weight_decay", "eps", "momentum", "alpha", "lr_decay", "initial_accumulator_value"):
            if not group.get(name, 0) >= 0:
                raise ArgumentError(f"{type(self).__name__}: {name} must not be negative, got {group[name]}")
        for i, beta in enumerate(group.get("betas", ())):
            if not 0 <= beta < 1:
                raise ArgumentError(f"{type(self).__name__}: betas[{i}] must be in [0, 1), got {beta}")
        if group.get("nesterov") and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(f"{type(self).__name__}: nesterov needs a momentum and no dampening")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients (or fill them with zeros)."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad.zero_()

    # ------------------------------------------------------------------ the step
    def state_names(self, group: dict[str, Any]) -> Names:
        """Names of the (up to three) arrays that this rule keeps for each parameter."""
        raise NotImplementedError

    def options(self, group: dict[str, Any], step: int, fresh: bool) -> dict[str, Any]:
        """The numbers that the native step takes; `fresh` parameters have no state yet."""
        raise NotImplementedError

    def initial(self, name: str, group: dict[str, Any]) -> float:
        """What a new array of state is filled with."""
        return 0.0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; `closure`, if given, computes the loss first, which is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            names = self.state_names(group)
            # One native call for each (dtype, step count): a parameter without a gradient until now starts later.
            batches: dict[tuple[Any, int, bool], list[Any]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state.setdefault(p, {"step": 0})
                    state["step"] += 1
                    fresh = any(n is not None and n not in state for n in names)
                    batches.setdefault((p.dtype, state["step"], fresh), []).append(p)
            for (_, count, fresh), members in batches.items():
                self._native(group, names, self.options(group, count, fresh), members)
        return loss

    def _native(self, group: dict[str, Any], names: Names, options: dict[str, Any], members: list[Any]) -> None:
        arrays: list[list[np.ndarray]] = [[], [], []]
        targets, gradients = [], []
        for p in members:
            if p.grad.shape != p.shape:
                raise ShapeError(f"{type(self).__name__}: gradient {p.grad.shape} for a parameter {p.shape}")
            target = p.data if is_dense(p.data) else copy(p.data)
            targets.append(target)
            gradients.append(_like(p.grad.data, target))
            state = self.state[p]
            for i, name in enumerate(names):
                if name is None:
                    continue
                if name not in state:
                    start = empty_like(target)
                    fill(start, self.initial(name, group))
                    state[name] = wrap(start)
                state[name].data = _like(state[name].data, target)
                arrays[i].append(state[name].data)
        run_observed(OptimizerStep, self.kind, targets, gradients, arrays, options)
        if (notes := current_notes()) is not None:
            _Replayed(self, group, members, notes)
        for p, target in zip(members, targets, strict=True):
            if target is not p.data:  # a parameter with gaps in its memory
                np.copyto(p.data, target)
            p.bump_version()

    # ------------------------------------------------------------------ saving
    def state_dict(self) -> dict[str, Any]:
        """State by the parameter's number, and the options of each group (JSON-able but for the state's tensors)."""
        numbers = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        return {
            "state": {numbers[id(p)]: dict(value) for p, value in self.state.items() if id(p) in numbers},
            "param_groups": [
                {**{k: v for k, v in g.items() if k != "params"}, "params": [numbers[id(p)] for p in g["params"]]}
                for g in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over state and options; the groups must have the same sizes and shapes."""
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise ArgumentError(f"{type(self).__name__}: state for groups of {sizes} parameters, this one has {own}")
        for group in groups:
            missing = sorted(set(self.defaults) - set(group))
            if missing:
                raise ArgumentError(f"{type(self).__name__}: state of another kind of optimizer, without {missing}")
        params = [p for g in self.param_groups for p in g["params"]]
        fresh: dict[Any, dict[str, Any]] = {}
        for number, values in state_dict["state"].items():
            p = params[int(number)]
            entry: dict[str, Any] = {}
            for name, value in values.items():
                if not hasattr(value, "shape"):
                    entry[name] = value
                    continue
                array = np.asarray(getattr(value, "data", value))
                if array.shape != p.shape:
                    raise ShapeError(f"{type(self).__name__}: {name} of parameter {number} is {array.shape}, expected {p.shape}")
                kept = empty_like(p.data)
                np.copyto(kept, array)
                entry[name] = wrap(kept)
            fresh[p] = entry
        self.state = fresh
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k != "params"})

    def __repr__(self) -> str:
        lines = [f"{k}={v}" for k, v in self.param_groups[0].items() if k != "params"]
        return f"{type(self).__name__}({len(self.param_groups)} groups, {', '.join(lines)})"


class _Replayed:
    """Before a replay of a captured step (pydl.capture): the step count goes on, and the options are taken anew."""

    optimizers = 1  # native steps that it looks after

    def __init__(self, optimizer: Optimizer, group: dict[str, Any], members: list[Any], notes: Notes) -> None:
        self.optimizer, self.group = optimizer, group
        self.states = [optimizer.state[p] for p in members]
        self.index = notes.tape.optimizers() - 1
        notes.hooks.append(self)
        notes.owned.extend((group, *self.states))
        notes.kept.extend(Guard(0, group, key, f"{key} of the optimizer") for key, value in group.items()
                          if isinstance(value, bool) or key == "momentum")
        for p, state in zip(members, self.states, strict=True):
            notes.kept.append(Guard(0, optimizer.state, p, "the state of the optimizer"))
            notes.kept.extend(Guard(3, value, None, f"{name} of the optimizer") for name, value in state.items()
                              if isinstance(value, TensorCore))

    def __call__(self, tape: Any) -> None:
        for state in self.states:
            state["step"] += 1
        tape.set_optimizer(self.index, self.optimizer.options(self.group, self.states[0]["step"], False))


def _like(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The array in the memory layout of another (the native step walks both as one run)."""
    return array if array.strides == like.strides else copy(array, empty_like(like))


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + (1 - dampening) g, p -= lr v; with Nesterov p -= lr (g + momentum v).

    g includes weight_decay * p. At the first step v = g, whatever the dampening, as in PyTorch.
    """

    kind = "sgd"

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})

    def state_names(self, group: dict[str, Any]) -> Names:
        return ("momentum_buffer" if group["momentum"] else None, None, None)

    def options(self, group: dict[str, Any], step: int, fresh: bool) -> dict[str, Any]:
        return {**{k: v for k, v in group.items() if k != "params"}, "first": fresh}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2014): steps by the running mean of g over the root of the running mean of g^2.

    weight_decay is added to the gradient (L2); `AdamW` decouples it.
    """

    kind = "adam"
    decoupled = False

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize})

    def state_names(self, group: dict[str, Any]) -> Names:
        return "exp_avg", "exp_avg_sq", "max_exp_avg_sq" if group["amsgrad"] else None

    def options(self, group: dict[str, Any], step: int, fresh: bool) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {**{k: v for k, v in group.items() if k not in ("params", "betas")}, "beta1": beta1, "beta2": beta2,
                "decoupled": self.decoupled, "correction1": 1 - beta1**step, "correction2": 1 - beta2**step}


class AdamW(Adam):
    """Adam with weight decay applied to the weights themselves (Loshchilov and Hutter 2017): p *= 1 - lr weight_decay."""

    decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


class RMSprop(Optimizer):
    """RMSprop (Hinton, lecture notes 2012): g over the root of the running mean of g^2; centred: of the variance."""

    kind = "rmsprop"

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
                                  "centered": centered, "maximize": maximize})

    def state_names(self, group: dict[str, Any]) -> Names:
        return "square_avg", "momentum_buffer" if group["momentum"] else None, "grad_avg" if group["centered"] else None

    def options(self, group: dict[str, Any], step: int, fresh: bool) -> dict[str, Any]:
        return {**{k: v for k, v in group.items() if k not in ("params", "alpha")}, "beta2": group["alpha"]}


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): g over the root of the sum of all g^2; the rate decays as lr / (1 + (t - 1) lr_decay)."""

    kind = "adagrad"

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize})

    def state_names(self, group: dict[str, Any]) -> Names:
        return "sum", None, None

    def initial(self, name: str, group: dict[str, Any]) -> float:
        return float(group["initial_accumulator_value"])

    def options(self, group: dict[str, Any], step: int, fresh: bool) -> dict[str, Any]:
        rate = group["lr"] / (1 + (step - 1) * group["lr_decay"])
        return {"lr": rate, "weight_decay": group["weight_decay"], "eps": group["eps"], "maximize": group["maximize"]}
