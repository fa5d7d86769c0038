# cython: language_level=3, boundscheck=False, wraparound=False
"""The tape: tensors, nodes, modes and the backward pass.

Every differentiable operation is an `Op` (pydl/graph/__init__.py). `apply(op, *args)` runs `op.forward` on the raw
ndarrays of its tensor arguments and, when a gradient will be wanted, leaves a `Node` behind. `run_backward` visits the
nodes by falling sequence number: a node is younger than everything it was computed from, so this order is topological
and needs neither recursion nor counting.
"""

import numpy as np

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT
from libcpp.queue cimport priority_queue

from pydl.errors import GraphError, NonFiniteError

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


@cython.freelist(256)
cdef class Saved:
    """An array kept for backward: with the tensor it belongs to, if any, and the version it had."""

    cdef object array
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
    cdef tuple inputs          # per argument: (Node, output index), a leaf tensor, or None
    cdef public tuple needs    # per argument: whether its gradient is wanted
    cdef public long long sequence
    cdef list saved_list
    cdef tuple to_save
    cdef public tuple output_meta   # (shape, dtype) per output
    cdef dict watched          # output index -> tensor with hooks or retain_grad
    cdef bint freed
    cdef public str module_path
    cdef public tuple non_differentiable
    cdef public bint materialize_grads
    cdef object rule           # MapRule of an element-wise function recorded by the short way (maps.pxi)
    cdef tuple constants       # and the constants of that function
    cdef dict __dict__

    def save(self, *arrays):
        """Keep arrays (inputs, outputs or intermediate results; None allowed) until backward has used them."""
        self.to_save = arrays

    def mark_non_differentiable(self, *outputs):
        """Name outputs (by identity) that have no gradient, such as indices."""
        self.non_differentiable = outputs

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
                raise GraphError(
                    f"[{op_name(self.op)}] a tensor of shape {tuple(s.array.shape)} that backward needs was changed in "
                    f"place after use (version {s.counter._own_version}, expected {s.version}); "
                    "change a .clone() of it, or change it after backward"
                )
            if not as_tensors:
                out.append(s.array)
            elif s.tensor is not None:
                out.append(s.tensor)
            else:
                t = new_tensor(s.array)
                if s.output >= 0:
                    t.node = self
                    t.output_index = s.output
                    t._requires_grad = True
                out.append(t)
        return tuple(out)

    cdef void release(self):
        """Let go of everything kept; an operation that kept nothing can go through backward again."""
        if self.saved_list is not None or has_attributes(self):
            self.freed = True
        self.saved_list = None
        clear_attributes(self)

    def __repr__(self):
        return f"<{op_name(self.op)} #{self.sequence}>"


def clear_attributes(node):
    node.__dict__.clear()


cdef bint has_attributes(node):
    return bool(node.__dict__)


cdef used_up(Node node):
    return GraphError(
        f"[{op_name(node.op)}] backward a second time: what was kept was freed by the first backward; "
        "call that with retain_graph=True"
    )


cdef str op_name(op):
    return getattr(op, "name", None) or op.__name__.lower()


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
    if observer is not None:
        out = observer(op, node, raw)
    else:
        out = op.forward(node, *raw)
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
            edges.append((t.node, t.output_index) if t.node is not None else t)
        else:
            edges.append(None)
    node.inputs = tuple(edges)
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
                s.tensor = <TensorCore>args[i]
                if s.tensor._is_inference:
                    raise saved_inference_tensor(node)
                s.counter = s.tensor._base if s.tensor._base is not None else s.tensor
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


include "maps.pxi"


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
    array = run_map(ADD, a.data, b.data, None) if backward_observer is None else None
    return new_tensor(accumulate_arrays(a.data, b.data) if array is None else array)


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
    pydl_set_grad(create_graph)
    try:
        for i in range(len(roots)):
            root = <TensorCore>roots[i]
            deliver((root.node, root.output_index) if root.node is not None else root,
                    <TensorCore>grads[i], pending, &youngest, leaves, create_graph)
        while not youngest.empty():
            node, outs = pending.pop(youngest.top())
            youngest.pop()
            run_node(node, outs, pending, &youngest, leaves, wanted, results, retain_graph, create_graph)
        flush_leaves(leaves, wanted, results, create_graph)
    finally:
        pydl_set_grad(mode)
    return results


cdef run_node(Node node, list outs, dict pending, priority_queue[long long]* youngest, dict leaves, dict wanted, list results,
              bint retain_graph, bint create_graph):
    global anomaly_enabled
    cdef Py_ssize_t i
    cdef TensorCore g, t
    cdef bint checking = anomaly_enabled
    op = node.op
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
    result = None
    if node.rule is not None:
        if not create_graph and not checking and backward_observer is None:
            result = map_backward(node, <TensorCore>outs[0])
        if result is None:
            take_long_way(node)
    if result is not None:
        pass
    elif op.backward_on_tensors:
        anomaly_enabled = False  # the message shall name this operation, not one that its backward is made of
        try:
            result = op.backward(node, *outs) if backward_observer is None else backward_observer(op, node, outs)
        finally:
            anomaly_enabled = checking
    else:
        if create_graph:
            raise GraphError(
                f"[{op_name(op)}] has a native backward that cannot be differentiated a second time "
                "(create_graph=True); build this part from simpler operations"
            )
        arrays = [None if o is None else (<TensorCore>o).data for o in outs]
        result = op.backward(node, *arrays) if backward_observer is None else backward_observer(op, node, arrays)
        arrays = None
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
    if type(edge) is tuple:
        node = <Node>edge[0]
        index = edge[1]
        entry = pending.get(node.sequence)
        if entry is None:
            outs = [None] * len(node.output_meta)
            outs[index] = grad
            pending[node.sequence] = (node, outs)
            youngest.push(node.sequence)
        else:
            outs = <list>entry[1]
            outs[index] = grad if outs[index] is None else add_grads(outs[index], grad, create_graph)
        return
    leaf = <TensorCore>edge
    if grad.data.shape != leaf.data.shape:
        raise GraphError(
            f"backward: a gradient of shape {grad.data.shape} came for a tensor of shape {leaf.data.shape}; "
            "the backward of the operation that used it is wrong"
        )
    found = leaves.get(id(leaf))
    leaves[id(leaf)] = (leaf, grad if found is None else add_grads(found[1], grad, create_graph))


cdef flush_leaves(dict leaves, dict wanted, list results, bint create_graph):
    """Store what arrived at the leaves, once all of it is summed: a leaf's hook sees the whole gradient once."""
    cdef TensorCore leaf
    while leaves:
        _, (tensor, grad) = leaves.popitem()
        leaf = <TensorCore>tensor
        tensor = None
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
    return copy_array(array, like)


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


def pop_module():
    module_stack.pop()


def current_module_path():
    return ".".join([name for name in module_stack if name])  # the outermost module has no name
