"""`Op`: the one shape that every operation has, and `Cost`, what it costs."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Cost(NamedTuple):
    """What one forward costs: floating-point operations, and bytes that must move at least once."""

    flops: int
    bytes: int


class SlidingWindow(NamedTuple):
    """How far each output position looks along each spatial axis: what a receptive field follows from."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    transposed: bool = False


class Op:
    """One differentiable operation as a class of static methods; never instantiated.

    ``forward(ctx, *args)`` is given ndarrays where tensors were passed, checks shapes through ``shape`` before any
    kernel runs, keeps what backward needs with ``ctx.save(...)`` and returns an ndarray or a tuple of them.
    ``backward(ctx, *grads)`` returns one gradient per argument of forward (None where there is none). By default it
    works on ndarrays with native kernels; with ``backward_on_tensors = True`` it works on tensors with other ops, and can
    then be differentiated again (``create_graph=True``).
    ``remake(ctx)`` gives the output again from what was saved, where forward has set ``ctx.can_remake``: an operation that
    saves this output then keeps the node instead, which costs a pass over memory in its backward and no room until then.
    ``shape(*args)`` is the shape rule: same arguments as forward, raises `ShapeError`, returns the output shape.
    ``cost(out_shape, *args)`` and ``backward_cost(cost, needs, *args)`` feed the profiler, ``summary`` and the roofline;
    the profiler asks once recording has ended, with arrays of the right shape and dtype that hold nothing, None for functions.
    ``window(*args)`` is the kernel that slides over the spatial axes (convolution, pooling), None for all other ops.
    """

    name: ClassVar[str] = ""
    backward_on_tensors: ClassVar[bool] = False
    is_view: ClassVar[bool] = False  # the output shares the first input's memory
    flops_per_element: ClassVar[int] = 1  # for the default cost; 0 where data is only moved

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def remake(ctx: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def cost(cls, out_shape: Shape, *args: Any) -> Cost:
        """Default: so many operations for each element of the largest array; every array read or written once."""
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        elements = math.prod(out_shape)
        largest = max([elements, *(a.size for a in arrays)])
        itemsize = arrays[0].itemsize if arrays else 4
        return Cost(cls.flops_per_element * largest, sum(a.nbytes for a in arrays) + itemsize * elements)

    @classmethod
    def backward_cost(cls, forward: Cost, needs: tuple[bool, ...], *args: Any) -> Cost:
        """What a native backward costs: by default the forward once more for the data and once for the weights, as far as
        their gradients are wanted. (A backward made of ops costs what these cost.)"""
        factor = min(2, sum(needs))
        return Cost(factor * forward.flops, factor * forward.bytes)

    @staticmethod
    def window(*args: Any) -> SlidingWindow | None:
        return None
