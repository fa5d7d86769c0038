# What a recorded step (pydl.capture) leaves behind beside its kernel calls: see pydl/graph/capture.py.

cdef extern from *:
    """
    static thread_local int pydl_recording = 0;  /* whether this thread records a step */
    """
    int pydl_recording

cdef Notes notes = None  # of the step that is being recorded: one thread of the process at a time


cdef class Notes:
    """What happened in Python while a step was recorded.

    Attributes
    ----------
    operations : (operation, what `freeze` makes of its arguments that are no tensors), in order
    leaves : id -> (tensor, its array) of tensors that no recorded operation made, outside of the recording's memory
    bumped : tensors that were changed in place
    received : leaf tensors that were given a gradient
    objects : the modules that were called, and optimizers made of operations
    generators : (generator, what was drawn from it)
    hooks : functions to be called with the tape before each replay
    owned : tensors, and dicts of options or state, that a hook keeps up to date
    kept : (dict, key, value) that must not change
    backwards : calls of backward
    culprit : where something else than a kernel touched the recording's memory, or None
    """

    cdef readonly object tape, freeze
    cdef readonly list operations, bumped, received, objects, generators, hooks, owned, kept
    cdef readonly dict leaves
    cdef public int backwards
    cdef public str culprit
    cdef str last

    def __init__(self, tape, freeze):
        self.tape, self.freeze = tape, freeze
        self.operations, self.bumped, self.received, self.objects = [], [], [], []
        self.generators, self.hooks, self.owned, self.kept = [], [], [], []
        self.leaves = {}
        self.last = None

    cdef leaf(self, TensorCore t):
        if t.node is None and id(t) not in self.leaves and not self.tape.holds(t.data):
            self.leaves[id(t)] = (t, t.data)

    cdef before(self, op):
        """Called before an operation runs."""
        name = op_name(op)
        self.look(f"before [{name}]" if self.last is None else f"between [{self.last}] and [{name}]")
        self.last = name

    cdef after(self, op):
        self.look(f"in [{op_name(op)}]")

    def look(self, str where):
        """Whether the memory was touched, and where that was first seen."""
        if self.culprit is None and self.tape.touched():
            self.culprit = where


cdef note_apply(op, tuple args):
    cdef list constants = []
    for a in args:
        if isinstance(a, TensorCore):
            notes.leaf(<TensorCore>a)
        else:
            constants.append(a)
    notes.operations.append((op, notes.freeze(constants)))
    notes.before(op)


cdef note_map(MapRule rule, a, b, tuple constants):
    notes.leaf(<TensorCore>a)
    if isinstance(b, TensorCore):
        notes.leaf(<TensorCore>b)
        b = None
    notes.operations.append((rule.op, notes.freeze((b, constants))))
    notes.before(rule.op)


def start_notes(Notes into not None):
    """From now on this thread's operations are noted."""
    global notes, pydl_recording
    notes = into
    pydl_recording = 1


def stop_notes():
    global notes, pydl_recording
    if pydl_recording:
        pydl_recording = 0
        notes = None


def is_recording():
    """Whether this thread records a step for `pydl.capture`."""
    return bool(pydl_recording)


def current_notes():
    """The notes of the step that this thread records, or None."""
    return notes if pydl_recording else None


cdef enum:
    ITEM, CELL, LENGTH, DATA, VERSION, NO_GRAD, NEEDS

cdef object ABSENT = object()
cdef tuple PLAIN = (int, float, str, bool, bytes, complex, tuple)


cdef class Guard:
    """Something in Python that must be as it was when a step was recorded.

    Kinds: 0 entry of a dict, 1 content of a closure's cell, 2 length, 3 array of a tensor, 4 version of a tensor, 5 no
    gradient yet, 6 requires_grad.
    """

    cdef readonly int kind
    cdef readonly object owner, key
    cdef public object value
    cdef readonly str name

    def __init__(self, int kind, owner, key, str name):
        self.kind, self.owner, self.key, self.name = kind, owner, key, name
        self.value = self.now()

    cpdef object now(self):
        if self.kind == ITEM:
            return (<dict>self.owner).get(self.key, ABSENT)
        if self.kind == CELL:
            try:
                return self.owner.cell_contents
            except ValueError:  # an empty cell
                return ABSENT
        if self.kind == LENGTH:
            return len(self.owner)
        if self.kind == DATA:
            return (<TensorCore>self.owner).data
        if self.kind == VERSION:
            return (<TensorCore>self.owner).version
        if self.kind == NO_GRAD:
            return (<TensorCore>self.owner).grad is None
        return (<TensorCore>self.owner)._requires_grad

    cpdef bint holds(self):
        value = self.now()
        return value is self.value or (type(value) in PLAIN and type(value) is type(self.value) and value == self.value)


def first_failed(list guards):
    """The first guard that does not hold any more, or None."""
    cdef Guard g
    for item in guards:
        g = <Guard>item
        if not g.holds():
            return g
    return None
