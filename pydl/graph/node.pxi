# What is kept of a recorded operation: the node and the arrays that its backward needs.


@cython.freelist(256)
cdef class Saved:
    """An array kept for backward: with the tensor it belongs to, if any, and the version it had."""

    cdef object array          # None where the node `maker` makes it again
    cdef Node maker
    cdef TensorCore tensor     # an input; None for intermediate arrays and outputs
    cdef long version
    cdef TensorCore counter    # whose version to compare
    cdef int output            # index of the node's output, or -1


@cython.freelist(256)
cdef class Node:
    """One recorded operation; also the `ctx` that forward and backward are given.

    forward stores what backward needs with `ctx.save(...)` and plain constants as attributes of ctx.
    """

    cdef public object op
    cdef tuple inputs          # per argument: as `edge` makes it, or None
    cdef public tuple needs    # per argument: whether its gradient is wanted
    cdef public long long sequence
    cdef list saved_list
    cdef tuple to_save
    cdef public tuple output_meta   # (shape, dtype) per output
    cdef dict watched          # output index -> tensor with hooks or retain_grad
    cdef bint freed
    cdef public str module_path
    cdef int precision         # of products in forward, and so in backward
    cdef public tuple non_differentiable
    cdef public bint materialize_grads
    cdef public bint owns_gradient  # in backward: nobody else holds the incoming gradient, its memory may be written to
    cdef bint consumes              # in backward: nobody will ask for the saved arrays again
    cdef public bint can_remake     # op.remake(ctx) gives the one output again at the price of a pass over memory
    cdef object remade              # weak reference to that output, for as long as someone holds it
    cdef object rule           # MapRule of an element-wise function recorded by the short way (maps.pxi)
    cdef tuple constants       # and the constants of that function
    cdef int64_t event         # of the forward, where the profiler has recorded it
    cdef dict __dict__

    def save(self, *arrays):
        """Keep arrays (inputs, outputs or intermediate results; None allowed) until backward has used them."""
        self.to_save = arrays

    def mark_non_differentiable(self, *outputs):
        """Name outputs (by identity) that have no gradient, such as indices."""
        self.non_differentiable = outputs

    def owns_saved(self, Py_ssize_t index):
        """In backward: whether the saved input at this index is held by this node and one variable of the caller alone, memory
        and views included, so that its memory may be written to."""
        cdef Saved s = self.saved_list[index]
        cdef PyObject* t = <PyObject*>s.tensor  # borrowed, as what follows: counting must not count itself
        cdef PyObject* first
        cdef PyObject* array = <PyObject*>s.array
        if not self.consumes or s.tensor is None or s.maker is not None or s.tensor.node is None:
            return False
        cdef bint is_view = s.tensor._base is not None
        if refcount(t) != (1 if is_view else 2) or refcount(array) != 3:  # kept, of the tensor, of the caller
            return False
        cdef Py_ssize_t views = 1
        if is_view:
            first = <PyObject*>s.tensor._base  # whose version is counted, and who lives for that alone
            if (<TensorCore>first).data is not None:
                if refcount(first) != 2 or refcount(<PyObject*>(<TensorCore>first).data) != 1:
                    return False
                views += (<TensorCore>first).data.base is s.array.base
        base = s.array.base
        if not isinstance(base, np.ndarray):
            return base is not None and views == 1
        return refcount(<PyObject*>base) == views + 1 and base.base is not None and not isinstance(base.base, np.ndarray)

    def watch(self, TensorCore tensor):
        if self.watched is None:
            self.watched = {}
        self.watched[tensor.output_index] = tensor

    @property
    def name(self):
        return op_name(self.op)

    @property
    def next_nodes(self):
        """What the inputs came from: a tuple of Node, leaf tensor or None (for drawing the graph)."""
        return tuple(e[0] if type(e) is tuple else e for e in (self.inputs or ()))

    @property
    def constant_inputs(self):
        """The inputs without a gradient that are kept for backward, none once freed (for drawing the graph)."""
        kept = [] if self.freed else [(<Saved>s).tensor for s in self.saved_list or () if s is not None]
        return tuple(t for t in kept if t is not None and not t.requires_grad)

    @property
    def saved(self):
        """The saved arrays in order: tensors for an op whose backward is made of ops, else ndarrays."""
        return self._unpack(self.op.backward_on_tensors)

    @property
    def saved_arrays(self):
        return self._unpack(False)

    @property
    def saved_tensors(self):
        return self._unpack(True)

    cdef tuple _unpack(self, bint as_tensors):
        cdef Saved s
        cdef TensorCore t
        if self.freed:
            raise used_up(self)
        out = []
        for item in self.saved_list or ():
            if item is None:
                out.append(None)
                continue
            s = <Saved>item
            if s.counter is not None and s.counter._own_version != s.version:
                shape = s.array.shape if s.maker is None else s.maker.output_meta[0][0]
                raise GraphError(
                    f"[{op_name(self.op)}] a tensor of shape {tuple(shape)} that backward needs was changed in "
                    f"place after use (version {s.counter._own_version}, expected {s.version}); "
                    "change a .clone() of it, or change it after backward"
                )
            array = s.array if s.maker is None else s.maker.output_again()
            if not as_tensors:
                out.append(array)
            elif s.tensor is not None:
                out.append(s.tensor)
            else:
                t = new_tensor(array)
                if s.output >= 0 or s.maker is not None:
                    t.node = self if s.maker is None else s.maker
                    t.output_index = max(s.output, 0)
                    t._requires_grad = True
                out.append(t)
        return tuple(out)

    cdef object output_again(self):
        array = self.remade()
        if array is None:
            array = self.op.remake(self)
            self.remade = weakref(array)
        return array

    cdef void release(self):
        """Let go of everything kept; an operation that kept nothing can go through backward again."""
        cdef bint attributes = has_attributes(self)
        if self.saved_list is not None or attributes:
            self.freed = True
        self.saved_list = None
        if attributes:
            clear_attributes(self)

    def __repr__(self):
        return f"<{op_name(self.op)} #{self.sequence}>"


def clear_attributes(node):
    node.__dict__.clear()


cdef bint has_attributes(Node node):
    cdef PyObject** attributes = _PyObject_GetDictPtr(<PyObject*>node)  # asking for __dict__ would make one
    return attributes != NULL and attributes[0] != NULL and len(<dict>attributes[0]) > 0


cdef used_up(Node node):
    return GraphError(
        f"[{op_name(node.op)}] backward a second time: what was kept was freed by the first backward; "
        "call that with retain_graph=True"
    )


cdef str op_name(op):
    return getattr(op, "name", None) or op.__name__.lower()
