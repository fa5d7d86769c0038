"""One record per operation drives all its checks; `run_records` turns a table of them into tests.

A record says how to make inputs, what the operation is, and what float64 NumPy says the answer is. From it follow:
value (float32 and float64, at every instruction set), gradient by central differences, second derivative where the op
offers one, non-contiguous inputs, zero-size inputs, one against two threads bit for bit, and the error messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import _core
from pydl.autograd import gradcheck

ISAS = [isa for isa in _core.supported_isas() if isa != "amx"]  # where only products differ from avx512
# For tests of products on small whole numbers, which bfloat16 holds exactly: its kernels must give the same results.
EXACT_LEVELS = [*_core.supported_isas(), *([] if _core.why_no_bfloat16() else ["bfloat16"])]


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    if name == "bfloat16":
        with pydl.autocast("bfloat16"):
            yield
        return
    previous = _core.isa()
    _core.set_isa(name)
    try:
        yield
    finally:
        _core.set_isa(previous)


@contextmanager
def threads(n: int) -> Iterator[None]:
    previous = pydl.get_num_threads()
    pydl.set_num_threads(n)
    try:
        yield
    finally:
        pydl.set_num_threads(previous)


def draw(*shape: int, low: float = -2.0, high: float = 2.0, away_from: float | None = None) -> Callable[[Any], np.ndarray]:
    """A maker of uniform float64 inputs; `away_from` keeps clear of a kink, where differences would lie."""

    def make(rng: np.random.Generator) -> np.ndarray:
        x = rng.uniform(low, high, shape)
        if away_from is not None:
            near = np.abs(x - away_from) < 0.05
            x[near] += 0.1
        return x

    return make


def integers(*shape: int, high: int) -> Callable[[Any], np.ndarray]:
    return lambda rng: rng.integers(0, high, shape)


@dataclass
class OpRecord:
    """`function` takes tensors, `reference` takes float64 ndarrays (integer inputs stay integers)."""

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Callable[[Any], np.ndarray], ...]
    gradient: bool = True
    double_backward: bool = False
    rtol: float = 2e-6         # float32 against float64, relative to the largest reference value
    zero_size: tuple[Callable[[Any], np.ndarray], ...] | None = None
    large: tuple[Callable[[Any], np.ndarray], ...] | None = None  # enough work for several chunks
    errors: list[tuple[Callable[[], Any], type[Exception], str]] = field(default_factory=list)


def _arrays(makers: tuple[Callable[[Any], np.ndarray], ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [make(rng) for make in makers]


def _tensors(arrays: list[np.ndarray], dtype: Any, requires_grad: bool = False) -> list[Any]:
    out = []
    for a in arrays:
        floating = a.dtype.kind == "f"
        t = pydl.tensor(a.astype(dtype) if floating else a)
        t.requires_grad = requires_grad and floating
        out.append(t)
    return out


def _outputs(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def assert_close(actual: np.ndarray, expected: np.ndarray, rtol: float, least: float = 1e-30) -> None:
    """Equal up to `rtol` times the largest expected value, which counts as `least` if it is smaller."""
    expected = np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite & ~np.isnan(expected)], expected[~finite & ~np.isnan(expected)])
    if finite.any():
        scale = max(np.abs(expected[finite]).max(), least)
        worst = np.abs(actual[finite].astype(np.float64) - expected[finite]).max() / scale
        assert worst <= rtol, f"relative error {worst:.3g} > {rtol:.3g}"


def check_value(r: OpRecord) -> None:
    arrays = _arrays(r.inputs)
    expected = _outputs(r.reference(*arrays))
    first = np.asarray(expected[0])
    if first.dtype.kind == "f" and first.size > 3:
        assert np.unique(first).size > 1, f"{r.name}: a constant expected output proves nothing"
    for isa in ISAS:
        with instruction_set(isa):
            for dtype, rtol in ((np.float32, r.rtol), (np.float64, 1e-12)):
                inputs = [a.astype(dtype).astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
                reference = _outputs(r.reference(*inputs))
                for out, ref in zip(_outputs(r.function(*_tensors(arrays, dtype))), reference, strict=True):
                    assert out.dtype == dtype or out.dtype.kind != "f"
                    assert_close(out.numpy(), ref, rtol)


def check_gradient(r: OpRecord) -> None:
    for isa in ISAS:
        with instruction_set(isa):
            assert gradcheck(r.function, tuple(_tensors(_arrays(r.inputs), np.float64, True)))


def check_double_backward(r: OpRecord) -> None:
    inputs = _tensors(_arrays(r.inputs), np.float64, True)
    leaves = [t for t in inputs if t.requires_grad]

    def first_derivative(*args: Any) -> Any:
        full = list(inputs)
        for leaf, arg in zip(leaves, args, strict=True):
            full[next(i for i, t in enumerate(inputs) if t is leaf)] = arg
        out = _outputs(r.function(*full))[0]
        weights = np.random.default_rng(1).uniform(0.5, 1.5, out.shape)
        return pydl.autograd.grad(out, list(args), pydl.tensor(weights), create_graph=True)

    assert gradcheck(first_derivative, tuple(leaves), atol=1e-5)


def _strided(a: np.ndarray) -> np.ndarray:
    """The same numbers as every second element, backwards, of a larger array, axes reversed in memory."""
    big = np.zeros(tuple(2 * n for n in reversed(a.shape)), a.dtype)
    view = big[(..., *(slice(None, None, -2) for _ in a.shape))].transpose()
    view[...] = a
    return view


def _run_with_gradients(r: OpRecord, arrays: list[np.ndarray], wrap: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Outputs and input gradients, of inputs and upstream gradients that `wrap` lays out in memory."""
    inputs = [pydl.from_numpy(wrap(a)) for a in arrays]
    for t in inputs:
        t.requires_grad = r.gradient and t.dtype.kind == "f"
    outs = _outputs(r.function(*inputs))
    found = [o.detach().numpy() for o in outs]
    if r.gradient:
        total = [o for o in outs if o.requires_grad]
        seeds = [np.cos(np.arange(o.numel(), dtype=np.float32)).reshape(o.shape) for o in total]
        pydl.autograd.backward(total, [pydl.from_numpy(wrap(g)) for g in seeds])
        found += [t.grad.numpy() for t in inputs if t.grad is not None]
    return found


def check_noncontiguous(r: OpRecord) -> None:
    arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in _arrays(r.inputs)]
    expected = _run_with_gradients(r, arrays, np.copy)
    for found, ref in zip(_run_with_gradients(r, arrays, _strided), expected, strict=True):
        assert_close(found, ref, 2 * r.rtol, least=0.1)  # a gradient that cancels to 0 keeps rounding noise


def check_threads(r: OpRecord) -> None:
    arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in _arrays(r.large or r.inputs)]
    results = []
    for n in (1, 2, 3):
        with threads(n):
            results.append([a.copy() for a in _run_with_gradients(r, arrays, np.copy)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes(), f"{r.name}: results differ between thread counts"


def check_zero_size(r: OpRecord) -> None:
    arrays = _arrays(r.zero_size or ())
    inputs = _tensors(arrays, np.float32, r.gradient)
    expected = _outputs(r.reference(*arrays))
    outs = _outputs(r.function(*inputs))
    for out, ref in zip(outs, expected, strict=True):
        assert_close(out.detach().numpy(), np.asarray(ref), r.rtol)
    if r.gradient:
        outs[0].sum().backward()
        assert all(t.grad.shape == t.shape for t in inputs if t.grad is not None)


def check_errors(r: OpRecord) -> None:
    for call, kind, pattern in r.errors:
        with pytest.raises(kind, match=pattern):
            call()


def run_records(records: list[OpRecord]) -> Callable[..., None]:
    """`test_ops = run_records(RECORDS)`: one test per record and check."""
    cases = []
    for r in records:
        checks: list[Callable[[OpRecord], None]] = [check_value, check_noncontiguous, check_threads]
        if r.gradient:
            checks.append(check_gradient)
        if r.double_backward:
            checks.append(check_double_backward)
        if r.zero_size is not None:
            checks.append(check_zero_size)
        if r.errors:
            checks.append(check_errors)
        cases += [pytest.param(r, c, id=f"{r.name}-{c.__name__[6:]}") for c in checks]

    @pytest.mark.parametrize(("record", "check"), cases)
    def test_record(record: OpRecord, check: Callable[[OpRecord], None]) -> None:
        check(record)

    return test_record
