# cython: language_level=3, boundscheck=False, wraparound=False
"""The tape: tensors, nodes, modes and the backward pass.

Every differentiable operation is an `Op` (pydl/graph/__init__.py). `apply(op, *args)` runs `op.forward` on the raw
ndarrays of its tensor arguments and, when a gradient will be wanted, leaves a `Node` behind. `run_backward` visits the
nodes by falling sequence number: a node is younger than everything it was computed from, so this order is topological
and needs neither recursion nor counting.

One module, written in one file for each subject: tensor.pxi, node.pxi, record.pxi (the general way of an operation),
maps.pxi (the short way of element-wise ones), notes.pxi (what a captured step leaves behind), backward.pxi.
"""

from weakref import ref as weakref

import numpy as np

cimport cython
from cpython.long cimport PyLong_FromVoidPtr
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT
from libcpp.queue cimport priority_queue

from pydl.errors import GraphError, NonFiniteError

cdef extern from "Python.h":
    PyObject* PyList_GET_ITEM(object list, Py_ssize_t i)  # borrowed
    Py_ssize_t refcount "Py_REFCNT" (PyObject* object)
    PyObject** _PyObject_GetDictPtr(PyObject* object)

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
# Runs each forward itself, as observer(op, ctx, arrays) -> outputs, when set (profiler, summary): one branch if not.
cdef object observer = None
# Runs each backward itself, as backward_observer(op, node, gradients) -> result, when set (profiler).
cdef object backward_observer = None
cdef bint anomaly_enabled = False
cdef list module_stack = []


include "tensor.pxi"
include "node.pxi"
include "record.pxi"
include "maps.pxi"
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
    """Whether something wants to see each operation: an observer, or the search for NaN."""
    return observer is not None or backward_observer is not None or anomaly_enabled


def is_anomaly_enabled():
    return anomaly_enabled


def set_observer(function):
    """`function(op, ctx, arrays) -> outputs` runs each forward itself (profiler, summary); None switches it off.
    Returns the previous one."""
    global observer
    previous = observer
    observer = function
    return previous


def run_observed(op, *args):
    """Run `op.forward(None, *args)` where the observer sees it: native work outside of the graph (an optimizer's step)."""
    return op.forward(None, *args) if observer is None else observer(op, None, list(args))


def set_backward_observer(function):
    """`function(op, node, gradients) -> result` runs each backward itself (profiler); None switches it off.
    Returns the previous one."""
    global backward_observer
    previous = backward_observer
    backward_observer = function
    return previous


def push_module(str name):
    module_stack.append(name)


def note_object(value):
    """A module or optimizer is called; for the notes of a recorded step."""
    if pydl_recording:
        notes.objects.append(value)


def pop_module():
    module_stack.pop()


def current_module_path():
    return ".".join([name for name in module_stack if name])  # the outermost module has no name
