"""What the profiler records: rows against known work, time that adds up, schedules, and nothing left behind."""

import mmap
import threading
import time

import numpy as np
import pytest

import pydl
from pydl import _core, nn, profiler
from pydl.errors import ArgumentError
from pydl.graph import engine
from pydl.profiler import MachineLimits, profile, record_function, schedule


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    limits = MachineLimits("test", 1, {"test": (100.0, 100.0)}, (10.0, 10.0), (10.0, 10.0), 1.0, 10.0)
    monkeypatch.setattr("pydl.profiler.result.machine_limits", lambda threads=None: limits)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = self.body(x)
        return self.head((h + h).mean((2, 3)))


def train(model, n=4, size=16, steps=1, prof=None):
    optimizer = pydl.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = pydl.randn(n, 3, size, size), pydl.tensor(np.arange(n) % 5)
    for _ in range(steps):
        optimizer.zero_grad()
        pydl.cross_entropy(model(x), y).backward()
        optimizer.step()
        if prof is not None:
            prof.step()


def rows(result, by="op"):
    return {row.name: row for row in getattr(result, f"by_{by}")()}


# --------------------------------------------------------------------------- costs


def test_flops_bytes_and_shapes_of_a_training_step():
    model = Net()
    with profile(model=model) as p:
        train(model)
    result = p.result
    got = rows(result)
    conv = 2 * 4 * 16 * 16 * 8 * 27
    assert got["conv"].flops == conv + 4 * 16 * 16 * 8  # and the bias
    assert got["conv backward"].flops == got["conv"].flops  # the input wants no gradient
    assert got["linear"].flops == 4 * 5 * 17
    assert got["linear backward"].flops >= 2 * 2 * 4 * 5 * 8  # two products, and the bias
    parameters = sum(q.data.nbytes for q in model.parameters())
    assert got["optimizer_step"].bytes == 5 * parameters  # parameters and momentum read and written, gradients read
    assert "optimizer" in {r.kind for r in result.by_op()}
    event = next(e for e in result.events if e.name == "conv" and e.phase == "forward")
    assert (event.inputs[0], event.output, event.path) == ((4, 3, 16, 16), (4, 8, 16, 16), "body.0")
    backward = next(e for e in result.events if e.name == "conv" and e.phase == "backward")
    assert (backward.path, backward.inputs) == ("body.0", event.inputs)
    assert {"conv_forward", "conv_weight_gradient"} <= set(rows(result, "kernel"))


def test_layers_and_modules_hold_forward_and_backward():
    model = Net()
    with profile(model=model) as p:
        train(model)
    layers, modules = rows(p.result, "layer"), rows(p.result, "module")
    assert layers["body.0"].kind == "Conv2d"
    assert layers["body.0"].calls == 2
    assert "body.2" not in layers  # the ReLU is part of the batch norm's kernel
    assert modules["body"].flops == layers["body.0"].flops + layers["body.1"].flops
    assert modules["(model)"].flops >= modules["body"].flops + modules["head"].flops
    assert list(modules)[:2] == ["(model)", "body"]  # as they are called
    assert {r.name for r in p.result.by_module(depth=1)} == {"(model)", "body", "head"}


def test_gradient_sums_and_copies_are_rows():
    w = pydl.randn(64, 64, requires_grad=True)
    with profile() as p:
        (w * 2 + w * 3).sum().backward()
    got = rows(p.result)
    assert got["accumulate"].bytes == 3 * 64 * 64 * 4
    np.testing.assert_allclose(w.grad.numpy(), 5)


def test_checkpoint_and_functions_show_what_they_run():
    layer, x = nn.Linear(32, 32), pydl.randn(16, 32, requires_grad=True)
    with profile() as p:
        pydl.checkpoint(layer, x).sum().backward()
    got = rows(p.result)
    assert got["linear"].flops == got["linear"].calls * 16 * 32 * 65
    assert (got["checkpoint"].flops, got["checkpoint backward"].flops) == (0, 0)
    # once without recording, and again in the backward of the checkpoint, where it is a row of that phase
    assert sum(e.name == "linear" and len(e.inputs) == 3 for e in p.result.events) == 3
    assert sum(e.flops for e in p.result.events if e.name == "linear") >= 3 * 16 * 32 * 65


def test_a_backward_that_calls_kernels_itself_has_a_cost_and_a_view_has_none():
    x = pydl.randn(4, 8, 16, 16, requires_grad=True)
    for behind in ([], [nn.ReLU()]):  # the norm's backward as an operation of its own, and as a call of the kernel
        model = nn.Sequential(nn.BatchNorm2d(8), *behind, nn.MaxPool2d(2))
        with profile() as p:
            pydl.cat([model(x), pydl.zeros(4, 8, 8, 8)], dim=1)[:, :8].sum().backward()
        got = rows(p.result)
        assert got["batch_norm"].bytes == 3 * x.data.nbytes  # read twice, written
        assert got["batch_norm backward"].bytes == 5 * x.data.nbytes  # with its gradient
        assert got["batch_norm backward"].flops == 12 * x.data.size
        assert got["max_pool backward"].bytes > x.data.nbytes
    assert got["slice"].bytes == got["cat backward"].bytes == 0


def test_roofline_share_follows_the_slower_limit():
    a = pydl.randn(256, 256)
    with profile() as p:
        a @ a
        pydl.exp(a)
    got = rows(p.result)
    assert got["matmul"].roofline * got["matmul"].wall == pytest.approx(2 * 256**3 / 100e9)
    assert got["exp"].roofline * got["exp"].wall == pytest.approx(2 * 256 * 256 * 4 / 10e9)
    assert got["matmul"].intensity == pytest.approx(2 * 256**3 / (3 * 256 * 256 * 4))


def test_float64_has_half_the_peak():
    a = pydl.randn(128, 128).to(pydl.float64)
    with profile() as p:
        a @ a
    row = rows(p.result)["matmul"]
    assert row.least == pytest.approx(2 * 128**3 / 50e9)


# --------------------------------------------------------------------------- time and memory


def test_time_adds_up_to_the_step():
    model = Net()
    train(model, 8, 48)
    with profile(schedule(warmup=1, active=3, repeat=1), model=model) as p:
        train(model, 8, 48, 4, p)
    result = p.result
    assert len(result.steps) == 3
    for step in result.steps:  # every piece of time has exactly one owner
        filed = sum(e.wall for e in result.events if e.step == step.number)
        assert filed == pytest.approx(step.end - step.start - step.overhead, rel=0.01)
    assert result.accounted == pytest.approx(result.seconds / (result.seconds + result.overhead), rel=0.01)
    for e in result.events:
        assert e.wall >= 0
        assert e.kernel >= 0
        assert e.waiting >= 0
        assert e.python >= -1000  # the clocks are read one after the other
    whole = result.total()
    assert whole.kernel + whole.python + whole.waiting == pytest.approx(whole.wall)
    operations = sum(e.wall for e in result.events if e.phase != "between")
    assert operations > 0.5 * whole.wall


def test_waiting_is_not_python():
    with profile() as p:
        pydl.ones(4) + 1
        time.sleep(0.05)
        pydl.ones(4) + 1
    got = rows(p.result)["(before forward operations)"]
    assert got.waiting > 0.045
    assert got.python < 0.5 * got.wall


def test_kernels_use_the_threads_that_are_set():
    x = pydl.randn(64, 64, 64)
    before = pydl.get_num_threads()
    try:
        for threads in (1, 2):
            pydl.set_num_threads(threads)
            with profile() as p:
                pydl.exp(x)
            assert rows(p.result)["exp"].threads == threads
            assert p.result.about["threads"] == threads
    finally:
        pydl.set_num_threads(before)


def test_memory_high_water_and_allocations():
    x = pydl.randn(1 << 18)  # 1 MiB
    base = pydl.memory.current()
    with profile() as p:
        y = pydl.exp(x)
        z = y + x
    del y, z
    result = p.result
    add = next(e for e in result.events if e.name == "add")
    assert add.allocations >= 1
    assert 2 << 20 <= result.peak - base < 3 << 20
    assert result.memory[-1].current - base >= 2 << 20
    first = next(e for e in result.events if e.name == "exp")
    assert first.peak - base < add.peak - base


def test_page_faults_are_counted():
    with profile() as p:
        with mmap.mmap(-1, 64 * mmap.PAGESIZE) as block:
            for i in range(64):
                block[i * mmap.PAGESIZE] = 1
        pydl.ones(2) + 1
    assert p.result.total().faults >= 1  # 64, or fewer with large pages


# --------------------------------------------------------------------------- the session


def test_schedule_cycles_and_callback():
    seen = []
    plan = schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1)
    with profile(plan, on_ready=seen.append) as p:
        for i in range(12):
            pydl.ones(i + 1) + 1
            p.step()
    assert p.results == seen
    assert len(seen) == 2
    assert [s.number for s in seen[0].steps] == [3, 4]
    assert [s.number for s in seen[1].steps] == [7, 8]
    assert [e.output for e in seen[0].events if e.name == "add"] == [(4,), (5,)]
    assert p.result is seen[1]


def test_an_endless_schedule_is_cut_at_the_end_of_the_block():
    with profile(schedule(active=3)) as p:
        for _ in range(4):
            pydl.ones(3) + 1
            p.step()
    assert [len(r.steps) for r in p.results] == [3, 2]


def test_ranges():
    @record_function("twice")
    def twice(x):
        return x + x

    with record_function("nobody records"):
        pass
    with profile() as p, record_function("outer"):
        twice(pydl.ones(3))
        twice(pydl.ones(3))
    got = rows(p.result, "range")
    assert (got["twice"].calls, got["outer"].calls) == (2, 1)
    assert got["outer"].wall >= got["twice"].wall > 0


def test_other_threads_are_not_recorded_but_work():
    results = []

    def work():
        x = pydl.ones(3, requires_grad=True)
        (x * 5).sum().backward()
        results.append(x.grad.numpy())

    with profile() as p:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        pydl.ones(2) + 1
    np.testing.assert_array_equal(results[0], 5)
    assert "mul" not in rows(p.result)
    assert "add" in rows(p.result)


def test_nothing_is_left_behind_after_an_error():
    p = profile()
    with pytest.raises(ZeroDivisionError), p:
        1 / (pydl.ones(2) + 1).data.size.__sub__(2)
    assert engine.set_observer(None) is None
    assert not engine.is_watched()
    assert not _core.profile_on()
    assert "add" in rows(p.result)
    with profile(), pytest.raises(pydl.errors.ShapeError):
        pydl.ones(2, 3) @ pydl.ones(2, 3)
    x = pydl.ones(2, requires_grad=True)
    (x + x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2)


def test_same_results_with_and_without():
    def run():
        pydl.manual_seed(0)
        model = Net()
        train(model, steps=2)
        return [q.detach().numpy().copy() for q in model.parameters()]

    plain = run()
    with profile():
        profiled = run()
    for a, b in zip(plain, profiled, strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_use():
    with pytest.raises(ArgumentError, match="active=0; expected at least one"):
        schedule(active=0)
    with pytest.raises(ArgumentError, match="wait=-1"):
        schedule(wait=-1, active=1)
    p = profile()
    with pytest.raises(ArgumentError, match="outside of the with block"):
        p.step()
    with pytest.raises(ArgumentError, match="nothing is recorded yet"):
        p.result  # noqa: B018
    with p, pytest.raises(ArgumentError, match="another profile is active"), profile():
        pass
    with pytest.raises(ArgumentError, match="by='time'"):
        p.result.table("time")


@pytest.mark.slow
def test_overhead_on_a_network():
    """Processor time on one thread, which other programs disturb little, and with room for what they do."""
    from pydl import models

    model = models.create("resnet18")
    x, y = pydl.randn(2, 3, 128, 128), pydl.tensor([1, 2])

    def step():
        model.zero_grad()
        pydl.cross_entropy(model(x), y).backward()

    def seconds():
        started = time.thread_time()
        step()
        return time.thread_time() - started

    before = pydl.get_num_threads()
    pydl.set_num_threads(1)
    try:
        step()
        plain, profiled, shares = [], [], []
        for _ in range(7):
            plain.append(seconds())
            with profile() as p:
                profiled.append(seconds())
            shares.append(p.result.accounted)
    finally:
        pydl.set_num_threads(before)
    assert max(shares) >= 0.95  # of the whole wall time, the profiler's own work included
    assert min(profiled) < 1.15 * min(plain), f"{min(profiled) / min(plain) - 1:.1%} slower when profiled; the aim is 5 %"


def test_the_profilers_own_work_is_small():
    """Deterministic in kind: its cost for each operation, against a network's step of many milliseconds."""
    x = pydl.ones(4)
    with profile() as p:
        for _ in range(500):
            x + x
    assert p.result.overhead / 500 < 50e-6  # about 0.2 us on a quiet machine
    assert profiler.profile is profile
