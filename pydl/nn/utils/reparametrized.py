"""Weights that are computed from other parameters before each call: weight and spectral normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError
from pydl.graph.engine import wrap
from pydl.graph.modes import no_grad
from pydl.nn.module import Module, Parameter

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Reparametrised:
    """The hook that computes a weight before each call of its module, and takes itself away again."""

    kind = ""

    def __init__(self, module: Module, name: str) -> None:
        if not isinstance(module._parameters.get(name), Parameter):
            raise ArgumentError(f"{self.kind}: {type(module).__name__} has no parameter {name!r}; it has "
                                f"{', '.join(module._parameters) or 'none'}")
        self.name = name
        weight = module._parameters.pop(name)
        self.take(module, weight)
        setattr(module, name, self.compute(module))
        self.handle = module.register_forward_pre_hook(self)

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.compute(module))

    def take(self, module: Module, weight: Any) -> None:
        """Put what the weight is computed from into the module."""
        raise NotImplementedError

    def compute(self, module: Module) -> Any:
        raise NotImplementedError

    def parts(self) -> tuple[str, ...]:
        """Names of what `take` put into the module."""
        raise NotImplementedError

    def remove(self, module: Module) -> None:
        with no_grad():
            weight = self.compute(module).data.copy()
        self.handle.remove()
        delattr(module, self.name)
        for part in self.parts():
            delattr(module, part)
        module.register_parameter(self.name, Parameter(weight))


class _WeightNorm(_Reparametrised):
    kind = "weight_norm"

    def __init__(self, module: Module, name: str, dim: int | None) -> None:
        self.dim = dim
        super().__init__(module, name)

    def _norm(self, weight: Any) -> Any:
        if self.dim is None:
            return ops.norm(weight)
        dim = self.dim % weight.data.ndim
        return ops.norm(weight, 2.0, tuple(i for i in range(weight.data.ndim) if i != dim), keepdim=True)

    def take(self, module: Module, weight: Any) -> None:
        module.register_parameter(f"{self.name}_g", Parameter(self._norm(weight.detach()).data))
        module.register_parameter(f"{self.name}_v", weight)

    def compute(self, module: Module) -> Any:
        g, v = (getattr(module, part) for part in self.parts())
        return ops.mul(v, ops.div(g, self._norm(v)))

    def parts(self) -> tuple[str, ...]:
        return f"{self.name}_g", f"{self.name}_v"


class _SpectralNorm(_Reparametrised):
    kind = "spectral_norm"

    def __init__(self, module: Module, name: str, iterations: int, eps: float, dim: int) -> None:
        if iterations < 1:
            raise ArgumentError(f"spectral_norm: n_power_iterations={iterations}; expected at least 1")
        self.iterations, self.eps, self.dim = iterations, eps, dim
        super().__init__(module, name)

    def _matrix(self, weight: Any) -> Any:
        """Axis `dim` against all others."""
        return ops.reshape(ops.movedim(weight, self.dim, 0), (weight.data.shape[self.dim], -1))

    def take(self, module: Module, weight: Any) -> None:
        from pydl.random import randn

        rows, columns = self._matrix(weight).data.shape
        module.register_parameter(f"{self.name}_orig", weight)
        for part, n in ((f"{self.name}_u", rows), (f"{self.name}_v", columns)):
            module.register_buffer(part, ops.normalize(randn(n, dtype=weight.data.dtype), dim=0, eps=self.eps))

    def compute(self, module: Module) -> Any:
        weight, u, v = (getattr(module, part) for part in self.parts())
        matrix = self._matrix(weight)
        if module.training:
            with no_grad():
                for _ in range(self.iterations):
                    v.copy_(ops.normalize(ops.matmul(matrix.mT, u), dim=0, eps=self.eps))
                    u.copy_(ops.normalize(ops.matmul(matrix, v), dim=0, eps=self.eps))
        left, right = (wrap(np.array(part.data)) for part in (u, v))  # the next call changes u and v
        return ops.div(weight, ops.dot(left, ops.matmul(matrix, right)))

    def parts(self) -> tuple[str, ...]:
        return f"{self.name}_orig", f"{self.name}_u", f"{self.name}_v"


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """The weight as g v / |v|: a length and a direction, ``weight_g`` and ``weight_v``, learnt apart.

    One length for each slice along `dim`, or a single one if it is None. Source: Salimans and Kingma 2016.

    Examples
    --------
    >>> from pydl import nn
    >>> layer = nn.utils.weight_norm(nn.Linear(3, 2))
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'weight_g', 'weight_v']
    """
    _WeightNorm(module, name, dim)
    return module


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """The weight over its largest singular value, which power iterations during training estimate.

    The weight is kept as ``weight_orig``, the singular vectors as the buffers ``weight_u`` and ``weight_v``. `dim` is the
    axis of the outputs: by default 0, and 1 for transposed convolutions. Source: Miyato et al. 2018.
    """
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    _SpectralNorm(module, name, n_power_iterations, eps, dim)
    return module


def _remove(kind: type[_Reparametrised], module: Module, name: str) -> Module:
    for hook, _ in list(module._pre_hooks.values()):
        if isinstance(hook, kind) and hook.name == name:
            hook.remove(module)
            return module
    raise ArgumentError(f"remove_{kind.kind}: {type(module).__name__} has no {kind.kind} of {name!r}")


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """The weight as an ordinary parameter again, with the values that it has."""
    return _remove(_WeightNorm, module, name)


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """The weight as an ordinary parameter again, with the values that it has."""
    return _remove(_SpectralNorm, module, name)
