# cython: language_level=3, boundscheck=False, wraparound=False
"""The tape: tensors, nodes, modes and the backward pass.

Every differentiable operation is an `Op` (pydl/graph/__init__.py). `apply(op, *args)` runs `op.forward` on the raw
ndarrays of its tensor arguments and, when a gradient will be wanted, leaves a `Node` behind. `run_backward` visits the
nodes by falling sequence number: a node is younger than everything it was computed from, so this order is topological
and needs neither recursion nor counting.

One module, written in one file for each subject: tensor.pxi, node.pxi, record.pxi (the general way of an operation),
maps.pxi (the short way of element-wise ones), notes.pxi (what a captured step leaves behind), backward.pxi, profile.pxi (what the
profiler is told).
"""

from weakref import ref as weakref

import numpy as np

cimport cython
from cpython.long cimport PyLong_FromVoidPtr
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport int64_t
from libcpp.queue cimport priority_queue

from pydl.errors import GraphError, NonFiniteError

cdef extern from "Python.h":
    PyObject* PyList_GET_ITEM(object list, Py_ssize_t i)  # borrowed
    Py_ssize_t refcount "Py_REFCNT" (PyObject* object)
    PyObject** _PyObject_GetDictPtr(PyObject* object)
    PyObject** PySequence_Fast_ITEMS(object list)  # borrowed

cdef extern from *:
    """
    /* Per thread: data-loader threads must not see the training thread's modes. */
    static thread_local int pydl_grad_enabled = 1;
    static thread_local int pydl_inference = 0;
    """
    int pydl_grad_enabled
    int pydl_inference

cdef long long next_sequence = 0
cdef object tensor_class = None
# Runs each forward itself, as observer(op, ctx, arrays) -> outputs, when set (summary).
cdef object observer = None
cdef bint anomaly_enabled = False
cdef list module_stack = []
cdef str module_path = None  # of module_stack, once asked for


include "tensor.pxi"
include "node.pxi"
include "record.pxi"
include "maps.pxi"
include "profile.pxi"
include "notes.pxi"
include "backward.pxi"


cdef pydl_set_grad(bint on):
    global pydl_grad_enabled
    pydl_grad_enabled = on


def is_grad_enabled():
    return bool(pydl_grad_enabled)


def is_inference_mode_enabled():
    return bool(pydl_inference)


def set_grad_mode(bint on):
    global pydl_grad_enabled
    pydl_grad_enabled = on


def set_inference_mode(bint on):
    global pydl_inference
    pydl_inference = on


def set_anomaly_mode(bint on):
    global anomaly_enabled
    anomaly_enabled = on


def is_watched():
    """Whether something wants to see each operation: an observer, the profiler, or the search for NaN."""
    return observer is not None or profiling or anomaly_enabled


def is_anomaly_enabled():
    return anomaly_enabled


def set_observer(function):
    """`function(op, ctx, arrays) -> outputs` runs each forward itself (summary); None switches it off.
    Returns the previous one."""
    global observer
    previous = observer
    observer = function
    return previous


def run_observed(op, *args):
    """Run `op.forward(None, *args)` where it is seen: native work outside of the graph (an optimizer's step)."""
    return op.forward(None, *args) if observer is None and not profiling else run_watched(op, None, list(args))


def push_module(str name):
    global module_path
    module_stack.append(name)
    module_path = None


def note_object(value):
    """A module or optimizer is called; for the notes of a recorded step."""
    if pydl_recording:
        notes.objects.append(value)


def pop_module():
    global module_path
    module_stack.pop()
    module_path = None


cpdef str current_module_path():
    global module_path
    if module_path is None:
        module_path = ".".join([name for name in module_stack if name])  # the outermost module has no name
    return module_path
