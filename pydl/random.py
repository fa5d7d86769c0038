"""Random numbers that depend on the seed alone: a counter-based generator (Philox4x32-10, Salmon et al. 2011).

Drawing n numbers moves the counter on by a fixed amount, so results depend neither on threads nor on timing, and a state
is two numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError
from pydl.graph.engine import current_notes, wrap
from pydl.ops._common import FLOATS, empty, sizes_of

__all__ = [
    "Generator", "bernoulli", "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed",
    "multinomial", "normal", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "set_rng_state", "uniform",
]

_UNIFORM, _NORMAL, _BERNOULLI = 0, 1, 2


class Place(NamedTuple):
    """Where in a stream an operation's random numbers start."""

    seed: int
    offset: int


class Generator:
    """A stream of random numbers: a seed and a counter."""

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of this seed from its beginning."""
        if not isinstance(seed, int | np.integer):
            raise ArgumentError(f"manual_seed: expected an integer, got {type(seed).__name__}")
        self._seed, self._offset = int(seed) % 2**64, 0
        return self

    def seed(self) -> int:
        """Take a new seed from the operating system."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> dict[str, int]:
        return {"seed": self._seed, "offset": self._offset}

    def set_state(self, state: dict[str, int]) -> None:
        self._seed, self._offset = int(state["seed"]), int(state["offset"])

    def fill(self, out: np.ndarray, kind: int, a: float, b: float) -> np.ndarray:
        """Fill a C-ordered floating array and move the counter on."""
        blocks = _core.random_fill(kind, self._seed, self._offset, a, b, out)
        if (notes := current_notes()) is not None:
            notes.generators.append((self, (blocks, self._offset, (kind, a, b))))
        self._offset += blocks
        return out

    def reserve(self, blocks: int) -> Place:
        """The seed, and the first of `blocks` counter values that are from now on the caller's (dropout in a kernel)."""
        first = self._offset
        if (notes := current_notes()) is not None:
            notes.generators.append((self, (blocks, first, None)))
        self._offset += blocks
        return Place(self._seed, first)

    def draw(self, shape: Any, kind: int, a: float, b: float, dtype: Any = np.float32) -> np.ndarray:
        if np.dtype(dtype) not in FLOATS:
            raise ArgumentError(f"random numbers come as float32 or float64, got dtype={np.dtype(dtype)}")
        return self.fill(empty(shape, dtype), kind, a, b)

    def numpy(self) -> np.random.Generator:
        """A NumPy generator that continues from here (permutations, choices); the counter moves on by one."""
        if (notes := current_notes()) is not None:
            notes.generators.append((self, None))
        self._offset += 1
        return np.random.Generator(np.random.Philox(key=self._seed, counter=self._offset << 64))

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed}, offset={self._offset})"


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; everything random in pydl follows from it unless given a generator of its own."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The default generator's seed."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, int]:
    """The default generator's state: a small dict that JSON can hold."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, int]) -> None:
    """Put the default generator into a state that `get_rng_state` returned."""
    default_generator.set_state(state)


@contextmanager
def fork_rng(state: dict[str, int] | None = None) -> Iterator[None]:
    """Inside, the default generator starts from `state` (or goes on); afterwards it is as before."""
    saved = get_rng_state()
    if state is not None:
        set_rng_state(state)
    try:
        yield
    finally:
        set_rng_state(saved)


def _tensor(array: np.ndarray, requires_grad: bool) -> Any:
    t = wrap(array)
    if requires_grad:
        t.requires_grad = True
    return t


def rand(*size: Any, generator: Generator | None = None, dtype: Any = np.float32, requires_grad: bool = False) -> Any:
    """Uniform in [0, 1)."""
    return _tensor((generator or default_generator).draw(sizes_of(size), _UNIFORM, 0, 1, dtype), requires_grad)


def randn(*size: Any, generator: Generator | None = None, dtype: Any = np.float32, requires_grad: bool = False) -> Any:
    """Normal with mean 0 and deviation 1."""
    return _tensor((generator or default_generator).draw(sizes_of(size), _NORMAL, 0, 1, dtype), requires_grad)


def uniform(low: float, high: float, size: Any, generator: Generator | None = None, dtype: Any = np.float32) -> Any:
    """Uniform in [low, high)."""
    return wrap((generator or default_generator).draw(tuple(size), _UNIFORM, low, high, dtype))


def normal(mean: float, std: float, size: Any, generator: Generator | None = None, dtype: Any = np.float32) -> Any:
    """Normal with this mean and standard deviation."""
    if std < 0:
        raise ArgumentError(f"normal: std must not be negative, got {std}")
    return wrap((generator or default_generator).draw(tuple(size), _NORMAL, mean, std, dtype))


def bernoulli(input: Any, generator: Generator | None = None) -> Any:
    """1 with the probability that the element says, else 0."""
    u = (generator or default_generator).draw(input.data.shape, _UNIFORM, 0, 1, input.data.dtype)
    return wrap((u < input.data).astype(input.data.dtype))


def rand_like(input: Any, generator: Generator | None = None) -> Any:
    """Uniform in [0, 1), of the same shape and dtype."""
    return rand(input.data.shape, generator=generator, dtype=input.data.dtype)


def randn_like(input: Any, generator: Generator | None = None) -> Any:
    """Standard normal, of the same shape and dtype."""
    return randn(input.data.shape, generator=generator, dtype=input.data.dtype)


def randint(low: int, high: int | None = None, size: Any = (), generator: Generator | None = None) -> Any:
    """Integers from low to high - 1 (or from 0 to low - 1): ``randint(10, size=(3,))``. int64."""
    if high is None:
        low, high = 0, low
    if not isinstance(high, int | np.integer) or high <= low:
        raise ArgumentError(f"randint: empty range [{low}, {high})")
    return wrap(np.asarray((generator or default_generator).numpy().integers(low, high, tuple(size))))


def randperm(n: int, generator: Generator | None = None) -> Any:
    """0 to n - 1 in random order. int64."""
    return wrap((generator or default_generator).numpy().permutation(n))


def multinomial(input: Any, num_samples: int, replacement: bool = False, generator: Generator | None = None) -> Any:
    """Positions drawn with the given weights, for each row. Shape: (C) or (N, C) -> (num_samples) or (N, num_samples)."""
    p = np.atleast_2d(input.data).astype(np.float64)
    if (p < 0).any() or not np.isfinite(p).all() or (p.sum(1) <= 0).any():
        raise ArgumentError("multinomial: weights must be finite, not negative, and not all 0")
    if not replacement and num_samples > int((p > 0).sum(1).min()):
        raise ArgumentError(f"multinomial: {num_samples} samples without replacement from fewer non-zero weights")
    rng = (generator or default_generator).numpy()
    u = rng.random(p.shape if not replacement else (p.shape[0], num_samples))
    if replacement:
        edges = np.cumsum(p / p.sum(1, keepdims=True), axis=1)
        found = np.minimum((u[:, :, None] >= edges[:, None, :]).sum(2), p.shape[1] - 1)
    else:  # the largest of log(u)/p: weighted sampling without replacement (Efraimidis and Spirakis 2006)
        with np.errstate(divide="ignore"):
            keys = np.where(p > 0, np.log(u) / np.where(p > 0, p, 1), -math.inf)
        found = np.argsort(-keys, axis=1)[:, :num_samples]
    return wrap(found[0] if input.data.ndim == 1 else found)
