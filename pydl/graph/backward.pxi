# The backward pass: visiting the nodes, adding gradients up, delivering them to leaves.


cdef check_finite(op, out, path, stage):
    for array in (out if type(out) is tuple else (out,)):
        if array is None:
            continue
        array = getattr(array, "data", array) if isinstance(array, TensorCore) else array
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = f" in module {path}" if path else ""
            kind = "NaN" if np.isnan(array).any() else "Inf"
            raise NonFiniteError(
                f"[{op_name(op)}]{where}: {stage} made the first {kind} (shape {tuple(array.shape)}); "
                "look at this operation's inputs, the learning rate and the initialisation"
            )


cdef TensorCore add_grads(TensorCore a, TensorCore b, bint create_graph):
    if create_graph:
        return a + b
    cdef int64_t event = begin_gradient(SUM, a.data, b.data)
    array = run_map(ADD, a.data, b.data, None)
    if array is None:
        array = accumulate_arrays(a.data, b.data)
    end_or_cancel(event, array)
    return new_tensor(array)


cdef object accumulate_arrays = np.add


def set_accumulate(function):
    """The native addition, given by pydl.ops: the engine itself imports no kernels."""
    global accumulate_arrays
    accumulate_arrays = function


cdef object copy_array = np.array


def set_copy(function):
    global copy_array
    copy_array = function


def run_backward(list roots, list grads, bint retain_graph=False, bint create_graph=False, targets=None):
    """Propagate `grads` from `roots`. Without `targets`, leaf gradients are added to `.grad`; with targets (tensors),
    their gradients are returned instead and nothing is stored."""
    cdef dict pending = {}     # sequence -> [node, gradient of each output]
    cdef priority_queue[long long] youngest  # sequence numbers of the pending nodes
    cdef dict leaves = {}      # id(leaf) -> (leaf, gradient so far)
    cdef dict wanted = {}      # id(leaf) or (sequence, output) -> index in targets
    cdef list results = None
    cdef TensorCore root, t
    cdef Node node
    cdef Py_ssize_t i
    if targets is not None:
        results = [None] * len(targets)
        for i in range(len(targets)):
            t = <TensorCore>targets[i]
            key = (t.node.sequence, t.output_index) if t.node is not None else id(t)
            wanted.setdefault(key, []).append(i)
    cdef int mode = pydl_grad_enabled
    cdef int precision = native.set_thread_precision(-1)  # in which hooks compute; an error must not leave a node's behind
    native.set_thread_precision(precision)
    cdef int64_t depth = profile_log.depth() if profiling else 0
    if pydl_recording:
        notes.backwards += 1
    pydl_set_grad(create_graph)
    try:
        for i in range(len(roots)):
            root = <TensorCore>roots[i]
            deliver(edge(root), <TensorCore>grads[i], pending, &youngest, leaves, create_graph)
        while not youngest.empty():
            node, outs = pending.pop(youngest.top())
            youngest.pop()
            run_node(node, outs, pending, &youngest, leaves, wanted, results, retain_graph, create_graph)
        flush_leaves(leaves, wanted, results, create_graph)
    finally:
        pydl_set_grad(mode)
        native.set_thread_precision(precision)
        if profiling:
            profile_log.unwind(depth)  # after an error
    return results


cdef run_node(Node node, list outs, dict pending, priority_queue[long long]* youngest, dict leaves, dict wanted, list results,
              bint retain_graph, bint create_graph):
    global anomaly_enabled
    cdef Py_ssize_t i
    cdef TensorCore g, t
    cdef bint checking = anomaly_enabled
    cdef int64_t event
    op = node.op
    if pydl_recording:
        notes.before(op)
    if node.freed:
        raise used_up(node)
    if node.watched is not None:
        for index, tensor in node.watched.items():
            if outs[index] is not None:
                t = <TensorCore>tensor
                outs[index] = run_hooks(t, outs[index])
                if t._retains_grad:
                    t.grad = outs[index]
    if wanted:
        for i in range(len(outs)):
            for k in wanted.get((node.sequence, i), ()):
                results[k] = outs[i]
    if node.materialize_grads and len(outs) > 1:
        for i in range(len(outs)):
            if outs[i] is None:
                shape, dtype = node.output_meta[i]
                outs[i] = new_tensor(np.zeros(shape, dtype))
    if node.rule is not None:
        if not create_graph and not checking:
            if map_backward(node, outs, pending, youngest, leaves, retain_graph):
                return
        take_long_way(node)
    cdef int precision = native.set_thread_precision(node.precision)
    node.owns_gradient = not create_graph and len(outs) == 1 and held_once(outs)
    node.consumes = not retain_graph and not create_graph
    event = begin_backward(node)
    if op.backward_on_tensors:
        anomaly_enabled = False  # the message shall name this operation, not one that its backward is made of
        try:
            result = op.backward(node, *outs)
        finally:
            anomaly_enabled = checking
    else:
        if create_graph:
            raise GraphError(
                f"[{op_name(op)}] has a native backward that cannot be differentiated a second time "
                "(create_graph=True); build this part from simpler operations"
            )
        arrays = [None if o is None else (<TensorCore>o).data for o in outs]
        result = op.backward(node, *arrays)
        arrays = None
    native.set_thread_precision(precision)
    end_event(event)
    if pydl_recording:
        notes.after(op)
    if type(result) is not tuple:
        result = (result,)
    if anomaly_enabled:
        check_finite(op, result, node.module_path, "backward")
    if len(result) < len(node.inputs):  # trailing arguments without a gradient may be left out
        result = result + (None,) * (len(node.inputs) - len(result))
    edges = node.inputs
    if not retain_graph and not create_graph:
        node.release()
    outs.clear()
    for i in range(len(edges)):
        if edges[i] is None:
            continue
        grad = result[i]
        if grad is None:
            continue
        g = <TensorCore>grad if isinstance(grad, TensorCore) else new_tensor(grad)
        deliver(edges[i], g, pending, youngest, leaves, create_graph)


cdef bint held_once(list outs, Py_ssize_t i=0):
    """Whether this list alone holds its gradient, and the gradient alone its array, which is no view."""
    cdef PyObject* grad = PyList_GET_ITEM(outs, i)  # borrowed, as the array below: counting must not count itself
    cdef PyObject* array
    if grad == NULL or <object>grad is None or refcount(grad) != 1:
        return False
    array = <PyObject*>(<TensorCore>grad).data
    if refcount(array) != 1:
        return False
    base = (<object>array).base
    return base is not None and not isinstance(base, np.ndarray)


cdef run_hooks(TensorCore t, grad):
    if t.hooks:
        for hook in list(t.hooks):
            replaced = hook(grad)
            if replaced is not None:
                grad = replaced
    return grad


cdef deliver(edge, TensorCore grad, dict pending, priority_queue[long long]* youngest, dict leaves, bint create_graph):
    """Hand a gradient to a leaf or queue it at the node that made the tensor."""
    cdef Node node
    cdef list outs
    cdef TensorCore leaf
    cdef Py_ssize_t index = 0
    cdef object sequence
    if not isinstance(edge, TensorCore):
        if type(edge) is tuple:
            node, index = <Node>(<tuple>edge)[0], (<tuple>edge)[1]
        else:
            node = <Node>edge
        sequence = node.sequence
        entry = pending.get(sequence)
        if entry is None:
            outs = [None] * len(node.output_meta)
            outs[index] = grad
            pending[sequence] = (node, outs)
            youngest.push(node.sequence)
        else:
            outs = <list>(<tuple>entry)[1]
            if outs[index] is None:
                outs[index] = grad
            elif create_graph or not added_in_place(outs, index, grad):
                outs[index] = add_grads(outs[index], grad, create_graph)
        return
    leaf = <TensorCore>edge
    if not native.same_shape(<PyObject*>grad.data, <PyObject*>leaf.data):
        raise GraphError(
            f"backward: a gradient of shape {grad.data.shape} came for a tensor of shape {leaf.data.shape}; "
            "the backward of the operation that used it is wrong"
        )
    cdef object key = PyLong_FromVoidPtr(<void*>leaf)
    found = leaves.get(key)
    if found is None:
        leaves[key] = [leaf, grad]
    elif create_graph or not added_in_place(<list>found, 1, grad):
        (<list>found)[1] = add_grads((<list>found)[1], grad, create_graph)


cdef bint added_in_place(list sums, Py_ssize_t i, TensorCore grad) except -1:
    """sums[i] += grad where nobody else holds that sum."""
    if not held_once(sums, i):
        return False
    cdef int64_t event = begin_gradient(SUM, (<TensorCore>sums[i]).data, grad.data)
    cdef int added = native.add_into(<PyObject*>(<TensorCore>sums[i]).data, <PyObject*>grad.data)
    end_or_cancel(event, grad.data if added else None)
    return added


cdef flush_leaves(dict leaves, dict wanted, list results, bint create_graph):
    """Store what arrived at the leaves, once all of it is summed: a leaf's hook sees the whole gradient once."""
    cdef TensorCore leaf
    while leaves:
        _, (tensor, grad) = leaves.popitem()
        leaf = <TensorCore>tensor
        tensor = None
        if pydl_recording and results is None:
            notes.received.append(leaf)
        grad = run_hooks(leaf, grad)
        if results is not None:
            for k in wanted.get(id(leaf), ()):
                results[k] = grad
        elif leaf.grad is not None:
            leaf.grad = add_grads(leaf.grad, grad, create_graph)
        elif create_graph:
            leaf.grad = grad
        else:
            # The array may be shared with another branch: the backward of a + b hands one array to both.
            array = (<TensorCore>grad).data
            grad = None
            leaf.grad = new_tensor(own_array(array, leaf.data))


cdef own_array(array, like):
    # 2: this argument and the caller's variable (the gradient tensor is gone); more means that someone else holds it.
    base = array.base
    if Py_REFCNT(array) <= 2 and array.strides == like.strides and base is not None and not isinstance(base, np.ndarray):
        return array
    cdef int64_t event = begin_gradient(COPY, array, None)
    copied = copy_array(array, like)
    end_or_cancel(event, copied)
    return copied
