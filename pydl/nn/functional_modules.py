"""Modules that only hold arguments for one function: activations and losses, made from a table of records.

Each record gives the class name, the function, and its arguments with defaults; the class's docstring, signature and
``repr`` follow from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydl import ops
from pydl.nn.module import Module


class FunctionModule(Module):
    """Calls `function` with the inputs of forward and the arguments given at construction."""

    function: Callable[..., Any]
    parameters_of: inspect.Signature
    buffers_of: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        bound = self.parameters_of.bind(*args, **kwargs)
        bound.apply_defaults()
        self.arguments = {k: v for k, v in bound.arguments.items() if k not in self.buffers_of}
        for name in self.buffers_of:
            self.register_buffer(name, bound.arguments[name], persistent=False)

    def forward(self, *inputs: Any) -> Any:
        held = {name: self._buffers[name] for name in self.buffers_of}
        return type(self).function(*inputs, **self.arguments, **held)

    def extra_repr(self) -> str:
        usual = self.parameters_of.parameters
        return ", ".join(f"{k}={v!r}" for k, v in self.arguments.items() if v != usual[k].default)


def _make(name: str, function: Callable[..., Any], inputs: int, buffers: tuple[str, ...] = ()) -> type[FunctionModule]:
    parameters = list(inspect.signature(function).parameters.values())[inputs:]
    return type(name, (FunctionModule,), {
        "function": staticmethod(function),
        "parameters_of": inspect.Signature(parameters),
        "buffers_of": buffers,
        "__doc__": f"Module form of `pydl.{function.__name__}`: {function.__doc__}",
        "__module__": "pydl.nn",
    })


_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "ReLU": ops.relu, "LeakyReLU": ops.leaky_relu, "ELU": ops.elu, "CELU": ops.celu, "SELU": ops.selu, "GELU": ops.gelu,
    "SiLU": ops.silu, "Softplus": ops.softplus, "Softsign": ops.softsign, "Hardtanh": ops.hardtanh, "ReLU6": ops.relu6,
    "Hardsigmoid": ops.hardsigmoid, "Hardswish": ops.hardswish, "Mish": ops.mish, "LogSigmoid": ops.logsigmoid,
    "Tanhshrink": ops.tanhshrink, "Softshrink": ops.softshrink, "Hardshrink": ops.hardshrink, "Threshold": ops.threshold,
    "Step": ops.step, "GLU": ops.glu, "Tanh": ops.tanh, "Sigmoid": ops.sigmoid, "Softmax": ops.softmax,
    "LogSoftmax": ops.log_softmax, "Softmin": ops.softmin,
}
_LOSSES: dict[str, tuple[Callable[..., Any], int, tuple[str, ...]]] = {
    "MSELoss": (ops.mse_loss, 2, ()),
    "L1Loss": (ops.l1_loss, 2, ()),
    "SmoothL1Loss": (ops.smooth_l1_loss, 2, ()),
    "HuberLoss": (ops.huber_loss, 2, ()),
    "CrossEntropyLoss": (ops.cross_entropy, 2, ("weight",)),
    "NLLLoss": (ops.nll_loss, 2, ("weight",)),
    "BCELoss": (ops.binary_cross_entropy, 2, ("weight",)),
    "BCEWithLogitsLoss": (ops.binary_cross_entropy_with_logits, 2, ("weight", "pos_weight")),
    "KLDivLoss": (ops.kl_div, 2, ()),
    "HingeLoss": (ops.hinge_loss, 2, ()),
    "HingeEmbeddingLoss": (ops.hinge_embedding_loss, 2, ()),
    "SoftMarginLoss": (ops.soft_margin_loss, 2, ()),
    "MultiMarginLoss": (ops.multi_margin_loss, 2, ("weight",)),
    "MarginRankingLoss": (ops.margin_ranking_loss, 3, ()),
    "CosineEmbeddingLoss": (ops.cosine_embedding_loss, 3, ()),
    "TripletMarginLoss": (ops.triplet_margin_loss, 3, ()),
    "PoissonNLLLoss": (ops.poisson_nll_loss, 2, ()),
    "GaussianNLLLoss": (ops.gaussian_nll_loss, 3, ()),
    "CosineSimilarity": (ops.cosine_similarity, 2, ()),
}

MODULES: dict[str, type[FunctionModule]] = {name: _make(name, f, 1) for name, f in _ACTIVATIONS.items()}
MODULES |= {name: _make(name, *record) for name, record in _LOSSES.items()}
