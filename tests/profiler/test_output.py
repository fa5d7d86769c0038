"""Tables, pictures, traces, files and comparison of profiles with known content."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

import pydl
from pydl import profiler
from pydl.errors import ArgumentError
from pydl.profiler import Event, MachineLimits, Profile
from pydl.profiler.events import KernelRun, MemoryPoint, RangeSpan, StepSpan

LIMITS = MachineLimits("avx2", 2, {"avx2": (50.0, 100.0)}, (8.0, 10.0), (9.0, 20.0), 0.5, 9.0)
MS = 1_000_000


def made(scale=1, steps=2):
    """Two steps of 10 ms: a convolution each way, a copy, and 1 ms between operations."""
    events, memory = [], []
    for step in range(steps):
        t = step * 10 * MS
        for name, phase, start, ms, flops, nbytes in (
            ("conv", "forward", 0, 3 * scale, 200_000_000, 1_000_000), ("conv", "backward", 3 * scale, 5, 400_000_000, 2_000_000),
            ("copy", "forward", 8 * scale, 1, 0, 8_000_000),
        ):  # fmt: skip
            begin, end = t + start * MS, t + (start + ms) * MS
            events.append(Event(
                name, phase, "body.0", step, begin, end, wall=ms * MS, kernel=ms * MS - 300_000, waiting=100_000, threads=2,
                flops=flops, bytes=nbytes, inputs=((2, 3, 8, 8),), output=(2, 4, 8, 8), allocations=1, faults=2, peak=3 << 20,
                kernels=[KernelRun(f"{name}_kernel", begin, end - begin, 100_000, 2)],
            ))  # fmt: skip
            memory.append(MemoryPoint(end, 2 << 20, 3 << 20))
        events.append(Event("(rest of the step)", "between", "", step, t, t + 10 * MS, wall=MS, waiting=MS // 2))
    spans = [StepSpan(s, s * 10 * MS, (s + 1) * 10 * MS, 0) for s in range(steps)]
    ranges = [RangeSpan("loss", 0, 0, 2 * MS)]
    return Profile(events, spans, ranges, memory, {"": "Net", "body": "Sequential", "body.0": "Conv2d"}, {"threads": 2}, LIMITS)


def cells(table, name):
    return dict(zip(table.header, next(r for r in table.rows if r[0] == name), strict=True))


def test_table_of_operations_is_per_step():
    table = made().table("op")
    conv = cells(table, "conv backward")
    assert conv["calls"] == "1"
    assert conv["ms"] == "5.000"
    assert conv["%"] == "50.0"
    assert conv["kernel"] == "4.700"
    assert conv["waiting"] == "0.100"
    assert conv["python"] == "0.200"
    assert conv["GFLOP/s"] == "80"
    assert conv["GB/s"] == "0.4"
    assert conv["FLOP/B"] == "200"
    assert conv["% roof"] == "80.0"  # 4 ms at 100 GFLOP/s
    assert conv["MiB peak"] == "3.0"
    assert conv["faults"] == "2"
    assert cells(table, "copy")["% roof"] == "40.0"  # 8 MB at 20 GB/s are 0.4 ms
    assert [r[0] for r in table.rows] == ["conv backward", "conv", "copy", "(rest of the step)"]
    text = str(table)
    assert "the rows account for 100.0 %" in text
    assert "limits of this machine: 100 GFLOP/s (avx2, 2 threads), 20.0 GB/s" in text
    assert "kernels 81.0 %, Python 11.0 %, waiting 8.0 %" in text


def test_table_can_be_cut_and_names_the_rest():
    table = made().table("op", limit=1)
    assert len(table.rows) == 1
    assert "and 3 more, 5.000 ms" in str(table)


def test_other_tables():
    p = made()
    layer = cells(p.table("layer"), "body.0")
    assert (layer["type"], layer["calls"], layer["ms"]) == ("Conv2d", "3", "9.000")
    assert [r[:2] for r in p.table("module").rows] == [("(model)", "Net"), ("body", "Sequential"), ("body.0", "Conv2d")]
    assert [r[0] for r in p.table("module", depth=1).rows] == ["(model)", "body"]
    kernel = cells(p.table("kernel"), "conv_kernel")
    assert kernel["calls"] == "2"
    assert float(kernel["ms"]) == 8.0
    assert p.table("range").rows == [("loss", "0.5", "1.000", "10.0")]


def test_rich_table_escapes_names(capsys):
    from rich.console import Console

    p = made()
    p.events[0].name = "odd[name]"
    console = Console(width=200, file=__import__("io").StringIO())
    console.print(p.table("op"))
    assert "odd[name]" in console.file.getvalue()
    p.show("layer")
    assert "body.0" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["p.json", "deep/p.json.gz"])
def test_save_and_load(tmp_path, name):
    p = made()
    path = p.save(tmp_path / name)
    again = profiler.load(path)
    assert again == p
    assert str(again) == str(p)


def test_loading_what_is_no_profile(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read"):
        profiler.load(tmp_path / "nothing.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ArgumentError, match="is no profile"):
        profiler.load(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"format": "other"}')
    with pytest.raises(ArgumentError, match="no profile of this version"):
        profiler.load(tmp_path / "b.json")


def test_comparison_puts_the_largest_change_first():
    before, after = made(scale=2), made()
    table = before.compare(after)
    first = cells(table, "conv")
    assert table.rows[0][0] == "conv"
    assert (first["before ms"], first["after ms"], first["difference"], first["speed"]) == ("6.000", "3.000", "-3.000", "2.00x")
    assert first["% roof before"] == "33.3"
    assert first["% roof after"] == "66.7"
    assert profiler.compare(before, after, "layer").rows[0][0] == "body.0"
    with pytest.raises(ArgumentError, match="by='x'"):
        before.compare(after, "x")


def test_trace_is_valid_and_bounded(tmp_path):
    p = made(steps=200)
    path = p.trace(tmp_path / "t" / "trace.json")
    trace = json.loads(path.read_text())
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    conv = next(e for e in slices if e["name"] == "conv")
    assert (conv["ts"], conv["dur"]) == (0, 3000)
    assert conv["args"]["module"] == "body.0"
    assert conv["args"]["inputs"] == "2x3x8x8"
    assert conv["args"]["% of roofline"] == 66.7
    assert {"conv backward", "conv_kernel", "step 0", "loss"} <= {e["name"] for e in slices}
    assert trace["otherData"]["left_out"] == 0
    names = {e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    assert names == {"steps", "ranges", "operations", "native kernels"}

    small = p.trace(tmp_path / "small.json", max_mb=0.02)
    assert small.stat().st_size <= 20_000
    cut = json.loads(small.read_text())
    kept = [e for e in cut["traceEvents"] if e["ph"] == "X"]
    assert cut["otherData"]["left_out"] > 0
    assert {e["name"] for e in kept} == {e["name"] for e in kept if e["dur"] >= 5000}  # the longest ones stay
    with pytest.raises(ArgumentError, match="max_mb=0"):
        p.trace(tmp_path / "x.json", max_mb=0)


def test_roofline_has_a_point_for_every_operation(tmp_path):
    p = made()
    axes = p.roofline().axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    points = np.concatenate([c.get_offsets() for c in axes.collections])
    assert len(points) == 4  # forward and backward of two steps; a copy has no operations
    np.testing.assert_allclose(sorted({tuple(np.round(q, 6)) for q in points}), [(200, 200e6 / 3e6), (200, 80)], rtol=1e-6)
    roof = axes.lines[0]
    np.testing.assert_allclose(roof.get_ydata(), np.minimum(100, roof.get_xdata() * 20))
    assert imread(p.roofline(tmp_path / "r.png", "title")).std() > 0.01
    with pytest.raises(ArgumentError, match="no operation with FLOPs"):
        Profile(measured=LIMITS).roofline()


def test_memory_plot(tmp_path):
    axes = made().memory_plot().axes[0]
    current = next(line for line in axes.lines if line.get_label() == "in use")
    np.testing.assert_allclose(current.get_ydata(), 2)
    assert [t.get_text() for t in axes.texts] == ["3 MiB"]
    assert imread(made().memory_plot(tmp_path / "m.png")).std() > 0.01
    with pytest.raises(ArgumentError, match="nothing was recorded"):
        Profile(measured=LIMITS).memory_plot()


def test_a_real_profile_survives_all_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr("pydl.profiler.result.machine_limits", lambda threads=None: LIMITS)
    x = pydl.randn(8, 16, requires_grad=True)
    with profiler.profile() as p:
        (x @ x.T).exp().sum().backward()
    again = profiler.load(p.result.save(tmp_path / "p.json.gz"))
    assert again == p.result
    again.roofline(tmp_path / "r.png")
    again.memory_plot(tmp_path / "m.png")
    again.trace(tmp_path / "t.json")
