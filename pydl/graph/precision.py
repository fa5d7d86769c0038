"""In what precision products are computed: `autocast` for a part of a program, `set_float32_matmul_precision` for all of it."""

from __future__ import annotations

from typing import Any

from pydl import _core
from pydl.errors import ArgumentError
from pydl.graph.modes import _Mode

__all__ = ["autocast", "get_float32_matmul_precision", "set_float32_matmul_precision"]

_BFLOAT16 = 1
_CODES = {"highest": 0, "high": 2, "medium": _BFLOAT16}  # of csrc/core/precision.h
_chosen = "highest"


def _check_bfloat16(who: str, otherwise: str) -> None:
    if reason := _core.why_no_bfloat16():
        raise ArgumentError(f"[{who}] bfloat16 products need AVX512-BF16, and {reason}; {otherwise}")


class autocast(_Mode):
    """Mixed precision: inside, products of float32 numbers are computed in bfloat16 and summed in float32.

    Matrix products (`matmul`, `linear` and all that is made of them), convolutions, recurrent layers and attention round both
    factors to bfloat16 (8 significant bits, the exponents of float32) while they pack them: relative errors of about 2e-3
    (2-norm), 3e-3 to 4e-3 of attention, which is two products with a softmax in float32 between.
    Tensors, weights, gradients and the optimizer's state stay float32, so no copy of the weights is kept and no loss need be
    scaled. Backward computes each product in the precision of its forward, wherever it is called. What would gain nothing, or
    lose more, stays exact: convolutions by Winograd's method with tiles of four (as fast in float32; tiles of two are computed
    in bfloat16, with relative errors of up to 4e-3) or 5x5 filters, convolutions of few channels, linear layers on up to 32
    rows and data gradients of up to 8 (whose time is that of reading the weights), attention of fewer than 64 queries or keys,
    and everything that is no product.

    Also a decorator. Each thread has its own: data-loader workers are not affected.

    Parameters
    ----------
    dtype : "bfloat16" or pydl.bfloat16
    enabled : bool
        False makes it do nothing inside another `autocast`: products are float32 there (or what `set_float32_matmul_precision`
        says).

    Raises
    ------
    ArgumentError
        For another dtype, or where the CPU (or the instruction set forced by ``PYDL_ISA``) has no AVX512-BF16.

    Notes
    -----
    PyTorch's autocast also keeps results in bfloat16, which halves the memory of activations; here they stay float32.
    Source: Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training".

    Examples
    --------
    >>> with pydl.autocast("bfloat16"):  # doctest: +SKIP
    ...     loss = pydl.nn.functional.cross_entropy(model(x), y)
    >>> loss.backward()  # doctest: +SKIP
    """

    def __init__(self, dtype: Any = "bfloat16", enabled: bool = True) -> None:
        super().__init__()
        if str(dtype) != "bfloat16":
            raise ArgumentError(f"[autocast] dtype={dtype!r}: expected 'bfloat16' (float16 has no kernels here)")
        if enabled:
            _check_bfloat16("autocast", "leave autocast out or pass enabled=False")
        self.enabled = enabled

    def _switch(self) -> int:
        return int(_core.set_thread_precision(_BFLOAT16 if self.enabled else -1))

    def _restore(self, previous: int) -> None:
        _core.set_thread_precision(previous)


def set_float32_matmul_precision(precision: str) -> None:
    """Choose how float32 products (of matrices, convolutions, recurrent layers, attention) may be computed, in all threads.

    "highest" (default): with the accuracy of float32. On CPUs with AMX large products are those of numbers split into three
    bfloat16 pieces, which lose less than float32 sums do. "high": with at least 16 significant bits, relative errors of about
    4e-6: two pieces on AMX; elsewhere nothing is faster than float32, so it is the same as "highest". "medium": in bfloat16,
    with float32 sums, as inside of `autocast`.

    Raises
    ------
    ArgumentError
        For another name, or for "medium" where the CPU (or the instruction set forced by ``PYDL_ISA``) has no AVX512-BF16.
    """
    global _chosen
    if precision not in _CODES:
        raise ArgumentError(f"[set_float32_matmul_precision] precision={precision!r}: expected one of {', '.join(_CODES)}")
    if precision == "medium":
        _check_bfloat16("set_float32_matmul_precision", "choose 'highest' or 'high'")
    _core.set_process_precision(_CODES[precision])
    _chosen = precision


def get_float32_matmul_precision() -> str:
    """The name given to `set_float32_matmul_precision`: "highest", "high" or "medium"."""
    return _chosen
