# What the profiler is told while an operation runs: its class, its arguments' shapes, its module; the rest is worked out later
# (pydl/profiler, csrc/bindings/profile.cpp). Off, each operation pays one predictable branch.

cdef extern from "bindings/api.h" namespace "pydl":
    ctypedef struct ProfileApi:
        int64_t (*begin)(int phase, PyObject* op, PyObject* path, PyObject* needs, PyObject** arguments, int64_t count, int64_t forward) noexcept
        void (*end)(int64_t event, PyObject* output) noexcept
        void (*cancel)(int64_t event) noexcept
        int64_t (*depth)() noexcept
        void (*unwind)(int64_t depth) noexcept

cdef ProfileApi* profile_log = <ProfileApi*>PyCapsule_GetPointer(_core._profile_api, "pydl._core._profile_api")

# The phases of events; pydl/profiler/recorder.py has the same. SHORT is a backward by the short way of maps.pxi: its arguments
# are the incoming gradient and what was kept (or None), a pair for each kernel.
cdef enum:
    FORWARD, BACKWARD, SHORT, SUM, COPY

cdef bint profiling = False


def set_profiling(bint on):
    """Whether operations are told to the recordings of `pydl._core`."""
    global profiling
    profiling = on


cdef object run_watched(op, Node node, list arrays):
    """op.forward(node, *arrays) where the profiler or an observer sees it."""
    cdef int64_t event = 0
    cdef object path = None
    cdef PyObject* made = NULL
    if profiling:
        path = current_module_path() if module_stack else None
        event = profile_log.begin(FORWARD, <PyObject*>op, borrowed(path), NULL, PySequence_Fast_ITEMS(arrays), len(arrays), 0)
    try:
        out = op.forward(node, *arrays) if observer is None else observer(op, node, arrays)
        made = <PyObject*>out
    finally:
        if event:
            profile_log.end(event, made)
    if node is not None:
        node.event = event
    return out


cdef object run_map_watched(MapRule rule, a, b, tuple constants, int64_t* event):
    """The same for an element-wise function by the short way."""
    cdef object path = current_module_path() if module_stack else None
    cdef object out = None
    cdef PyObject* arrays[2]
    arrays[0], arrays[1] = <PyObject*>a, <PyObject*>b
    event[0] = profile_log.begin(FORWARD, <PyObject*>rule.op, borrowed(path), NULL, arrays, 1 if b is None else 2, 0)
    try:
        out = run_map(rule.kernel, a, b, constants)
    finally:
        end_or_cancel(event[0], out)
    return out


cdef inline int64_t begin_backward(Node node) noexcept:
    if not profiling:
        return 0
    return profile_log.begin(BACKWARD, <PyObject*>node.op, borrowed(node.module_path), <PyObject*>node.needs, NULL, 0, node.event)


cdef int64_t begin_short_backward(MapRule rule, Node node, TensorCore grad) noexcept:
    cdef PyObject* arrays[4]
    cdef int i, n = 0, saved
    for i in range(2):
        if i < len(node.inputs) and node.inputs[i] is not None and rule.gradient_kernel[i] >= 0:
            saved = rule.gradient_saved[i]
            arrays[n] = <PyObject*>grad.data
            arrays[n + 1] = <PyObject*>None
            if saved >= 0 and node.saved_list is not None:
                arrays[n + 1] = <PyObject*>(<Saved>node.saved_list[saved]).array
            n += 2
    return profile_log.begin(SHORT, <PyObject*>node.op, borrowed(node.module_path), NULL, arrays, n, node.event)


cdef inline int64_t begin_gradient(int phase, a, b) noexcept:
    """Gradients are added up, or one is copied (b None)."""
    cdef PyObject* arrays[2]
    if not profiling:
        return 0
    arrays[0], arrays[1] = <PyObject*>a, <PyObject*>b
    return profile_log.begin(phase, <PyObject*>None, NULL, NULL, arrays, 1 if b is None else 2, 0)


cdef inline void end_event(int64_t event) noexcept:
    if event:
        profile_log.end(event, NULL)


cdef inline void end_or_cancel(int64_t event, out) noexcept:
    """An operation by the short way has ended; without an output it takes the long way and is told of anew."""
    if event == 0:
        return
    if out is None:
        profile_log.cancel(event)
    else:
        profile_log.end(event, <PyObject*>out)


cdef inline PyObject* borrowed(object value) noexcept:
    if value is None:
        return NULL
    return <PyObject*>value
