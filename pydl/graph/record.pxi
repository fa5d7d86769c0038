# Running an operation and recording it: `apply`, the general way. maps.pxi has the short one.

cdef object ndarray = np.ndarray
cdef object numpy_scalar = np.generic


cdef inline TensorCore new_tensor(array):
    cdef TensorCore t = TensorCore.__new__(tensor_class)
    if type(array) is not ndarray and isinstance(array, numpy_scalar):  # NumPy's arithmetic on 0-d arrays gives scalars
        array = np.asarray(array)
    t.data = array
    return t


def wrap(array):
    """A tensor over this ndarray, without a copy, a gradient or any check."""
    return new_tensor(array)


def set_tensor_class(cls):
    global tensor_class
    tensor_class = cls


def apply(op, *args):
    """Run `op.forward(ctx, *args)` with tensors replaced by their ndarrays, and record it if a gradient is wanted."""
    global next_sequence
    cdef Py_ssize_t i, n = len(args)
    cdef TensorCore t
    cdef bint record = False
    cdef list raw = list(args)
    cdef Node node = Node.__new__(Node)
    cdef list needs = None
    cdef TensorCore first = None
    for i in range(n):
        if isinstance(args[i], TensorCore):
            t = <TensorCore>args[i]
            raw[i] = t.data
            if first is None:
                first = t
            if t._requires_grad and pydl_grad_enabled:
                if not record:
                    record = True
                    needs = [False] * n
                needs[i] = True
    node.op = op
    node.materialize_grads = True
    node.needs = tuple(needs) if record else (False,) * n
    if pydl_recording:
        note_apply(op, args)
    if observer is not None or profiling:
        out = run_watched(op, node, raw)
    else:
        out = op.forward(node, *raw)
    if pydl_recording:
        notes.after(op)
    if anomaly_enabled:
        node.module_path = current_module_path()
        check_finite(op, out, node.module_path, "forward")
    cdef bint several = type(out) is tuple
    cdef tuple arrays = <tuple>out if several else (out,)
    cdef list tensors = []
    for array in arrays:
        t = new_tensor(array)
        t._is_inference = pydl_inference
        tensors.append(t)
        if op.is_view and first is not None:
            t.share_version(first)
    if record:
        record_node(node, args, raw, tensors, arrays)
    else:
        node.to_save = None
    return tuple(tensors) if several else tensors[0]


cdef record_node(Node node, tuple args, list raw, list tensors, tuple arrays):
    global next_sequence
    cdef Py_ssize_t i, j
    cdef TensorCore t
    cdef Saved s
    cdef list edges = []
    next_sequence += 1
    node.sequence = next_sequence
    for i in range(len(args)):
        if node.needs[i]:
            t = <TensorCore>args[i]
            edges.append(edge(t))
        else:
            edges.append(None)
    node.inputs = tuple(edges)
    node.precision = native.precision()
    if node.module_path is None and module_stack:
        node.module_path = current_module_path()
    meta = []
    cdef bint any_output = False
    for j in range(len(tensors)):
        t = <TensorCore>tensors[j]
        array = arrays[j]
        meta.append((array.shape, array.dtype))
        if array.dtype.kind != "f":
            continue
        if node.non_differentiable is not None and any(array is x for x in node.non_differentiable):
            continue
        t.node = node
        t.output_index = j
        t._requires_grad = True
        any_output = True
        if node.can_remake:
            Counter.of(t)
    node.non_differentiable = None
    node.output_meta = tuple(meta)
    if node.to_save is None or not any_output:
        node.to_save = None
        return
    cdef list saved = []
    for array in node.to_save:
        if array is None:
            saved.append(None)
            continue
        s = Saved.__new__(Saved)
        s.array = array
        s.output = -1
        for i in range(len(raw)):
            if raw[i] is array and isinstance(args[i], TensorCore):
                t = <TensorCore>args[i]
                if t._is_inference:
                    raise saved_inference_tensor(node)
                if is_remade(t):
                    keep_recipe(s, t)
                    break
                s.tensor = t
                s.counter = t._base if t._base is not None else t
                break
        else:
            for j in range(len(arrays)):
                if arrays[j] is array:
                    s.output = j
                    t = <TensorCore>tensors[j]
                    s.counter = Counter.of(t)
                    break
        if s.counter is not None:
            s.version = s.counter._own_version
        saved.append(s)
    node.to_save = None
    node.saved_list = saved


# Smaller arrays are not worth a second computation.
cdef enum:
    REMADE_FROM = 1 << 16


cdef bint is_remade(TensorCore t):
    """Whether the tensor need not be kept, because its node can make it again; not once it was changed in place."""
    return t.node is not None and t.node.can_remake and t.data.nbytes >= REMADE_FROM and t._base._own_version == 0


cdef keep_recipe(Saved s, TensorCore t):
    """Keep the node instead of the array; what others hold of the array is used while it lives."""
    s.array = None
    s.maker = t.node
    s.counter = t._base
    if t.node.remade is None:
        t.node.remade = weakref(t.data)


cdef saved_inference_tensor(Node node):
    return GraphError(
        f"[{op_name(node.op)}] a tensor made in inference_mode cannot be saved for backward; "
        "use .clone() outside inference_mode"
    )


cdef class Counter:
    """Gives an output a separate version holder: the node must not own its own output (a reference cycle)."""

    @staticmethod
    cdef TensorCore of(TensorCore t):
        if t._base is None:
            t._base = TensorCore.__new__(TensorCore)
        return t._base
