# The short way of element-wise functions, forward and backward, without Python between the tape and the kernel.
#
# A network's step holds many small element-wise operations whose arithmetic takes less time than one Python call. For
# operands of one shape and one memory order (or a number), `apply_map` calls the kernel through the C table of
# `pydl._core` and records the node itself. Everything else (broadcasting, integers, anomaly mode, an observer, second
# derivatives) goes the long way through `apply` and the class of the operation, which gives the same bits.

from cpython.pycapsule cimport PyCapsule_GetPointer

from pydl import _core

cdef extern from "bindings/api.h" namespace "pydl":
    ctypedef struct Api:
        PyObject* (*map)(int function, int count, PyObject** arrays, const double* constants, int constant_count) except? NULL
        PyObject* (*scalar)(double value, PyObject* like) except? NULL
        int (*add_into)(PyObject* sum, PyObject* more) except -1
        int (*same_shape)(PyObject* a, PyObject* b) noexcept
        int (*precision)() noexcept
        int (*set_thread_precision)(int p) noexcept

cdef extern from *:
    """
    /* Gives a new reference to Cython without a further increment. */
    static PyObject* pydl_steal(PyObject* p) { return p; }
    """
    object steal "pydl_steal" (PyObject*)

cdef Api* native = <Api*>PyCapsule_GetPointer(_core._api, "pydl._core._api")

cdef enum:
    NOTHING, INPUTS, OUTPUT  # what is kept for backward
    LONG_WAY = -2            # a gradient that only the class of the operation knows
    PASS = -1                # a gradient that is the incoming one

cdef tuple NEEDS_ONE = ((False,), (True,))
cdef tuple NEEDS_TWO = ((False, False), (True, False), (False, True), (True, True))
cdef int ADD = _core.MAPS["add"]


cdef class MapRule:
    """How an element-wise function runs and differentiates natively.

    Parameters
    ----------
    op : the class of the operation, for the long way
    keep : "nothing", "inputs" or "output", what is kept for backward
    gradients : one entry for each input: None for the long way, "pass", or (kernel, index of what was kept or None),
        the kernel being called with the incoming gradient and the kept array
    """

    cdef readonly object op
    cdef int kernel
    cdef int keep
    cdef int gradient_kernel[2]
    cdef int gradient_saved[2]

    def __init__(self, op, str keep, *gradients):
        self.op = op
        self.kernel = _core.MAPS[op.name]
        self.keep = {"nothing": NOTHING, "inputs": INPUTS, "output": OUTPUT}[keep]
        for i, gradient in enumerate(gradients):
            self.gradient_saved[i] = -1
            if gradient is None:
                self.gradient_kernel[i] = LONG_WAY
            elif gradient == "pass":
                self.gradient_kernel[i] = PASS
            else:
                name, saved = gradient
                self.gradient_kernel[i] = _core.MAPS[name]
                self.gradient_saved[i] = -1 if saved is None else saved


cdef object run_map(int kernel, a, b, tuple constants):
    """kernel(a) or kernel(a, b) as an array, or None if the operands need the long way."""
    cdef PyObject* arrays[2]
    cdef double values[4]
    cdef int i, n = 0
    arrays[0], arrays[1] = <PyObject*>a, <PyObject*>b
    if constants is not None:
        n = <int>len(constants)
        for i in range(n):
            values[i] = constants[i]
    cdef PyObject* out = native.map(kernel, 1 if b is None else 2, arrays, values, n)
    return None if out == NULL else steal(out)


cdef enum:
    PLUS, MINUS, TIMES, OVER

cdef list operator_rules = [None] * 4
cdef list operator_functions = [None] * 4


def set_operators(*pairs):
    """(rule, function) of +, -, * and /, given by pydl.ops; the function serves where the rule cannot."""
    for i, (rule, function) in enumerate(pairs):
        operator_rules[i], operator_functions[i] = rule, function


cdef object operate(int which, a, b):
    out = by_short_way(<MapRule>operator_rules[which], a, b, None)
    return operator_functions[which](a, b) if out is None else out


def apply_map(MapRule rule not None, a, b=None, tuple constants=None):
    """f(a) or f(a, b) by the short way; None where it cannot be taken."""
    return by_short_way(rule, a, b, constants)


cdef object by_short_way(MapRule rule, a, b, tuple constants):
    cdef TensorCore x, y = None
    cdef TensorCore out
    cdef object other = None
    cdef PyObject* made
    cdef int needs = 0
    cdef int64_t event = 0
    if observer is not None or anomaly_enabled or not isinstance(a, TensorCore):
        return None
    x = <TensorCore>a
    if isinstance(b, TensorCore):
        y = <TensorCore>b
        other = y.data
        if y._requires_grad and (<object>other).ndim != (<object>x.data).ndim:
            return None  # a gradient that must be summed
    elif b is not None:
        if type(b) is not float and type(b) is not int:
            return None
        made = native.scalar(b, <PyObject*>x.data)
        if made == NULL:
            return None
        other = steal(made)
    if pydl_grad_enabled:
        needs = x._requires_grad + (2 if y is not None and y._requires_grad else 0)
        if needs & 1 and y is not None and y.data.ndim > x.data.ndim:
            return None
    if profiling:
        array = run_map_watched(rule, x.data, other, constants, &event)
    else:
        array = run_map(rule.kernel, x.data, other, constants)
    if array is None:
        return None
    if pydl_recording:
        note_map(rule, a, b, constants)
    out = new_tensor(array)
    out._is_inference = pydl_inference
    if needs:
        record_map(rule, needs, x, y, other, out, constants)
        out.node.event = event
    return out


cdef record_map(MapRule rule, int needs, TensorCore x, TensorCore y, other, TensorCore out, tuple constants):
    global next_sequence
    cdef Node node = Node.__new__(Node)
    node.op = rule.op
    node.rule = rule
    node.constants = constants
    node.materialize_grads = True
    next_sequence += 1
    node.sequence = next_sequence
    cdef object first = edge(x) if needs & 1 else None
    if other is None:
        node.needs = <tuple>NEEDS_ONE[needs]
        node.inputs = (first,)
    else:
        node.needs = <tuple>NEEDS_TWO[needs]
        node.inputs = (first, edge(y) if needs & 2 else None)
    node.output_meta = meta_of(x, out.data)
    if module_stack:
        node.module_path = current_module_path()
    if rule.keep == INPUTS:
        node.saved_list = [keep_input(x, node)]
        if other is not None:
            node.saved_list.append(keep_input(new_tensor(other) if y is None else y, node))
    out.node = node
    out._requires_grad = True
    if rule.keep == OUTPUT:
        node.saved_list = [keep_output(out)]


cdef inline object edge(TensorCore t):
    """Where a gradient goes: a leaf, the node of a first output, or (node, output)."""
    if t.node is None:
        return t
    return t.node if t.output_index == 0 else (t.node, t.output_index)


cdef tuple meta_of(TensorCore x, array):
    """((shape, dtype),) of an output, taken from the operation that made the input where it had the same."""
    if x.node is not None and x.node.rule is not None and native.same_shape(<PyObject*>x.data, <PyObject*>array):
        return x.node.output_meta
    return ((array.shape, array.dtype),)


cdef Saved keep_input(TensorCore t, Node node):
    cdef Saved s = Saved.__new__(Saved)
    if t._is_inference:
        raise saved_inference_tensor(node)
    s.array = t.data
    s.output = -1
    s.tensor = t
    s.counter = t._base if t._base is not None else t
    s.version = s.counter._own_version
    return s


cdef Saved keep_output(TensorCore t):
    cdef Saved s = Saved.__new__(Saved)
    s.array = t.data
    s.output = 0
    s.counter = Counter.of(t)
    s.version = s.counter._own_version
    return s


cdef object kept_array(Node node, int i):
    """An array that was kept for backward; it must not have been changed since."""
    cdef Saved s = <Saved>node.saved_list[i]
    if s.maker is not None or s.counter._own_version != s.version:
        return node._unpack(False)[i]
    return s.array


cdef bint map_backward(Node node, list outs, dict pending, priority_queue[long long]* youngest, dict leaves,
                       bint retain_graph) except -1:
    """The gradients by the short way, handed on; False if the long way must be taken."""
    cdef MapRule rule = <MapRule>node.rule
    cdef tuple edges = node.inputs
    cdef TensorCore grad = <TensorCore>outs[0]
    cdef int64_t event = begin_short_backward(rule, node, grad) if profiling else 0
    cdef object first = map_gradient(rule, 0, node, grad) if edges[0] is not None else None
    cdef object second = map_gradient(rule, 1, node, grad) if len(edges) > 1 and edges[1] is not None else None
    if (first is None and edges[0] is not None) or (second is None and len(edges) > 1 and edges[1] is not None):
        end_or_cancel(event, None)
        return False
    end_event(event)
    if pydl_recording:
        notes.after(node.op)
    if not retain_graph:
        node.release()
    outs.clear()
    grad = None
    cdef TensorCore g
    if first is not None:
        g = new_tensor(first)
        first = None
        deliver(edges[0], g, pending, youngest, leaves, False)
    if second is not None:
        g = new_tensor(second)
        second = None
        deliver(edges[1], g, pending, youngest, leaves, False)
    return True


cdef object map_gradient(MapRule rule, int i, Node node, TensorCore grad):
    """The gradient of the i-th input as an array, or None if it needs the long way."""
    cdef object kept = None
    if rule.gradient_kernel[i] == LONG_WAY:
        return None
    if rule.gradient_kernel[i] == PASS:
        return grad.data
    if rule.gradient_saved[i] >= 0:
        kept = kept_array(node, rule.gradient_saved[i])
    return run_map(rule.gradient_kernel[i], grad.data, kept, node.constants)


cdef take_long_way(Node node):
    """Give the class of the operation the attributes that its own forward would have left."""
    shape = node.output_meta[0][0]
    node.shapes = shape, shape
    node.params = node.constants if node.constants is not None else ()
