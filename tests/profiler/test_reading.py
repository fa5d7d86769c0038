"""Reading the native log: whose every piece of time is, with logs made by hand and with what the graph really tells."""

import numpy as np
import pytest

import pydl
from pydl.errors import ArgumentError
from pydl.graph.op import Op
from pydl.profiler import MachineLimits, profile
from pydl.profiler.reading import Reading, _stand_in

BEGIN, END, STEP, KERNEL = range(4)
FORWARD, BACKWARD, SHORT, SUM, COPY = range(5)
FLOAT = np.dtype(np.float32)


class Exp(Op):
    name, backward_on_tensors = "exp", True


class Add(Op):
    name = "add"


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    limits = MachineLimits("test", 1, {"test": (100.0, 100.0)}, (10.0, 10.0), (10.0, 10.0), 1.0, 10.0)
    monkeypatch.setattr("pydl.profiler.result.machine_limits", lambda threads=None: limits)


class Log:
    """A log made by hand; each mark takes the profiler one nanosecond."""

    dropped = 0

    def __init__(self, events, marks):
        self._events, self._marks = events, marks

    def events(self, array):
        return [(phase, op, path, needs, forward, [array(FLOAT, s) for s in shapes], out, False)
                for phase, op, path, needs, forward, shapes, out in self._events]  # fmt: skip

    def marks(self):
        return [(kind, stop, stop + 1, *asked, *figures) for kind, stop, asked, figures in self._marks]


NOT_ASKED = (-1, -1)


def op_mark(kind, stop, number, asked=NOT_ASKED, current=0, peak=0, allocations=0, fresh=0):
    return kind, stop, asked, (number, current, peak, allocations, fresh)


def kernel(begin, stop, name="k", waited=0, asked=NOT_ASKED):
    return KERNEL, stop, asked, (name, begin, waited, 0, 1)


EXP = (FORWARD, Exp, "a.b", None, -1, [(4, 8)], (4, 8))


def test_pieces_go_to_the_operation_or_to_the_gap_before_it():
    log = Log([EXP], [
        op_mark(STEP, 0, 7, (0, 0)), op_mark(BEGIN, 101, 0), kernel(122, 172),
        op_mark(END, 183, 0, current=5, peak=9, allocations=2), op_mark(STEP, 234, 7, (234, 0)),
    ])  # fmt: skip
    r = Reading(log)
    by_name = {e.name: e for e in r.events}
    exp, before, rest = by_name["exp"], by_name["(before forward operations)"], by_name["(rest of the step)"]
    assert (before.wall, exp.wall, exp.kernel, rest.wall) == (100, 80, 50, 50)  # without a nanosecond for each mark
    assert (exp.path, exp.phase, exp.step, exp.inputs, exp.output) == ("a.b", "forward", 7, ((4, 8),), (4, 8))
    assert (exp.allocations, exp.memory, exp.peak) == (2, 5, 9)
    assert exp.bytes == 2 * 4 * 8 * 4
    (step,) = r.steps
    assert (step.number, step.start, step.end, step.overhead) == (7, 0, 234, 4)
    assert sum(e.wall for e in r.events) == step.end - step.start - step.overhead
    assert [e.waiting for e in r.events] == [0, 0, 0]


def test_time_off_the_processor_goes_to_the_longest_piece_of_the_window():
    log = Log([EXP, EXP], [
        op_mark(STEP, 0, 0, (0, 0)), op_mark(BEGIN, 11, 0), kernel(12, 912), op_mark(END, 923, 0),  # the kernel takes 900
        op_mark(BEGIN, 944, 1), kernel(945, 955, asked=(655, 3)), op_mark(END, 966, 1),  # 300 of these 955 off the processor
        op_mark(STEP, 1967, 0, (706, 3)),  # then 1012 have passed, 51 of them on it
    ])  # fmt: skip
    r = Reading(log)
    first, second = (e for e in r.events if e.name == "exp")
    assert (first.kernel, first.waiting, first.python, first.faults) == (600, 300, 10, 3)
    assert first.kernels[0].waited == 300
    assert (second.kernel, second.waiting, second.faults) == (10, 0, 0)
    rest = next(e for e in r.events if e.name == "(rest of the step)")
    assert (rest.wall, rest.waiting) == (1000, 961)


def test_page_faults_go_to_where_the_pool_took_memory():
    log = Log([EXP, EXP], [
        op_mark(STEP, 0, 0, (0, 100)), op_mark(BEGIN, 500, 0), op_mark(END, 600, 0, (600, 120), fresh=1),
        op_mark(BEGIN, 700, 1, fresh=1), op_mark(END, 800, 1, fresh=1), op_mark(STEP, 900, 0, (900, 121), fresh=1),
    ])  # fmt: skip
    first, second = (e for e in Reading(log).events if e.name == "exp")
    assert (first.faults, first.system_allocations) == (20, 1)
    assert second.faults <= 1


def test_what_waits_for_other_threads_is_counted_once():
    log = Log([EXP], [
        op_mark(STEP, 0, 0, (0, 0)), op_mark(BEGIN, 10, 0), kernel(20, 120, waited=40), op_mark(END, 130, 0),
        op_mark(STEP, 140, 0, (90, 0)),  # 50 off the processor, 40 of them waiting
    ])  # fmt: skip
    exp = next(e for e in Reading(log).events if e.name == "exp")
    assert (exp.kernel, exp.waiting, exp.kernels[0].waited) == (50, 50, 50)


def test_a_cancelled_operation_leaves_its_time_to_what_is_around():
    cancelled = (~FORWARD, *EXP[1:])
    log = Log([cancelled, EXP], [
        op_mark(STEP, 0, 0, (0, 0)), op_mark(BEGIN, 10, 0), op_mark(END, 20, 0), op_mark(BEGIN, 30, 1), op_mark(END, 80, 1),
        op_mark(STEP, 81, 0, (81, 0)),
    ])  # fmt: skip
    r = Reading(log)
    assert [e.name for e in r.events] == ["exp", "(before forward operations)", "(rest of the step)"][: len(r.events)]
    assert sum(e.wall for e in r.events) == 81 - r.steps[0].overhead


def test_operations_of_a_backward_made_of_operations_are_its_own():
    forward = (FORWARD, Exp, "m", None, -1, [(2, 3)], (2, 3))
    backward = (BACKWARD, Exp, "m", (True,), 0, [], None)
    inner = (FORWARD, Add, "", None, -1, [(2, 3), (2, 3)], (2, 3))
    log = Log([forward, backward, inner], [
        op_mark(STEP, 0, 0, (0, 0)), op_mark(BEGIN, 1, 0), op_mark(END, 11, 0), op_mark(BEGIN, 12, 1), op_mark(BEGIN, 22, 2),
        op_mark(END, 32, 2), op_mark(END, 42, 1), op_mark(STEP, 43, 0, (43, 0)),
    ])  # fmt: skip
    events = [e for e in Reading(log).events if e.phase != "between"]
    assert [(e.name, e.phase, e.wall) for e in events] == [("exp", "forward", 9), ("exp", "backward", 27)]
    assert events[1].bytes == 3 * 6 * 4
    assert (events[1].inputs, events[1].path) == (((2, 3),), "m")


def test_stand_ins_look_like_arrays_and_take_no_memory():
    a = _stand_in(np.dtype(np.float64), (1 << 20, 1 << 10))
    assert (a.shape, a.nbytes, a.itemsize, a.size) == ((1 << 20, 1 << 10), 8 << 30, 8, 1 << 30)
    assert a.base.nbytes == 8


# --------------------------------------------------------------------------- what the graph tells


def events(p, phase):
    return [e for e in p.result.events if e.phase == phase]


def test_elementwise_operations_are_recorded_on_their_short_way():
    x, y = pydl.randn(8, 16, requires_grad=True), pydl.randn(8, 16, requires_grad=True)
    with profile() as p:
        (pydl.tanh(x) * y).sum().backward()
    forward, backward = events(p, "forward"), events(p, "backward")
    assert [e.name for e in forward] == ["tanh", "mul", "sum"]
    assert [(e.inputs, e.output) for e in forward[:2]] == [(((8, 16),), (8, 16)), (((8, 16), (8, 16)), (8, 16))]
    assert [e.name for e in backward][-2:] == ["mul", "tanh"]
    tanh, mul = backward[-1], backward[-2]
    n = 8 * 16
    assert (tanh.flops, tanh.bytes) == (n, 3 * 4 * n)  # one product of the gradient and what was kept
    assert (mul.flops, mul.bytes) == (2 * n, 2 * 3 * 4 * n)
    assert [k.name for k in mul.kernels] == ["map_elements"] * 2
    np.testing.assert_allclose(y.grad.numpy(), np.tanh(x.detach().numpy()), rtol=1e-5)


def test_the_long_way_after_the_short_one_is_one_row():
    x, bias = pydl.randn(8, 16, requires_grad=True), pydl.randn(16, requires_grad=True)
    with profile() as p:
        (x * bias).sum().backward()
    assert [e.name for e in events(p, "forward")] == ["mul", "sum"]
    assert sum(e.name == "mul" for e in events(p, "backward")) == 1
    assert sum(e.wall for e in p.result.events) == pytest.approx(
        sum(s.end - s.start - s.overhead for s in p.result.steps), abs=len(p.result.events) * 10)


def test_recording_keeps_no_memory_alive():
    x = pydl.randn(64, 1024)
    before = pydl.memory.current()
    with profile() as p:
        for _ in range(10):
            pydl.cat([pydl.exp(x), x])
        assert pydl.memory.current() == before
    assert sum(e.name == "exp" for e in p.result.events) == 10
    cat = next(e for e in p.result.events if e.name == "cat")
    assert cat.output == (128, 1024)


def test_an_error_in_a_backward_leaves_nothing_open():
    class Wrong(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            raise ArgumentError("wrong on purpose")

    x = pydl.ones(3, requires_grad=True)
    with profile() as p:
        with pytest.raises(ArgumentError, match="on purpose"):
            Wrong.apply(x).sum().backward()
        pydl.exp(pydl.ones(3))
    last = events(p, "forward")[-1]
    assert (last.name, last.phase) == ("exp", "forward")
    assert last.start > max(e.end for e in events(p, "backward"))


def test_a_retained_graph_of_an_earlier_recording_is_no_stranger():
    x = pydl.ones(4, 4, requires_grad=True)
    with profile() as first:
        y = pydl.exp(x @ x).sum()
    with profile() as second:
        y.backward()
    assert {e.name for e in events(first, "forward")} == {"matmul", "exp", "sum"}
    matmul = next(e for e in events(second, "backward") if e.name == "matmul")
    assert matmul.inputs == ()  # its shapes went with the first recording
    assert matmul.wall > 0
