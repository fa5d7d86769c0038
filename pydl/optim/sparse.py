"""Adam for tables of vectors of which a step touches few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError
from pydl.graph.engine import wrap
from pydl.graph.modes import enable_grad
from pydl.optim.optimizer import _KINDS, Adam

__all__ = ["SparseAdam"]


class SparseAdam(Adam):
    """Adam that moves the rows of `nn.RowEmbedding` tables that got a gradient, and their moments alone.

    A row that a step does not name stays as it is (with `Adam` it would go on by its momentum). Numbers as of PyTorch's
    ``optim.SparseAdam``.

    Parameters
    ----------
    tables : RowEmbedding, or an iterable of them
    lr, betas, eps
        As of `Adam`.
    """

    def __init__(
        self, tables: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:  # fmt: skip
        from pydl.nn.row_embedding import RowEmbedding

        self.tables: list[Any] = list(tables) if isinstance(tables, Iterable) else [tables]
        for table in self.tables:
            if not isinstance(table, RowEmbedding):
                raise ArgumentError(f"SparseAdam: expected nn.RowEmbedding tables, got {type(table).__name__}; other parameters "
                                    "need an optimizer of their own")
        super().__init__([table.weight for table in self.tables], lr, betas, eps)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for table in self.tables:
            table.forget()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        options = self.param_groups[0]
        for table in self.tables:
            found = table.gradient()
            if found is not None:
                self._update(table.weight, found[0], found[1], options)
        return loss

    def _update(self, weight: Any, rows: np.ndarray, gradient: np.ndarray, group: dict[str, Any]) -> None:
        from pydl.nn.row_embedding import take_rows

        state = self.state.setdefault(weight, {"step": 0})
        for name in ("exp_avg", "exp_avg_sq"):
            if name not in state:
                state[name] = wrap(np.zeros(weight.shape, weight.dtype))
        state["step"] += 1
        whole = [weight.data, state["exp_avg"].data, state["exp_avg_sq"].data]
        parts = [take_rows(array, rows) for array in whole]
        _core.optim_step(_KINDS["adam"], [parts[0]], [np.ascontiguousarray(gradient)], [parts[1]], [parts[2]], [],
                         self.options(group, state["step"], False))
        for array, part in zip(whole, parts, strict=True):
            array[rows] = part
        weight.bump_version()
