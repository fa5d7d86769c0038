"""Runs kernels on arrays that end (or begin) at an unreadable page: one step outside is a crash. Child of test_guard_pages.py."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from typing import Any

import numpy as np

import pydl
from pydl import _core

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
live: list[tuple[int, int]] = []


def guarded(shape: Any, dtype: Any = np.float32, end: bool = True, data: Any = None) -> np.ndarray:
    """An array between two pages without access, its last (or first) byte next to one of them."""
    n = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = max(1, -(-n // PAGE))
    base = LIBC.mmap(None, (pages + 2) * PAGE, 3, 0x22, -1, 0)
    live.append((base, (pages + 2) * PAGE))
    LIBC.mprotect(base, PAGE, 0)
    LIBC.mprotect(base + (pages + 1) * PAGE, PAGE, 0)
    start = base + PAGE + (pages * PAGE - n if end else 0)
    buffer = (ctypes.c_char * max(n, 1)).from_address(start) if n else bytearray(1)
    array = np.frombuffer(buffer, np.uint8, n).view(dtype).reshape(shape)
    if data is not None:
        array[...] = data
    elif array.dtype.kind == "f":
        array[...] = np.random.default_rng(0).standard_normal(shape)
    return array


def release() -> None:
    while live:
        LIBC.munmap(*live.pop())


SIZES = [1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 33]


def matmul(end: bool, dtype: Any) -> None:
    for m, n, k in [*itertools.product([1, 5, 7, 15, 33], repeat=3), (3, 2, 4097), (50, 70, 300)]:
        for a in (guarded((1, m, k), dtype, end), guarded((1, k, m), dtype, end).swapaxes(1, 2)):
            for b in (guarded((1, k, n), dtype, end), guarded((1, n, k), dtype, end).swapaxes(1, 2)):
                out = guarded((1, m, n), dtype, end)
                _core.matmul(a, b, guarded(n, dtype, end), out)
                _core.matmul(a, b, None, out)
        release()


def first(x: np.ndarray) -> np.ndarray:
    """[N, D, H, W, C] in the axes that convolutions take: (N, C, D, H, W)."""
    return x.transpose(0, 4, 1, 2, 3)


def conv(end: bool, dtype: Any) -> None:
    cases = itertools.product([1, 5, 16, 17], [1, 7, 33], [4, 9], [1, 2], [0, 2], [1, 2], [0, 1])
    for c, o, width, stride, pad, dilation, depthwise in cases:
        if depthwise and c != 5:
            continue
        o, groups = (c, c) if depthwise else (o, 1)
        size = (width + 2 * pad - dilation * 2 - 1) // stride + 1
        if size < 1:
            continue
        x, y = guarded((2, 1, 3, width, c), dtype, end), guarded((2, 1, 3, size, o), dtype, end)
        w = guarded((o, c // groups, 1, 1, 3), dtype, end)
        x, y = first(x), first(y)
        numbers = _core.ConvNumbers([1, 1, stride], [0, 0, pad], [1, 1, dilation], groups)
        _core.conv_forward(x, w, guarded(o, dtype, end), y, numbers)
        _core.conv_data_gradient(x, w, guarded(c, dtype, end), y, numbers)
        _core.conv_weight_gradient(x, w, None, y, numbers)
        release()


def conv_rows(end: bool, dtype: Any) -> None:
    for c, o, width, k in itertools.product([17, 32, 33], [1, 19, 64, 1024], [1, 9, 31], [1, 2]):
        x, y = guarded((1, 1, 2, width * k, c), dtype, end), guarded((1, 1, 2, width, o), dtype, end)
        w = guarded((o, c, 1, 1, k), dtype, end)
        x, y = first(x), first(y)
        numbers = _core.ConvNumbers([1, 1, k], [0, 0, 0], [1, 1, 1], 1)
        _core.conv_forward(x, w, guarded(o, dtype, end), y, numbers)
        _core.conv_data_gradient(x, w, guarded(c, dtype, end), y, numbers)
        release()


def winograd(end: bool, dtype: Any) -> None:
    cases = itertools.product([2, 4], [1, 17, 34], [1, 33], [(4, 4), (5, 7)], [0, 1], [3, 5])
    for tile, c, o, size, pad, k in cases:
        if min(size) + 2 * pad < k:
            continue
        _core.set_conv_method(f"winograd{tile}")
        out = [s + 2 * pad - k + 1 for s in size]
        x, y = guarded((1, 1, *size, c), dtype, end), guarded((1, 1, *out, o), dtype, end)
        w = guarded((o, c, 1, k, k), dtype, end)
        x, y = first(x), first(y)
        numbers = _core.ConvNumbers([1, 1, 1], [0, pad, pad], [1, 1, 1], 1)
        _core.conv_forward(x, w, guarded(o, dtype, end), y, numbers)
        _core.conv_data_gradient(x, w, guarded(c, dtype, end), y, numbers)
        _core.conv_weight_gradient(x, w, None, y, numbers)
        release()


def pool(end: bool, dtype: Any) -> None:
    cases = itertools.product([1, 3, 6, 12, 16, 33], [4, 12, 31], [(2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 4, 2)])
    for c, width, (k, stride, pad) in cases:
        size = [(n + 2 * pad - k) // stride + 1 for n in (4, width)]
        x, dx = (guarded((2, 1, 4, width, c), dtype, end) for _ in range(2))
        y, taps = guarded((2, 1, *size, c), dtype, end), guarded((2, 1, *size, c), np.uint8, end)
        windows = [(1, 1, 0, 1), (k, stride, pad, 1), (k, stride, pad, 1)]
        _core.max_pool_forward(x, y, None, windows)
        _core.max_pool_forward(x, y, taps, windows)
        _core.max_pool_scatter(dx, y, taps, windows)
        _core.max_pool_gather(x, y, taps, windows)
        _core.avg_pool_forward(x, y, windows, True, 0)
        _core.avg_pool_backward(dx, y, windows, True, 0)
        release()


def softmax(end: bool, dtype: Any) -> None:
    for n, inner, log in itertools.product(SIZES, [1, 2, 15, 17], [False, True]):
        x, y, g, dx = (guarded((2, n, inner), dtype, end) for _ in range(4))
        _core.softmax(x, y, log)
        _core.softmax_backward(g, y, dx, log)
        release()


def elementwise(end: bool, dtype: Any) -> None:
    for n in [*SIZES, 513, 1100]:
        x, y, out = (guarded((3, n), dtype, end) for _ in range(3))
        row, column = guarded((n,), dtype, end), guarded((3, 1), dtype, end)
        for other in (y, row, column, y[:, ::-1]):
            _core.map(_core.MAPS["add"], [x, other], out)
            _core.map(_core.MAPS["exp"], [x], out)
            _core.where(guarded((3, n), np.bool_, end, data=True), x, other, out)
        _core.copy(x, out)
        flipped = guarded((n, 3), dtype, end)
        _core.copy(x, flipped.T)
        _core.copy(flipped.T, out)
        release()


def reduce(end: bool, dtype: Any) -> None:
    for n, inner in itertools.product(SIZES, [1, 3, 17]):
        x = guarded((2, n, inner), dtype, end)
        for kind in ("sum", "max", "min", "prod"):
            _core.reduce(_core.REDUCTIONS[kind], x, guarded((2, inner), dtype, end))
        for kind in ("argmax", "argmin"):
            _core.reduce(_core.REDUCTIONS[kind], x, guarded((2, inner), np.int64, end))
        _core.cumsum(x, guarded((2, n, inner), dtype, end))
        release()


def index(end: bool, dtype: Any) -> None:
    for n, m, inner in itertools.product([1, 5], [1, 7, 100], [1, 3, 64, 65]):
        rng = np.random.default_rng(0)
        x, values = guarded((2, n, inner), dtype, end), guarded((2, m, inner), dtype, end)
        for where in (
            guarded((2, m, inner), np.int64, end, data=rng.integers(0, n, (2, m, inner))),
            np.broadcast_to(guarded((1, m, 1), np.int64, end, data=rng.integers(0, n, (1, m, 1))), (2, m, inner)),
        ):
            _core.index_gather(x, where, values)
            _core.index_scatter_add(x, where, values)
        release()


def filter_planes(end: bool, dtype: Any) -> None:
    for kh, kw, width in itertools.product([1, 3], [1, 4, 9], [*SIZES, 64, 65, 130]):
        if width >= kw:
            x, y = guarded((2, 5, width), dtype, end), guarded((2, 6 - kh, width - kw + 1), dtype, end)
            _core.filter_planes(x, guarded((kh, kw), dtype, end), y)
            release()


def warp(end: bool, dtype: Any) -> None:
    maps = [
        [1, 0, 0, 0, 1, 0, 0, 0, 1], [1.3, 0.4, -3, -0.5, 0.8, 2.5, 0, 0, 1], [1, 0, 0.5, 0, 1, -0.5, 0.1, -0.2, 1],
        [1e300, 0, 0, 0, -1e300, 0, 0, 0, 1], [0, 0, np.nan, 0, 0, np.inf, 0, 0, 1], [1, 0, 0, 0, 1, 0, 0, 0, -1],
    ]  # fmt: skip
    kinds = (dtype, np.uint8, np.int64, np.bool_)
    for kind, matrix, border, (h, w) in itertools.product(kinds, maps, [0, 1, 2], [(1, 1), (1, 7), (5, 2), (9, 13)]):
        x, y = guarded((2, h, w), kind, end), guarded((2, 6, 11), kind, end)
        for linear in (False, True) if kind in (dtype, np.uint8) else (False,):
            _core.warp(x, y, matrix, guarded(2, np.float64, end, data=0.0), linear, border)
        release()


FAMILIES = (matmul, conv, conv_rows, winograd, pool, softmax, elementwise, reduce, index, filter_planes, warp)
KERNELS = {f.__name__: f for f in FAMILIES}

if __name__ == "__main__":
    pydl.set_num_threads(2)
    for isa, end, dtype in itertools.product(_core.supported_isas(), [True, False], [np.float32, np.float64]):
        _core.set_isa(isa)
        KERNELS[sys.argv[1]](end, dtype)
    print("inside")
