"""`Op`: the one shape that every operation has, and `Cost`, what it costs."""

from __future__ import annotations

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
    ``shape(*args)`` is the shape rule: same arguments as forward, raises `ShapeError`, returns the output shape.
    ``cost(out_shape, *args)`` feeds the profiler, ``summary`` and the roofline.
    ``window(*args)`` is the kernel that slides over the spatial axes (convolution, pooling), None for all other ops.
    """

    name: ClassVar[str] = ""
    backward_on_tensors: ClassVar[bool] = False
    is_view: ClassVar[bool] = False  # the output shares the first input's memory

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        """Default: one operation per output element; every array read or written once."""
        moved = sum(a.nbytes for a in args if isinstance(a, np.ndarray))
        elements = int(np.prod(out_shape, dtype=np.int64))
        return Cost(elements, moved + 4 * elements)

    @staticmethod
    def window(*args: Any) -> SlidingWindow | None:
        return None
