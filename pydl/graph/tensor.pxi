# What the tape needs of a tensor, and the handle of a hook.


cdef class TensorCore:
    """What the tape needs of a tensor. The public class `pydl.Tensor` adds the methods."""

    cdef public object data            # numpy.ndarray
    cdef public object grad            # Tensor of the same shape, or None
    cdef bint _requires_grad
    cdef public Node node              # the operation that made it; None for a leaf
    cdef public int output_index       # which of the node's outputs it is
    cdef long _own_version
    cdef TensorCore _base              # whose memory it shares: the version is counted there
    cdef public list hooks
    cdef bint _retains_grad
    cdef bint _is_inference
    cdef object __weakref__

    # Operators stand here because a slot of a compiled class costs no look-up and no Python frame.
    def __add__(self, other):
        return operate(PLUS, self, other)

    def __radd__(self, other):
        return operate(PLUS, self, other)

    def __sub__(self, other):
        return operate(MINUS, self, other)

    def __rsub__(self, other):
        return operate(MINUS, other, self)

    def __mul__(self, other):
        return operate(TIMES, self, other)

    def __rmul__(self, other):
        return operate(TIMES, self, other)

    def __truediv__(self, other):
        return operate(OVER, self, other)

    def __rtruediv__(self, other):
        return operate(OVER, other, self)

    @property
    def requires_grad(self):
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, bint value):
        if self.node is not None and not value:
            raise GraphError("requires_grad: only leaf tensors can be switched off; use .detach() on a computed tensor")
        if value and self.data.dtype.kind != "f":
            raise GraphError(
                f"requires_grad: only floating tensors have gradients, this one is {self.data.dtype}; "
                "convert it with .to(pydl.float32)"
            )
        if value and self._is_inference:
            raise GraphError("requires_grad: a tensor made in inference_mode cannot need a gradient; make it outside")
        self._requires_grad = value

    @property
    def is_leaf(self):
        """True when no recorded operation made this tensor."""
        return self.node is None

    @property
    def is_inference(self):
        return self._is_inference

    @property
    def version(self):
        """Counts in-place changes of the memory, shared with all views of it."""
        return self._base._own_version if self._base is not None else self._own_version

    def bump_version(self):
        """Tell the tape that the memory has been changed in place."""
        if pydl_recording:
            notes.bumped.append(self)
        if self._base is not None:
            self._base._own_version += 1
        else:
            self._own_version += 1

    def share_version(self, TensorCore other not None):
        self._base = other._base if other._base is not None else other

    def retain_grad(self):
        """Keep the gradient of this computed tensor in `.grad` after backward."""
        if not self._requires_grad:
            raise GraphError("retain_grad: the tensor does not require a gradient")
        self._retains_grad = True
        if self.node is not None:
            self.node.watch(self)

    def register_hook(self, hook):
        """Call `hook(grad)` when this tensor's gradient is known; a returned tensor replaces the gradient.

        Returns a handle with `remove()`.
        """
        if not self._requires_grad:
            raise GraphError("register_hook: the tensor does not require a gradient")
        if self.hooks is None:
            self.hooks = []
        self.hooks.append(hook)
        if self.node is not None:
            self.node.watch(self)
        return HookHandle(self.hooks, hook)


cdef class HookHandle:
    """Removes a hook again."""

    cdef list hooks
    cdef object hook

    def __init__(self, hooks, hook):
        self.hooks = hooks
        self.hook = hook

    def remove(self):
        if self.hooks is not None and self.hook in self.hooks:
            self.hooks.remove(self.hook)
        self.hooks = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()
