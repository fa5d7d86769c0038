"""`capture`: record a step of fixed shapes once, then replay its kernel calls without Python.

While a step is recorded it runs as always, but every array it makes lies in memory of its own (csrc/core/step_memory.h), and
every kernel call is kept with its arguments (csrc/bindings/tape.h). A replay copies the inputs into that memory, sets what
moves from step to step (optimizer options, the place in the stream of random numbers) and runs the calls again: the same
kernels on the same addresses, so the same bits.

A replay does not run Python. What follows from that is checked, not hoped for:

- The memory of the recording is closed to everything but kernels by the processor's protection. What NumPy or Python does
  with values (`.item()`, a condition, an operation on integers made of NumPy) is noticed, and the step is refused.
- The step is recorded twice. Python numbers, arrays of NumPy and the sequence of calls must be the same both times.
- What the step reads from Python (globals, closures, attributes of its modules) must still be the same at each replay;
  otherwise the step is recorded anew.
"""

from __future__ import annotations

import functools
import gc
import itertools
import random
import threading
import types
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError
from pydl.graph import engine
from pydl.graph.engine import Guard, Notes, TensorCore, wrap
from pydl.ops._common import copy
from pydl.random import Place

__all__ = ["Capture", "CaptureWarning", "capture"]

_MOST_RECORDINGS = 16  # of one signature: what changes more often is not worth recording
_MOST_SIGNATURES = 16  # each holds the memory of a step
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class CaptureWarning(UserWarning):
    """A captured step runs eagerly, or is recorded anew; the message says why."""


class _Refused(Exception):
    """The step cannot be replayed."""


class _Slot(NamedTuple):
    """The place of a tensor in a structure of arguments or results."""

    number: int


def _flatten(value: Any, tensors: list[TensorCore]) -> Any:
    """The structure with slots in place of its tensors, which are appended to `tensors`."""
    if isinstance(value, TensorCore):
        tensors.append(value)
        return _Slot(len(tensors) - 1)
    if type(value) in (list, tuple):
        return type(value)([_flatten(v, tensors) for v in value])
    if type(value) is dict:
        return {k: _flatten(v, tensors) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_flatten(v, tensors) for v in value])
    return value


def _fill(structure: Any, tensors: list[Any]) -> Any:
    if type(structure) is _Slot:
        return tensors[structure.number]
    if type(structure) in (list, tuple):
        return type(structure)([_fill(v, tensors) for v in structure])
    if type(structure) is dict:
        return {k: _fill(v, tensors) for k, v in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*[_fill(v, tensors) for v in structure])
    return structure


def _frozen(value: Any, depth: int = 0) -> Any:
    """Something that compares equal exactly if the values are the same for the kernels."""
    if type(value) in _PLAIN or isinstance(value, type | np.dtype | types.BuiltinFunctionType):
        return type(value), repr(value) if isinstance(value, float | complex) else value
    if isinstance(value, np.ndarray):  # its content is compared where a kernel reads it
        return "array", value.shape, value.dtype.str
    if isinstance(value, TensorCore):
        return "tensor", value.data.shape
    if isinstance(value, np.generic):
        return type(value), value.tobytes()
    if isinstance(value, Place):  # moves on from replay to replay
        return Place
    if depth > 8:
        return "object", id(value)
    if isinstance(value, list | tuple):
        return type(value), tuple(_frozen(v, depth + 1) for v in value)
    if isinstance(value, dict):
        return dict, tuple((_frozen(k, depth + 1), _frozen(v, depth + 1)) for k, v in value.items())
    if isinstance(value, types.FunctionType):
        return value.__code__, _frozen([c.cell_contents for c in value.__closure__ or ()], depth + 1)
    if isinstance(value, functools.partial):
        return functools.partial, _frozen((value.func, value.args, value.keywords), depth + 1)
    if isinstance(value, slice):
        return slice, tuple(_frozen(v, depth + 1) for v in (value.start, value.stop, value.step))
    if hasattr(value, "__dict__"):
        return type(value), _frozen(vars(value), depth + 1)
    return "object", id(value)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _content(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


# ---------------------------------------------------------------------------- what a step reads from Python


def _functions(roots: list[Any]) -> Iterator[types.FunctionType]:
    """The user's Python functions that a step may run: its own, and those that they name, and so on."""
    seen: set[int] = set()
    todo = list(roots)
    while todo and len(seen) < 100:
        f = todo.pop()
        if isinstance(f, functools.partial):
            todo.append(f.func)
        f = getattr(f, "__func__", f)
        f = getattr(f, "__wrapped__", f)
        if not isinstance(f, types.FunctionType) or id(f) in seen or (f.__module__ or "").split(".")[0] in ("pydl", "numpy"):
            continue
        seen.add(id(f))
        yield f
        todo += [v for _, _, v in _names(f)]


def _names(f: types.FunctionType) -> Iterator[tuple[Any, str, Any]]:
    """(place, name, value) of the closure's cells and of the globals that a function names."""
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            yield cell, name, cell.cell_contents
        except ValueError:  # still empty
            continue
    codes = [f.__code__]
    while codes:
        code = codes.pop()
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        for name in code.co_names:
            if name in f.__globals__:
                yield f.__globals__, name, f.__globals__[name]


def _python_guards(step: Any, called: list[Any], counts: bool, owned: list[Any]) -> list[Guard]:
    """Guards of the names that the step reads, of the attributes of objects behind them, and of what it called; with
    `counts` also of what optimizers count. Hooks look after the `owned` options and counts: these may change between replays."""
    guards: list[Guard] = []
    objects: dict[int, tuple[Any, str]] = {id(m): (m, type(m).__name__) for m in called}
    roots = [step, *(type(m).forward for m in called if hasattr(type(m), "forward"))]
    if not isinstance(step, types.FunctionType | types.MethodType | functools.partial):
        roots.append(type(step).__call__)
        objects[id(step)] = step, type(step).__name__
    elif (owner := getattr(step, "__self__", None)) is not None:
        objects[id(owner)] = owner, type(owner).__name__
    for f in _functions(roots):
        for place, name, value in _names(f):
            if isinstance(place, dict):
                guards.append(Guard(0, place, name, name))
            else:
                guards.append(Guard(1, place, None, name))
            if not isinstance(value, type | types.ModuleType | types.FunctionType | TensorCore):
                objects.setdefault(id(value), (value, name))
    for value, name in objects.values():
        guards += _object_guards(value, name)
        for group in getattr(value, "param_groups", ()):
            guards += [Guard(0, group, key, f"{name}.param_groups[{key!r}]") for key in group]
        if counts and hasattr(value, "param_groups"):
            guards += [Guard(0, state, key, f"{name}.state[{key!r}]") for state in value.state.values()
                       for key, count in state.items() if isinstance(count, _PLAIN)]
    looked_after = {id(o) for o in owned}
    return [g for g in guards if id(g.owner) not in looked_after]


def _object_guards(value: Any, name: str) -> list[Guard]:
    if isinstance(value, list):
        return [Guard(2, value, None, f"the length of {name}")]
    if isinstance(value, dict):
        return _dict_guards(value, name)
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return []
    guards = [Guard(0, attributes, key, f"{name}.{key}") for key in attributes]
    guards.append(Guard(2, attributes, None, f"the attributes of {name}"))
    if hasattr(value, "param_groups"):
        guards.append(Guard(2, value.param_groups, None, f"{name}.param_groups"))
        guards += [Guard(2, group["params"], None, f"{name}.param_groups") for group in value.param_groups]
    for table in ("_parameters", "_buffers", "_modules", "_pre_hooks", "_forward_hooks", "_backward_pre_hooks",
                  "_backward_hooks"):
        entries = attributes.get(table)
        if isinstance(entries, dict):
            guards += _dict_guards(entries, name)
    return guards


def _dict_guards(value: dict[Any, Any], name: str) -> list[Guard]:
    return [Guard(2, value, None, f"the length of {name}"), *(Guard(0, value, k, f"{name}[{k!r}]") for k in list(value)[:1000])]


# ---------------------------------------------------------------------------- one recording


class _Outside(NamedTuple):
    """An array outside of the recording's memory that a call uses."""

    array: np.ndarray
    address: int
    content: int | None  # of what has no fixed place
    written: bool


class Recording:
    """A step recorded for one signature: the calls, and what a replay needs beside them."""

    def __init__(self, step: Callable[..., Any], inputs: list[TensorCore], structure: Any, before: Recording | None) -> None:
        self.tape = _core.Tape()
        self.notes = Notes(self.tape, _frozen)
        self.guards: list[Guard] = []
        self.problem: str | None = None
        watched = [] if before is None else before.outer_tensors()
        contents = [_content(t.data) for t in watched]
        names = [] if before is None else _python_guards(step, before.notes.objects, True, before.counts())
        empty = [] if before is None else [Guard(5, t, None, ".grad of a parameter") for t in before.received()]
        self.tape.start(False)
        try:
            self.inputs = [wrap(copy(t.data)) for t in inputs]
        finally:
            self.tape.stop()
        state = _host_random_state()
        self.tape.start(True)
        engine.start_notes(self.notes)
        try:
            args, kwargs = _fill(structure, list(self.inputs))
            result = step(*args, **kwargs)
            del args, kwargs
            self.notes.look("at its end")
        finally:
            engine.stop_notes()
            self.tape.stop()
        tensors: list[TensorCore] = []
        self.structure = _flatten(result, tensors)
        del result
        self.outputs = [wrap(t.data) if self.tape.holds(t.data) else t for t in tensors]
        open_graph = any(o is not t and t.requires_grad for o, t in zip(self.outputs, tensors, strict=True))
        del tensors
        try:
            self._results(open_graph and not self.notes.backwards)
            self.outside = [self._outside(a, w) for a, w in self.tape.outside()]
            if state != _host_random_state():
                raise _Refused("it draws random numbers of NumPy's or Python's global generator")
            self._random()
            if before is not None:
                self._compare(before, names, watched, contents)
                self._guard(step, [g for g in empty if g.value])
        except _Refused as reason:
            self.problem = str(reason)

    def outer_tensors(self) -> list[TensorCore]:
        """Tensors that live beyond the step and that no call is known to write to."""
        written = {o.address for o in self.outside if o.written}
        tensors = {id(t): t for t, _ in self.notes.leaves.values()} | {id(t): t for t in self.notes.bumped}
        owned = {id(t) for t in self.notes.owned}
        return [t for t in tensors.values() if id(t) not in owned and not self.tape.holds(t.data)
                and _address(t.data) not in written]

    def counts(self) -> list[Any]:
        """What hooks count up: the state of optimizers, but not their options, which the step must leave alone."""
        return [o for o in self.notes.owned if not (isinstance(o, dict) and "params" in o)]

    def received(self) -> list[TensorCore]:
        return list({id(t): t for t in self.notes.received}.values())

    # ------------------------------------------------------------------ after the step
    def _results(self, open_graph: bool) -> None:
        notes = self.notes
        if notes.culprit is not None:
            raise _Refused(
                f"{notes.culprit}, values are read or written outside of kernels (an operation that NumPy computes, .item(), "
                "a condition on a value, in-place changes through .data)"
            )
        if any(m.has_hooks() for m in notes.objects if hasattr(m, "has_hooks")):
            raise _Refused("a module has hooks, which are Python")
        if open_graph:
            raise _Refused("its result requires a gradient, but the step calls no backward; call it under pydl.no_grad()")
        self.grads = [(t, t.grad) for t in self.received()]
        bumped = {id(t): t for t in notes.bumped}
        if any(id(t) in bumped for t in self.inputs):
            raise _Refused("it changes an argument in place")
        kept = [_address(t.data) for t in (*self.inputs, *self.outputs)]
        kept += [_address(g.data) for _, g in self.grads if g is not None]
        if self._escaped(kept):
            gc.collect()
            if self._escaped(kept):
                raise _Refused("it keeps a tensor that it computed beyond its end (state in an attribute, a list of results)")

    def _escaped(self, kept: list[int]) -> int:
        return sum(not any(block <= a < block + size for a in kept) for block, size in self.tape.live())

    def _outside(self, array: np.ndarray, written: bool) -> _Outside:
        return _Outside(array, _address(array), None, written)

    def _random(self) -> None:
        drawn = {id(g): g for g, _ in self.notes.generators}
        if len(drawn) > 1:
            raise _Refused("it draws from several generators of random numbers")
        self.generator = next(iter(drawn.values()), None)
        if any(what is None for _, what in self.notes.generators):
            raise _Refused("NumPy draws its random numbers (randint, randperm, a permutation)")
        draws = [what for _, what in self.notes.generators]
        self.drawn = sum(blocks for blocks, _, _ in draws)
        self.first = draws[0][1] if draws else 0
        if any(later[1] != earlier[1] + earlier[0] for earlier, later in itertools.pairwise(draws)):
            raise _Refused("it sets the state of the generator of random numbers")
        if any(not self.first <= offset < self.first + self.drawn for _, offset in self.tape.random_states()):
            raise _Refused("random numbers come from outside of a pydl generator")

    def _compare(self, before: Recording, names: list[Guard], watched: list[TensorCore], contents: list[int]) -> None:
        """Two recordings of one step must not differ in anything that a replay would not follow."""
        self._same_operations(before)
        if self.tape.names() != before.tape.names() or len(self.outside) != len(before.outside):
            raise _Refused("it does not call the same kernels each time")
        for mine, other in zip(self.outside, before.outside, strict=True):
            if mine.address == other.address:
                continue
            if mine.written or other.written:
                raise _Refused(f"a kernel writes to an array of NumPy that is new in each step (shape {mine.array.shape})")
            if mine.array.shape != other.array.shape or _content(mine.array) != _content(other.array):
                raise _Refused(
                    f"a kernel reads an array of shape {mine.array.shape} that is not the same in each step (gradients that "
                    "add up without zero_grad() in the step, a Python number that changes, data that is no argument)"
                )
        if (changed := engine.first_failed(names)) is not None:
            raise _Refused(f"it changes {changed.name} itself, and Python code is not replayed")
        if any(_content(t.data) != c for t, c in zip(watched, contents, strict=True)):
            raise _Refused("it changes a tensor through NumPy (a buffer, a count)")
        if self.tape.optimizers() != sum(getattr(h, "optimizers", 0) for h in self.notes.hooks):
            raise _Refused("its optimizer cannot be replayed")
        if [_frozen(d) for _, (*_, d) in self.notes.generators] != [_frozen(d) for _, (*_, d) in before.notes.generators]:
            raise _Refused("it draws random numbers of another kind each time")
        if _frozen(self.structure) != _frozen(before.structure):
            raise _Refused("its result is not built the same each time")

    def _same_operations(self, before: Recording) -> None:
        mine, other = self.notes.operations, before.notes.operations
        for (op, constants), (old, old_constants) in zip(mine, other, strict=False):
            if op is not old:
                raise _Refused(f"control flow: [{op.name}] runs where [{old.name}] ran before")
            if constants != old_constants:
                raise _Refused(f"[{op.name}] is given Python numbers that are not the same in each step; pass them as tensors")
        if len(mine) != len(other):
            raise _Refused(f"control flow: {len(mine)} operations run where {len(other)} ran before")

    def _guard(self, step: Any, empty: list[Guard]) -> None:
        notes = self.notes
        bumped = {id(t) for t in notes.bumped}
        guards = [*_python_guards(step, notes.objects, False, notes.owned), *empty]
        for t, array in notes.leaves.values():
            shape = tuple(array.shape)
            guards += [Guard(3, t, None, f"the memory of a tensor of shape {shape}"),
                       Guard(6, t, None, f"requires_grad of a tensor of shape {shape}")]
            if id(t) not in bumped:
                guards.append(Guard(4, t, None, f"the content of a tensor of shape {shape}"))
        guards += notes.kept
        self.guards = list({(g.kind, id(g.owner), g.key): g for g in guards}.values())

    # ------------------------------------------------------------------ replay
    def replay(self, inputs: list[TensorCore]) -> Any:
        for mine, given in zip(self.inputs, inputs, strict=True):
            copy(given.data, mine.data)
        for hook in self.notes.hooks:
            hook(self.tape)
        if self.generator is not None:
            seed, offset = self.generator.reserve(self.drawn)
            self.tape.set_random(seed, (offset - self.first) % 2**64)
        failed = self.tape.replay()
        for t in self.notes.bumped:
            t.bump_version()
        for t, grad in self.grads:
            t.grad = grad
        if failed >= 0:
            raise ArgumentError(
                f"capture: [{self.tape.names()[failed]}] found wrong data (an index or a class number out of range?); "
                "run the step without capture for the exact message"
            )
        return _fill(self.structure, [wrap(copy(t.data)) if self.tape.holds(t.data) else t for t in self.outputs])

    def results(self) -> Any:
        """What the recorded run itself returns."""
        return _fill(self.structure, [wrap(copy(t.data)) if self.tape.holds(t.data) else t for t in self.outputs])


def _host_random_state() -> Any:
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 (the global generator is what is watched)
    return random.getstate(), state["state"]["key"].tobytes(), repr(state["state"]["pos"]), state["has_gauss"]


# ---------------------------------------------------------------------------- the public face


class _Signature:
    """The recordings of one kind of arguments."""

    def __init__(self) -> None:
        self.warm = False
        self.before: Recording | None = None
        self.ready: Recording | None = None
        self.refused: str | None = None
        self.count = 0


class Capture:
    """A step that is replayed natively; made by `capture`."""

    def __init__(self, step: Callable[..., Any]) -> None:
        if not callable(step):
            raise ArgumentError(f"capture: expected a function or a module, got {type(step).__name__}")
        self._step = step
        self._signatures: dict[Any, _Signature] = {}
        self._lock = threading.RLock()
        self._warned: set[str] = set()
        self._busy = False
        functools.update_wrapper(self, step, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            if self._busy or engine.is_recording() or engine.is_watched():  # inside another recording, or being profiled
                return self._step(*args, **kwargs)
            self._busy = True
            try:
                return self._run(args, kwargs)
            finally:
                self._busy = False

    def _run(self, args: Any, kwargs: Any) -> Any:
        inputs: list[TensorCore] = []
        structure = _flatten((args, kwargs), inputs)
        signature = self._signature(inputs, structure)
        ready = signature.ready
        if ready is not None:
            failed = engine.first_failed(ready.guards)
            if failed is None:
                return ready.replay(inputs)
            self._again(signature, failed.name)
        if signature.refused is None and any(t.requires_grad for t in inputs):
            signature.refused = "an argument requires a gradient; make it inside of the step"
            self._warn(f"runs eagerly: {signature.refused}")
        if signature.refused is not None or not signature.warm:
            signature.warm = True
            return self._eager(args, kwargs)
        return self._record(signature, inputs, structure)

    def _eager(self, args: Any, kwargs: Any) -> Any:
        """The result as a replay gives it, without a graph."""
        tensors: list[TensorCore] = []
        structure = _flatten(self._step(*args, **kwargs), tensors)
        return _fill(structure, [t.detach() if t.node is not None else t for t in tensors])

    def _record(self, signature: _Signature, inputs: list[TensorCore], structure: Any) -> Any:
        recording = Recording(self._step, inputs, structure, signature.before)
        result = recording.results()
        if recording.problem is not None:
            signature.refused, signature.before = recording.problem, None
            self._warn(f"runs eagerly: {recording.problem}")
        elif signature.before is None:
            signature.before = recording
        else:
            signature.ready, signature.before = recording, None
        return result

    def _again(self, signature: _Signature, what: str) -> None:
        signature.ready = signature.before = None
        signature.count += 1
        if signature.count > _MOST_RECORDINGS:
            signature.refused = f"{what} changes too often"
            self._warn(f"runs eagerly from now on: {signature.refused}")
        else:
            self._warn(f"is recorded anew: {what} has changed")

    def _signature(self, inputs: list[TensorCore], structure: Any) -> _Signature:
        key = (
            tuple((t.data.shape, t.data.dtype.str, t.requires_grad) for t in inputs), _frozen(structure),
            engine.is_grad_enabled(), engine.is_inference_mode_enabled(), _core.isa(), _core.conv_method(), _core.precision(),
        )  # fmt: skip
        found = self._signatures.get(key)
        if found is None:
            found = self._signatures[key] = _Signature()
            if len(self._signatures) > _MOST_SIGNATURES:
                found.refused = f"more than {_MOST_SIGNATURES} kinds of arguments (shapes, dtypes, numbers)"
                self._warn(f"runs eagerly with new kinds of arguments: {found.refused}")
        return found

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            name = getattr(self._step, "__name__", type(self._step).__name__)
            warnings.warn(f"capture: {name} {message}", CaptureWarning, stacklevel=5)

    @property
    def replays(self) -> bool:
        """Whether the last kind of arguments is replayed now."""
        return any(s.ready is not None for s in self._signatures.values())

    @property
    def memory(self) -> int:
        """Bytes that the recordings hold."""
        return sum(r.tape.bytes for s in self._signatures.values() for r in (s.before, s.ready) if r is not None)


def capture(step: Callable[..., Any]) -> Capture:
    """Run a training or inference step of fixed shapes without the cost of Python: recorded once, then replayed natively.

    The first call for each kind of arguments (shapes, dtypes, Python values) runs as always, two more are recorded, and from
    the fourth on the recorded kernel calls are replayed, with the same bits as an eager step. Optimizer options (a learning rate
    that a scheduler moves between the steps), the random numbers of dropout, running statistics and step counts go on as in
    eager steps. When something that the step reads has changed (the mode of a module, `requires_grad`, the memory of a
    parameter, a global), it is recorded anew; what cannot be replayed runs eagerly. Both give a `CaptureWarning` that says why,
    once for each reason.

    Parameters
    ----------
    step : function or Module
        Takes tensors that require no gradient (in lists, tuples and dicts too) and other values, and returns tensors. A
        training step holds all of zero_grad, forward, backward and the optimizer's step.

    Returns
    -------
    Capture
        Called like `step`. Results are new tensors without a graph. Attributes: ``replays`` (whether anything is replayed
        yet), ``memory`` (bytes that the recordings hold: about what one step needs, for each kind of arguments).

    Notes
    -----
    Python code of the step does not run in a replay. Refused with a message, by name where an operation is at fault: values
    that reach Python or NumPy (``.item()``, a condition on a value, operations on integers, sorting, clipping by a norm),
    gradients that add up over several calls, tensors kept beyond the end of the step, NumPy's random numbers, hooks, numbers
    that change from step to step. Not seen: prints and other effects outside of Python objects, and values behind more than
    one attribute of a global. `.grad` of the parameters lies in the recording's memory, which the next replay overwrites.

    Examples
    --------
    >>> import pydl
    >>> model = pydl.nn.Linear(3, 2)
    >>> optimizer = pydl.optim.SGD(model.parameters(), lr=0.1)
    >>> def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = pydl.nn.functional.mse_loss(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> train = pydl.capture(step)
    >>> losses = [train(pydl.ones(4, 3), pydl.zeros(4, 2)).item() for _ in range(10)]
    >>> losses[-1] < losses[0], train.replays
    (True, True)
    """
    return Capture(step)
