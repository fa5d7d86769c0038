"""What this machine can do at most, measured: multiply-adds, memory bandwidth, the first touch of fresh memory."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pydl import _core

__all__ = ["MachineLimits", "machine_limits"]

_BYTES = 64 << 20  # of each array: beyond the last cache of most machines


@dataclass(frozen=True)
class MachineLimits:
    """Measured limits. Pairs are (on one thread, on `threads` threads); GFLOP/s count a multiply-add as two.

    >>> limits = MachineLimits("avx2", 2, {"avx2": (100.0, 190.0)}, (10.0, 18.0), (12.0, 20.0), 0.6, 11.0)
    >>> limits.peak, limits.bandwidth, limits.attainable(2.0)
    (190.0, 20.0, 40.0)
    """

    isa: str
    threads: int
    fma: dict[str, tuple[float, float]] = field(default_factory=dict)  # GFLOP/s of float32 for each instruction set; "bfloat16"
    read: tuple[float, float] = (0.0, 0.0)  # GB/s of a sum over a large array
    triad: tuple[float, float] = (0.0, 0.0)  # GB/s of a = b + 2 c, three arrays counted
    first_touch: float = 0.0  # GB/s of writing memory fresh from the system, one thread
    reused: float = 0.0  # GB/s of writing the same memory again

    @property
    def peak(self) -> float:
        """GFLOP/s of float32 multiply-adds on all threads, with the instruction set in force."""
        return self.fma[self.isa][1]

    @property
    def bandwidth(self) -> float:
        """GB/s of large arrays on all threads: the better of reading and of the triad."""
        return max(self.read[1], self.triad[1])

    def attainable(self, intensity: float) -> float:
        """The roofline (Williams et al. 2009): GFLOP/s within reach at so many operations per byte."""
        return min(self.peak, intensity * self.bandwidth)

    def seconds(self, flops: float, bytes: float, itemsize: int = 4) -> float:
        """The least time for so much work: whichever of arithmetic and memory takes longer. `itemsize` is that of the factors: 4,
        8, or 2 for products of bfloat16."""
        if itemsize == 2 and "bfloat16" in self.fma:
            peak = self.fma["bfloat16"][1]
        elif itemsize == 8:  # tiles are for float32 alone
            peak = self.fma["avx512" if self.isa == "amx" else self.isa][1] / 2
        else:
            peak = self.peak
        return max(flops / peak, bytes / self.bandwidth) / 1e9

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MachineLimits:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**{**values, "fma": {k: tuple(v) for k, v in values["fma"].items()}})

    def __str__(self) -> str:
        lines = [f"{'':24}{'1 thread':>10}{f'{self.threads} threads':>12}"]
        for isa, (one, all_) in self.fma.items():
            mark = "  in force" if isa == self.isa else ""
            lines.append(f"{f'multiply-adds, {isa}':24}{one:10.1f}{all_:12.1f}  GFLOP/s{mark}")
        for name, (one, all_) in (("memory, read", self.read), ("memory, triad", self.triad)):
            lines.append(f"{name:24}{one:10.1f}{all_:12.1f}  GB/s")
        lines.append(f"{'first touch':24}{self.first_touch:10.2f}{'':12}  GB/s, against {self.reused:.1f} of reused memory")
        return "\n".join(lines)


_cache: dict[tuple[str, int], MachineLimits] = {}


def machine_limits(threads: int | None = None, *, refresh: bool = False) -> MachineLimits:
    """Measure the limits of this machine, about two seconds; later calls in the process return the same figures.

    Parameters
    ----------
    threads : int, optional
        How many threads "all" means. Default: `pydl.get_num_threads()`.
    refresh : bool
        Measure again: the machine was busy, or has become so.
    """
    count = int(_core.num_threads()) if threads is None else threads
    key = _core.isa(), count
    if refresh or key not in _cache:
        before, profiling = _core.num_threads(), _core.profile_on()
        _core.profile_set_on(False)
        precision = _core.set_thread_precision(0)
        try:
            _cache[key] = _measure(*key)
        finally:
            _core.set_thread_precision(precision)
            _core.set_num_threads(before)
            _core.profile_set_on(profiling)
    return _cache[key]


def _measure(isa: str, threads: int) -> MachineLimits:
    fma = {name: _on_one_and_all(lambda name=name: _fma(name), threads) for name in _core.supported_isas()}  # type: ignore[misc]
    if not _core.why_no_bfloat16():
        _core.set_thread_precision(1)
        fma["bfloat16"] = _on_one_and_all(lambda: _fma(isa), threads)
    first, again = _touch()
    with mmap.mmap(-1, 3 * _BYTES) as block:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)  # as the pool does
        read, triad = _streams(block, threads)
    return MachineLimits(isa, threads, fma, read, triad, first, again)


# The mapping cannot be closed while arrays look into it, so these live in functions of their own.


def _streams(block: mmap.mmap, threads: int) -> tuple[tuple[float, float], tuple[float, float]]:
    arrays = np.split(np.frombuffer(block, np.float32), 3)
    for a in arrays:
        _core.probe_write(a)
    read = _on_one_and_all(lambda: _rate(lambda: _core.probe_read(arrays[0]), _BYTES), threads)
    return read, _on_one_and_all(lambda: _rate(lambda: _core.probe_triad(*arrays), 3 * _BYTES), threads)


def _on_one_and_all(measure: Callable[[], float], threads: int) -> tuple[float, float]:
    _core.set_num_threads(1)
    one = measure()
    _core.set_num_threads(threads)
    return one, measure() if threads > 1 else one


def _best_seconds(run: Callable[[], object], tries: int = 7) -> float:
    """The least of several runs: a limit is what is possible, not what is usual."""
    run()
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _rate(run: Callable[[], object], amount: float) -> float:
    return amount / _best_seconds(run) / 1e9


def _fma(isa: str) -> float:
    chunks, steps = 4 * int(_core.num_threads()), 20_000
    flops = _core.probe_fma(isa, chunks, steps)
    return _rate(lambda: _core.probe_fma(isa, chunks, steps), flops)


def _touch() -> tuple[float, float]:
    """GB/s of the first and of later writes to the same memory, on one thread."""
    _core.set_num_threads(1)
    with mmap.mmap(-1, _BYTES) as block:
        return _first_and_again(block)


def _first_and_again(block: mmap.mmap) -> tuple[float, float]:
    array = np.frombuffer(block, np.float32)
    started = time.perf_counter()
    _core.probe_write(array)
    first = time.perf_counter() - started
    return _BYTES / first / 1e9, _rate(lambda: _core.probe_write(array), _BYTES)
