"""`Tensor`: an ndarray that records the operations made with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError, DTypeError, GraphError
from pydl.graph import backward as _backward
from pydl.graph import engine
from pydl.graph.engine import TensorCore
from pydl.graph.modes import no_grad
from pydl.ops._common import as_tensor as _as_tensor
from pydl.ops._common import copy as _copy
from pydl.ops._common import empty as _empty
from pydl.ops._common import empty_like as _empty_like
from pydl.ops._common import fill as _fill
from pydl.ops._common import named
from pydl.ops._common import sizes_of as _sizes_of

# Functions whose first argument is the tensor: x.sum(0) is ops.sum(x, 0).
METHODS = (
    # elementwise, arithmetic, trigonometry, comparison
    "abs", "absolute", "acos", "acosh", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh",
    "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "ceil", "clamp", "clamp_max", "clamp_min", "clip", "clone", "copysign", "cos",
    "cosh", "deg2rad", "div", "divide", "eq", "erf", "erfc", "exp", "exp2", "expm1", "fix", "float_power", "floor",
    "floor_divide", "fmax", "fmin", "fmod", "frac", "ge", "greater", "greater_equal", "gt", "heaviside", "hypot", "isclose",
    "isfinite", "isinf", "isnan", "isneginf", "isposinf", "le", "lerp", "less", "less_equal", "log", "log10", "log1p",
    "log2", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "lt",
    "masked_fill", "maximum", "minimum", "mul", "multiply", "nan_to_num", "ne", "neg", "negative", "not_equal", "positive",
    "pow", "rad2deg", "reciprocal", "remainder", "round", "rsqrt", "sigmoid", "sign", "signbit", "sin", "sinc", "sinh",
    "sqrt", "square", "sub", "subtract", "tan", "tanh", "true_divide", "trunc", "xlogy", "relu", "prelu", "hardshrink",
    "softmax", "log_softmax",
    # reduce, scan, statistics
    "all", "allclose", "amax", "amin", "aminmax", "any", "argmax", "argmin", "bincount", "corrcoef", "count_nonzero", "cov",
    "cummax", "cummin", "cumprod", "cumsum", "diff", "dist", "equal", "histc", "logcumsumexp", "logsumexp", "max", "mean",
    "min", "mode", "msort", "nanmean", "nanmedian", "nanquantile", "nansum", "norm", "prod", "quantile", "std", "sum", "var",
    # matmul
    "addmm", "addmv", "addr", "baddbmm", "bmm", "cross", "dot", "ger", "inner", "kron", "matmul", "matrix_power", "mm", "mv",
    "outer", "vdot",
    # shape, arrange
    "argwhere", "broadcast_to", "chunk", "contiguous", "diag", "diag_embed", "diagflat", "diagonal", "dsplit", "expand",
    "expand_as", "flatten", "flip", "fliplr", "flipud", "hsplit", "moveaxis", "movedim", "narrow", "permute", "ravel",
    "repeat", "repeat_interleave", "reshape", "roll", "rot90", "select", "split", "split_with_sizes", "squeeze",
    "swapaxes", "swapdims", "t",
    "tensor_split", "tile", "trace", "transpose", "tril", "triu", "unbind", "unflatten", "unsqueeze", "view", "vsplit",
    # index, sort
    "argsort", "gather", "index_add", "index_copy", "index_fill", "index_select", "kthvalue", "masked_select", "median",
    "nonzero", "scatter", "scatter_add", "scatter_reduce", "sort", "take", "take_along_dim", "topk", "unique",
    "unique_consecutive",
    # composed
    "addcdiv", "addcmul",
)
# Of these there is a form that changes the tensor itself: x.exp_().
IN_PLACE = (
    "abs", "acos", "acosh", "add", "addcdiv", "addcmul", "addmm", "asin", "asinh", "atan", "atan2", "atanh", "baddbmm",
    "ceil", "clamp", "clamp_max", "clamp_min", "clip", "copysign", "cos", "cosh", "cumprod", "cumsum", "div", "divide",
    "erf", "exp", "exp2", "expm1", "floor", "floor_divide", "fmod", "frac", "hypot", "index_add", "index_copy",
    "index_fill", "lerp", "log", "log10", "log1p", "log2", "logit", "masked_fill", "mul", "multiply", "nan_to_num", "neg",
    "negative", "pow", "reciprocal", "relu", "remainder", "round", "rsqrt", "scatter", "scatter_add", "scatter_reduce",
    "sigmoid", "sign", "sin", "sinc", "sinh", "sqrt", "square", "sub", "subtract", "tan", "tanh", "tril", "triu", "trunc",
    "xlogy",
)


class Tensor(TensorCore):
    """A multi-dimensional array of one element type that can be differentiated.

    Made by `pydl.tensor` (copies), `pydl.from_numpy` (shares memory), `pydl.zeros`, `pydl.randn` ...; the memory is a
    ``numpy.ndarray``, which `numpy()` returns without a copy.
    """

    __slots__ = ()
    __array_priority__ = 1000  # ndarray + Tensor is Tensor.__radd__
    __hash__ = object.__hash__

    def __new__(cls, data: Any = None, dtype: Any = None, requires_grad: bool = False) -> Any:
        self = super().__new__(cls)
        if data is not None:
            self.data = _to_array(data, dtype)
            if requires_grad:
                self.requires_grad = True
        return self

    # ------------------------------------------------------------------ what it is
    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def is_contiguous_array(self) -> bool:
        return bool(self.data.flags.c_contiguous)

    @property
    def grad_fn(self) -> Any:
        """The recorded operation that made this tensor; None for a leaf."""
        return self.node

    @property
    def T(self) -> Any:
        """The axes reversed, as a view."""
        return self.permute(*range(self.ndim - 1, -1, -1))

    @property
    def mT(self) -> Any:
        """The last two axes swapped, as a view."""
        return self.transpose(-2, -1)

    def dim(self) -> int:
        return self.data.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.data.shape if dim is None else self.data.shape[dim]

    def numel(self) -> int:
        return self.data.size

    ndimension, nelement = dim, numel

    def element_size(self) -> int:
        """Bytes of an element."""
        return self.data.itemsize

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def data_ptr(self) -> int:
        """Address of the first element."""
        return self.data.ctypes.data

    def is_contiguous(self) -> bool:
        """Whether the elements lie in memory in the order of the axes, without gaps."""
        return bool(self.data.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        return self.data.dtype.kind == "f"

    def stride(self) -> tuple[int, ...]:
        """Distance between neighbours along each axis, in elements."""
        return tuple(s // self.data.itemsize for s in self.data.strides)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a tensor without axes; use .item()")
        return self.data.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("a tensor without axes cannot be iterated; use .item()")
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return value in self.data

    # ------------------------------------------------------------------ leaving and entering
    def numpy(self) -> np.ndarray:
        """The memory as a ndarray, without a copy; a tensor in a recorded computation must be detached first."""
        if self.requires_grad:
            raise GraphError("numpy: the tensor requires a gradient, and changes of the array would not be recorded; "
                             "use .detach().numpy()")
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def item(self) -> Any:
        """The only element as a Python number."""
        if self.data.size != 1:
            raise ArgumentError(f"item: the tensor has {self.data.size} elements (shape {self.shape}), expected one")
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iub":
            raise TypeError(f"only an integer tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ArgumentError(f"the truth of a tensor with {self.data.size} elements is ambiguous; use .any() or .all()")
        return bool(self.data.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.data.size == 1 else repr(self)

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", prefix="tensor(", precision=4, threshold=100)
        notes = []
        if self.data.dtype not in (np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)):
            notes.append(f"dtype={self.data.dtype}")
        if self.data.size > 100 or self.data.size == 0:
            notes.append(f"shape={self.shape}")
        if self.node is not None:
            notes.append(f"grad_fn=<{self.node.name}>")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join([text, *notes])})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if not self.is_leaf:
            raise GraphError("deepcopy: only leaf tensors can be deep-copied; use .detach() first")
        out = type(self)(self.data.copy(order="K"))
        out.requires_grad = self.requires_grad
        memo[id(self)] = out
        return out

    def __reduce__(self) -> Any:
        raise TypeError("tensors are not pickled; use pydl.save / pydl.load (safetensors)")

    # ------------------------------------------------------------------ dtype
    def to(self, *args: Any, dtype: Any = None, device: Any = None) -> Any:
        """The tensor with another element type: ``x.to(pydl.float64)``, ``x.to(other)``. Devices other than the CPU
        are refused: this build has no CUDA kernels."""
        dtype = requested_dtype(args, dtype, device)
        return self if dtype is None else ops.cast(self, dtype)

    type = to

    def float(self) -> Any:
        return self.to(np.float32)

    def double(self) -> Any:
        return self.to(np.float64)

    def long(self) -> Any:
        return self.to(np.int64)

    def int(self) -> Any:
        return self.to(np.int32)

    def bool(self) -> Any:
        return self.to(np.bool_)

    def cpu(self) -> Any:
        return self

    # ------------------------------------------------------------------ graph
    def backward(self, gradient: Any = None, retain_graph: Any = None, create_graph: Any = False) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf it was computed from; see `pydl.autograd.backward`."""
        _backward(self, gradient, retain_graph, create_graph)

    def requires_grad_(self, requires_grad: Any = True) -> Any:
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Any:
        """The same memory without the record of how it was computed."""
        out = engine.wrap(self.data)
        out.share_version(self)
        return out

    # ------------------------------------------------------------------ in place
    def _in_place(self, name: str, *others: Any) -> None:
        recorded = self.requires_grad or any(isinstance(o, TensorCore) and o.requires_grad for o in others)
        if recorded and engine.is_grad_enabled():
            raise GraphError(
                f"{name}: an in-place change of a tensor in a recorded computation would lose its gradient; "
                "write x = x + y, or change a leaf under pydl.no_grad()"
            )
        if not self.data.flags.writeable:
            raise GraphError(f"{name}: the tensor's memory is read-only; use .clone()")
        self.bump_version()

    def copy_(self, other: Any) -> Any:
        self._in_place("copy_", other)
        source = _as_tensor(other, self).data
        if source.shape != self.shape:
            source = np.broadcast_to(source, self.shape)
        _write(self.data, source, "unsafe")
        return self

    def fill_(self, value: Any) -> Any:
        self._in_place("fill_", value)
        _fill(self.data, value)
        return self

    def zero_(self) -> Any:
        return self.fill_(0)

    def fill_diagonal_(self, fill_value: Any) -> Any:
        self._in_place("fill_diagonal_", fill_value)
        np.fill_diagonal(self.data, fill_value)
        return self

    def _draw(self, name: str, how: str, *arguments: Any, generator: Any = None) -> Any:
        """Random numbers into the tensor's own memory."""
        from pydl import random

        self._in_place(name)
        drawn = getattr(random, how)(*arguments, self.shape, generator=generator)
        _write(self.data, drawn.data, "unsafe")
        return self

    def normal_(self, mean: Any = 0.0, std: Any = 1.0, *, generator: Any = None) -> Any:
        return self._draw("normal_", "normal", mean, std, generator=generator)

    def random_(self, low: Any = 0, high: Any = None, *, generator: Any = None) -> Any:
        """Whole numbers from `low` to `high` - 1; with one argument from 0, with none from 0 to the largest held exactly."""
        exact = {"f": 2**24 if self.dtype == np.float32 else 2**53}
        top = exact.get(self.dtype.kind, 2 if self.dtype == np.bool_ else None) or np.iinfo(self.dtype).max
        low, high = (low, high) if high is not None else (0, low or top)
        return self._draw("random_", "randint", low, high, generator=generator)

    def uniform_(self, low: Any = 0.0, high: Any = 1.0, *, generator: Any = None) -> Any:
        return self._draw("uniform_", "uniform", low, high, generator=generator)

    def bernoulli_(self, p: Any = 0.5, *, generator: Any = None) -> Any:
        """1 with probability `p`, else 0."""
        from pydl import random

        return self.copy_(random.rand(*self.shape, generator=generator) < p)

    # ------------------------------------------------------------------ others of its kind
    def new_tensor(self, data: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return tensor(data, self.dtype if dtype is None else dtype, requires_grad)

    def new_empty(self, *size: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return empty(*size, dtype=dtype or self.dtype, requires_grad=requires_grad)

    def new_zeros(self, *size: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return zeros(*size, dtype=dtype or self.dtype, requires_grad=requires_grad)

    def new_ones(self, *size: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return ones(*size, dtype=dtype or self.dtype, requires_grad=requires_grad)

    def new_full(self, size: Any, fill_value: Any, dtype: Any = None, requires_grad: Any = False) -> Any:
        return full(size, fill_value, dtype or self.dtype, requires_grad)

    def type_as(self, other: Any) -> Any:
        return self.to(other.dtype)

    def view_as(self, other: Any) -> Any:
        return ops.view(self, other.shape)

    def reshape_as(self, other: Any) -> Any:
        return ops.reshape(self, other.shape)

    def where(self, condition: Any, other: Any) -> Any:
        return ops.where(condition, self, other)

    def unfold(self, dimension: Any, size: Any, step: Any) -> Any:
        return ops.unfold_windows(self, dimension, size, step)

    def bernoulli(self, *, generator: Any = None) -> Any:
        from pydl import random

        return random.bernoulli(self, generator=generator)

    def multinomial(self, num_samples: Any, replacement: Any = False, *, generator: Any = None) -> Any:
        from pydl import random

        return random.multinomial(self, num_samples, replacement, generator=generator)

    def __getitem__(self, index: Any) -> Any:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._in_place("x[index] = value", value)
        ops.setitem(self, index, value)

    # ------------------------------------------------------------------ operators
    __pow__ = ops.pow  # +, -, * and / are in the compiled TensorCore
    __neg__, __abs__ = ops.neg, ops.abs

    def __rmod__(self, other: Any) -> Any:
        return ops.remainder(_as_tensor(other, self), self)

    def __rfloordiv__(self, other: Any) -> Any:
        return ops.floor_divide(_as_tensor(other, self), self)

    def __rpow__(self, other: Any) -> Any:
        return ops.pow(_as_tensor(other, self), self)

    def __matmul__(self, other: Any) -> Any:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul(_as_tensor(other), self)

    __eq__, __ne__ = ops.eq, ops.ne
    __lt__, __le__, __gt__, __ge__ = ops.lt, ops.le, ops.gt, ops.ge
    __and__, __or__, __xor__, __invert__ = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor, ops.bitwise_not
    __lshift__, __rshift__ = ops.bitwise_left_shift, ops.bitwise_right_shift
    __mod__, __floordiv__ = ops.remainder, ops.floor_divide

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the METHODS below


def _in_place(name: str) -> Callable[..., Any]:
    function = getattr(ops, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._in_place(f"{name}_", *args, *kwargs.values())
        with no_grad():
            result = function(self, *args, **kwargs)
        if result.shape != self.shape:
            raise ArgumentError(f"{name}_: result of shape {result.shape} does not fit into {self.shape} in place")
        _write(self.data, result.data, "same_kind")
        return self

    return named(method, f"{name}_", f"`{name}`, written into the tensor itself.")


for _name in METHODS:
    setattr(Tensor, _name, getattr(ops, _name))
for _name in IN_PLACE:
    setattr(Tensor, f"{_name}_", _in_place(_name))
for _name in ("add", "sub", "mul", "truediv"):  # x += y
    setattr(Tensor, f"__i{_name}__", getattr(Tensor, f"{_name.removeprefix('true')}_"))

engine.set_tensor_class(Tensor)


def requested_dtype(args: Sequence[Any], dtype: Any, device: Any) -> Any:
    """What the arguments of ``to`` ask for: an element type, or None; devices other than the CPU are refused."""
    for a in args:
        if isinstance(a, TensorCore):
            dtype = a.data.dtype
        elif isinstance(a, str) and a.split(":")[0] in ("cpu", "cuda", "gpu", "mps"):
            device = a
        elif a is not None:
            dtype = a
    if device is not None and str(device) != "cpu":
        raise ArgumentError(f"to: device {device!r} is not available; this build of pydl has CPU kernels only")
    return dtype


def _to_array(data: Any, dtype: Any) -> np.ndarray:
    """A ndarray in pooled memory: Python floats become float32, as in PyTorch; ndarrays keep their dtype."""
    if isinstance(data, TensorCore):
        data = data.data
    keeps = isinstance(data, np.ndarray | np.generic)
    try:
        source = np.asarray(data)
    except ValueError as error:
        raise ArgumentError(f"tensor: the nested sequences are ragged ({error}); pad them to one length") from None
    if source.dtype.kind not in "fiub" and source.dtype.name != "bfloat16":
        raise DTypeError(f"tensor: elements of type {source.dtype} cannot be held; expected numbers or booleans")
    if dtype is None:
        dtype = source.dtype if keeps or source.dtype.kind != "f" else np.float32
    out = _empty(source.shape, np.dtype(dtype))
    np.copyto(out, source, casting="unsafe")
    return out


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`: numbers, nested lists, an ndarray or a tensor.

    Python floats give float32 and integers int64; an ndarray keeps its dtype.
    """
    return Tensor(data, dtype, requires_grad)


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """A tensor that shares the memory of an ndarray or tensor where it can."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == np.dtype(dtype)):
        return from_numpy(data)
    return tensor(data, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor over the memory of an ndarray, without a copy."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}; use pydl.tensor")
    return engine.wrap(array)


def from_dlpack(source: Any) -> Tensor:
    """A tensor over the memory of any object that speaks DLPack (a torch tensor, say), without a copy."""
    return engine.wrap(np.from_dlpack(source))


def _write(target: np.ndarray, source: np.ndarray, casting: Any) -> None:
    """Copy into memory that is there."""
    if source.dtype == target.dtype and not np.may_share_memory(source, target):
        _copy(source, target)
    else:
        np.copyto(target, source, casting=casting)


def _filled(shape: Any, value: Any, dtype: Any, requires_grad: bool) -> Tensor:
    out = _empty(_sizes_of(shape), np.dtype(dtype))
    _fill(out, value)
    t = engine.wrap(out)
    if requires_grad:
        t.requires_grad = True
    return t


def zeros(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    return _filled(shape, 0, dtype, requires_grad)


def empty(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A tensor whose elements are whatever the memory held: ``empty(2, 3)`` or ``empty((2, 3))``."""
    t = engine.wrap(_empty(_sizes_of(shape), np.dtype(dtype)))
    if requires_grad:
        t.requires_grad = True
    return t


def ones(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Ones: ``ones(2, 3)`` or ``ones((2, 3))``."""
    return _filled(shape, 1, dtype, requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one value; its dtype follows the value."""
    if dtype is None:
        dtype = np.bool_ if isinstance(fill_value, bool) else np.int64 if isinstance(fill_value, int) else np.float32
    return _filled(tuple(size), fill_value, dtype, requires_grad)


def empty_like(input: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the same shape and axis order whose elements are whatever the memory held."""
    t = engine.wrap(_empty_like(input.data, dtype))
    if requires_grad:
        t.requires_grad = True
    return t


def full_like(input: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one value, of the shape, dtype and axis order of another."""
    t = empty_like(input, dtype, requires_grad)
    _fill(t.data, fill_value)
    return t


def arange(*args: Any, dtype: Any = None) -> Tensor:
    """Numbers start, start + step, ... below stop: arange(stop), arange(start, stop[, step])."""
    array = np.arange(*args)
    if dtype is None and array.dtype == np.float64:
        dtype = np.float32
    return tensor(array, dtype)


def linspace(start: float, end: float, steps: int, dtype: Any = np.float32) -> Tensor:
    """`steps` numbers at equal distances from start to end, both included."""
    return tensor(np.linspace(start, end, steps), dtype)


def logspace(start: float, end: float, steps: int, base: float = 10.0, dtype: Any = np.float32) -> Tensor:
    """`steps` powers of `base` whose exponents lie at equal distances from start to end, both included."""
    return tensor(np.logspace(start, end, steps, base=base), dtype)


def eye(n: int, m: int | None = None, dtype: Any = np.float32) -> Tensor:
    """Ones on the diagonal, zeros elsewhere. Shape: (n, m or n)."""
    return tensor(np.eye(n, m, dtype=dtype))
