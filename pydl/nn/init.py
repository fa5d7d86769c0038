"""Initial values for parameters, in place, from the default generator (or one that is given): PyTorch's names and formulas."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.modes import no_grad
from pydl.random import Generator, default_generator

_skipping: ContextVar[bool] = ContextVar("skipping", default=False)


@contextlib.contextmanager
def skip() -> Iterator[None]:
    """Within the block initialisers do nothing: parameters of new modules hold whatever the memory held.

    For networks whose weights are loaded or only counted: a large one then takes neither time nor (untouched) memory.

    Examples
    --------
    >>> from pydl import nn
    >>> with nn.init.skip():
    ...     layer = nn.Linear(1000, 1000)
    >>> sum(p.numel() for p in layer.parameters())
    1001000
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def _draw(tensor: Any, kind: int, a: float, b: float, generator: Generator | None) -> Any:
    """Fill with numbers from a generator: kind 0 uniform in [a, b), 1 normal with mean a and deviation b."""
    if _skipping.get():
        return tensor
    return _set(tensor, (generator or default_generator).draw(tensor.shape, kind, a, b, tensor.dtype))


def _set(tensor: Any, values: Any) -> Any:
    if _skipping.get():
        return tensor
    with no_grad():
        tensor.copy_(values)
    return tensor


def zeros_(tensor: Any) -> Any:
    """All 0: fine for biases; for weights all units of a layer stay equal for ever."""
    return _set(tensor, 0.0)


def ones_(tensor: Any) -> Any:
    """All 1."""
    return _set(tensor, 1.0)


def constant_(tensor: Any, val: float) -> Any:
    """All of one value."""
    return _set(tensor, val)


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Any:
    """Uniform in [a, b)."""
    return _draw(tensor, 0, a, b, generator)


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Any:
    """Normal with this mean and deviation."""
    return _draw(tensor, 1, mean, std, generator)


def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator | None = None
) -> Any:
    """Normal, but only within [a, b]: values outside are drawn again."""
    if _skipping.get():
        return tensor
    g = generator or default_generator
    values = g.draw(tensor.shape, 1, mean, std, np.float64).reshape(-1)
    for _ in range(1000):
        outside = np.flatnonzero((values < a) | (values > b))
        if not outside.size:
            return _set(tensor, values.reshape(tensor.shape))
        values[outside] = g.draw(outside.shape, 1, mean, std, np.float64)
    raise ArgumentError(f"trunc_normal_: [{a}, {b}] holds almost nothing of a normal with mean {mean} and std {std}")


def calculate_fan(tensor: Any) -> tuple[int, int]:
    """(fan_in, fan_out): inputs per output unit and outputs per input unit, from the shape (out, in, kernel...)."""
    if tensor.ndim < 2:
        raise ArgumentError(f"fan of a tensor of shape {tensor.shape}: at least two axes (out, in) are needed")
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"relu": math.sqrt(2.0), "tanh": 5.0 / 3, "selu": 0.75}
    linear = ("linear", "sigmoid", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    if nonlinearity not in gains and nonlinearity not in linear:
        raise ArgumentError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}; expected leaky_relu, "
                            f"{', '.join([*gains, *linear])}")
    return gains.get(nonlinearity, 1.0)


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """Uniform within gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(calculate_fan(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """Normal with deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(calculate_fan(tensor))), generator)


def _kaiming(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"kaiming: mode={mode!r}; expected 'fan_in' or 'fan_out'")
    fan = calculate_fan(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Any:
    """Uniform within gain * sqrt(3 / fan) (He et al. 2015)."""
    bound = math.sqrt(3.0) * _kaiming(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Any:
    """Normal with deviation gain / sqrt(fan) (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming(tensor, a, mode, nonlinearity), generator)


def inv_sqrt_(tensor: Any, generator: Generator | None = None) -> Any:
    """Uniform within 1 / sqrt(fan_in) (LeCun et al. 1998, "Efficient BackProp")."""
    bound = 1.0 / math.sqrt(max(calculate_fan(tensor)[0], 1))
    return uniform_(tensor, -bound, bound, generator)


def orthogonal_(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """Rows (or columns, whichever are fewer) orthonormal, times gain (Saxe et al. 2013)."""
    if tensor.ndim < 2:
        raise ArgumentError(f"orthogonal_: at least two axes are needed, got shape {tensor.shape}")
    if _skipping.get():
        return tensor
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    flat = (generator or default_generator).draw((rows, columns), 1, 0.0, 1.0, np.float64)
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q = q * np.sign(np.diag(r))
    return _set(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Any:
    """Normal with this deviation, and in each column a share `sparsity` of zeros (Martens 2010)."""
    if tensor.ndim != 2 or not 0 <= sparsity <= 1:
        raise ArgumentError(f"sparse_: expected a matrix and sparsity from 0 to 1, got shape {tensor.shape} and {sparsity}")
    rows, columns = tensor.shape
    values = (generator or default_generator).draw((rows, columns), 1, 0.0, std, tensor.dtype)
    order = (generator or default_generator).draw((rows, columns), 0, 0.0, 1.0, np.float64).argsort(0)
    np.put_along_axis(values, order[: math.ceil(sparsity * rows)], 0, 0)
    return _set(tensor, values)


def eye_(tensor: Any) -> Any:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise ArgumentError(f"eye_: expected a matrix, got shape {tensor.shape}")
    return _set(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """A convolution that passes its channels through: 1 in the middle of the kernel of each channel."""
    if tensor.ndim not in (3, 4, 5) or tensor.shape[0] % groups:
        raise ArgumentError(f"dirac_: expected a convolution weight whose first axis divides by {groups}, got {tensor.shape}")
    values = np.zeros(tensor.shape)
    middle = tuple(n // 2 for n in tensor.shape[2:])
    per_group = tensor.shape[0] // groups
    for g in range(groups):
        for i in range(min(per_group, tensor.shape[1])):
            values[(g * per_group + i, i, *middle)] = 1.0
    return _set(tensor, values)
