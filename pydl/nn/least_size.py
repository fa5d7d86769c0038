"""The smallest input that a network takes, found by trying: for the error message when one was too small."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from pydl.errors import TooSmallError
from pydl.graph.engine import TensorCore, wrap
from pydl.graph.modes import no_grad

if TYPE_CHECKING:
    from pydl.nn.module import Module

_LARGEST, _SECONDS = 1024, 3.0


def least_size(model: Module, args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """The least equal sizes of the spatial axes with which no window is larger than its input, or None if not found soon.

    The network stays as it was: buffers (running means) and the random numbers are put back.
    """
    from pydl.random import fork_rng

    if len(args) != 1 or not isinstance(args[0], TensorCore) or args[0].data.ndim not in (3, 4, 5):
        return None
    shape, dtype = args[0].data.shape, args[0].data.dtype
    buffers = [(b, b.data.copy()) for b in model.buffers()]
    end = time.monotonic() + _SECONDS

    def passes(size: int) -> bool:
        x = wrap(np.zeros((2, shape[1], *(size,) * (len(shape) - 2)), dtype))
        try:
            model.forward(x)
        except TooSmallError:
            return False
        except Exception:  # what comes after the windows, a linear layer of a fixed size say, is another matter
            return True
        return True

    try:
        with no_grad(), fork_rng():
            low, high = min(shape[2:]), 2 * min(shape[2:]) + 1
            while not passes(high):
                low, high = high, 2 * high
                if high > _LARGEST or time.monotonic() > end:
                    return None
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if passes(middle) else (middle, high)
            return (high,) * (len(shape) - 2)
    finally:
        for buffer, values in buffers:
            np.copyto(buffer.data, values)
