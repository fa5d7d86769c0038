"""Pictures: what the computation graph says, where the layout puts it, and what the plots contain."""

import stat
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

import pydl
from pydl import nn, viz
from pydl.errors import ArgumentError, GraphError, MissingExtraError, ShapeError
from pydl.viz.layout import layered
from pydl.viz.plots import _metric, _series

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def no_graphviz(monkeypatch):
    """The own layout, whatever is installed."""
    monkeypatch.setattr("shutil.which", lambda name: None)


def example():
    a, b, c = (pydl.tensor(v, requires_grad=True) for v in (5.0, 3.0, 2.0))
    u = b * c
    u.retain_grad()
    J = 3 * (a + u)
    J.backward(retain_graph=True)
    return J, {"a": a, "b": b, "c": c, "u": u, "J": J}


# --------------------------------------------------------------------------- computation graph


def test_documented_example():
    """J = 3(a + bc) at a = 5, b = 3, c = 2: dJ/da = 3, dJ/db = 3c = 6, dJ/dc = 3b = 9, and du = 3 between."""
    J, named = example()
    boxes = {box.title: box for box in viz.graph(J, named).boxes}
    assert {t: b.lines for t, b in boxes.items()} == {
        "a": ["value 5", "gradient 3"],
        "b": ["value 3", "gradient 6"],
        "c": ["value 2", "gradient 9"],
        "constant": ["value 3"],
        "u = mul": ["value 6", "gradient 3"],
        "add": ["scalar"],
        "J = mul": ["value 33"],
    }
    assert {t: b.kind for t, b in boxes.items()} == {
        "a": "leaf", "b": "leaf", "c": "leaf", "constant": "constant", "u = mul": "op", "add": "op", "J = mul": "output",
    }  # fmt: skip


def test_edges_follow_the_computation():
    J, named = example()
    drawing = viz.graph(J, named)
    title = [box.title for box in drawing.boxes]
    assert {(title[a], title[b]) for a, b in drawing.edges} == {
        ("b", "u = mul"), ("c", "u = mul"), ("u = mul", "add"), ("a", "add"), ("add", "J = mul"), ("constant", "J = mul"),
    }  # fmt: skip


def test_drawn_texts_contain_the_gradients():
    J, named = example()
    drawing = viz.graph(J, named)
    root = ET.fromstring(drawing.svg)
    texts = [t.text for t in root.iter(f"{SVG}text")]
    for expected in ("a", "b", "c", "value 5", "value 33", "gradient 3", "gradient 6", "gradient 9"):
        assert expected in texts
    assert 'n1 [label="a\\nvalue 5\\ngradient 3"' in drawing.dot
    assert '[label="b\\nvalue 3\\ngradient 6"' in drawing.dot
    assert '[label="c\\nvalue 2\\ngradient 9"' in drawing.dot
    assert drawing.dot.count("->") == 6
    assert drawing._repr_svg_() == drawing.svg


def test_before_and_after_backward_without_retaining():
    a = pydl.tensor(2.0, requires_grad=True)
    y = 3 * a
    assert [b.lines for b in viz.graph(y, {"a": a}).boxes] == [["value 2"], ["value 3"], ["value 6"]]
    y.backward()
    assert [b.lines for b in viz.graph(y, {"a": a}).boxes] == [["value 2", "gradient 3"], ["value 6"]]


def test_a_model_with_shapes_paths_and_gradient_norms():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    y = model(pydl.ones(5, 4))
    loss = y.sum()
    loss.backward()
    drawing = viz.graph(loss, model)
    boxes = {box.title: box.lines for box in drawing.boxes}
    assert boxes["2.bias"] == ["2", f"gradient, norm {np.sqrt(50):.3g}"]
    assert boxes["0.weight"][0] == "3x4"
    assert boxes["tanh"] == ["in 1", "5x3"]
    assert [box.lines for box in drawing.boxes if box.title == "linear"] == [["in 0", "5x3"], ["in 2", "5x2"]]


def test_svg_boxes_do_not_overlap_and_stay_inside():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return pydl.relu(x + self.b(pydl.relu(self.a(x))))

    model = nn.Sequential(Residual(), Residual(), nn.Linear(4, 2))
    for direction in ("LR", "TB"):
        root = ET.fromstring(viz.graph(model(pydl.ones(2, 4)).sum(), model, direction).svg)
        found = [r for g in root.iter(f"{SVG}g") for r in g.iter(f"{SVG}rect")]
        rects = [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in found]
        left, top, width, height = map(float, root.get("viewBox").split())
        assert len(rects) == 10 + 2 * 5 + 2 + 1  # parameters, blocks, linear and sum, the input
        for i, (x, y, w, h) in enumerate(rects):
            assert left <= x
            assert x + w <= left + width
            assert top <= y
            assert y + h <= top + height
            for x2, y2, w2, h2 in rects[:i]:
                assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
        assert (width > 2 * height) == (direction == "LR")


def test_names_are_escaped():
    a = pydl.tensor(1.0, requires_grad=True)
    drawing = viz.graph(a.exp(), {'<"a" & \\b>': a})
    assert '<"a" & \\b>' in [t.text for t in ET.fromstring(drawing.svg).iter(f"{SVG}text")]
    assert '[label="<\\"a\\" & \\\\b>\\nvalue 1"' in drawing.dot


def test_several_outputs_and_leaf_outputs():
    a = pydl.tensor([1.0, 2.0], requires_grad=True)
    values, indices = pydl.sort(a, descending=True)
    assert not indices.requires_grad
    drawing = viz.graph([values, a.sum()], {"a": a})
    assert [box.kind for box in drawing.boxes].count("output") == 2
    assert [box.title for box in viz.graph(a, {"a": a}).boxes] == ["a"]


def test_a_shared_tensor_is_drawn_once():
    a = pydl.tensor(2.0, requires_grad=True)
    drawing = viz.graph(a * a + a, {"a": a})
    assert [box.title for box in drawing.boxes] == ["a", "mul", "add"]
    assert sorted(drawing.edges) == [(0, 1), (0, 2), (1, 2)]


def test_a_long_graph_needs_no_recursion():
    x = w = pydl.tensor(1.0, requires_grad=True)
    for _ in range(1200):
        x = (x * w).tanh()
    drawing = viz.graph(x, {"w": w})
    assert len(drawing.boxes) == 2401
    assert drawing.svg.count("<rect") == 2402
    for _ in range(400):
        x = (x * w).tanh()
    with pytest.raises(ArgumentError, match="more than 3000 nodes"):
        viz.graph(x)


def test_user_functions_have_their_names():
    class Cube(pydl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x * x * grad

    assert viz.graph(Cube.apply(pydl.tensor(2.0, requires_grad=True))).boxes[-1].title == "Cube"


def test_saving(tmp_path, monkeypatch):
    J, named = example()
    drawing = viz.graph(J, named)
    assert drawing.save(tmp_path / "new" / "j.svg").read_text() == drawing.svg
    assert drawing.save(tmp_path / "j.dot").read_text() == drawing.dot
    with pytest.raises(ArgumentError, match=r"\.png needs the program dot \(apt install graphviz\); save as \.svg"):
        drawing.save(tmp_path / "j.png")
    with pytest.raises(ArgumentError, match=r"unknown file type 'j\.jpeg'"):
        drawing.save(tmp_path / "j.jpeg")


def test_graphviz_is_used_where_it_is_installed(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nprintf "drawn by $1 of "; wc -l\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("shutil.which", lambda name: str(program) if name == "dot" else None)
    J, named = example()
    drawing = viz.graph(J, named)
    lines = drawing.dot.count("\n")
    assert drawing.svg.split() == ["drawn", "by", "-Tsvg", "of", str(lines)]
    assert drawing.save(tmp_path / "j.png").read_text().split()[2] == "-Tpng"
    program.write_text("#!/bin/sh\ncat >/dev/null; echo no such luck >&2; exit 1\n")
    with pytest.raises(GraphError, match="no such luck"):
        _ = drawing.svg


def test_wrong_arguments_to_graph():
    a = pydl.tensor(1.0, requires_grad=True)
    with pytest.raises(GraphError, match=r"no operation was recorded .* set requires_grad=True"):
        viz.graph(pydl.ones(3))
    with pytest.raises(ArgumentError, match="expected a Tensor, got float"):
        viz.graph(3.0)
    with pytest.raises(ArgumentError, match="direction='up'"):
        viz.graph(a.exp(), direction="up")
    with pytest.raises(ArgumentError, match=r"expected a Module, \{name: Tensor}"):
        viz.graph(a.exp(), {"a": 3})


def test_layout_orders_a_ladder_without_crossings():
    # two chains 0-2-4, 1-3-5, listed so that a naive order would cross them
    layout = layered([(10, 10)] * 6, [(0, 3), (1, 2), (2, 5), (3, 4)])
    x = [c[0] for c in layout.centres]
    assert (x[0] < x[1]) == (x[3] < x[2]) == (x[4] < x[5])
    y = [c[1] for c in layout.centres]
    assert y[0] == y[1] < y[2] == y[3] < y[4] == y[5]


def test_layout_leads_long_edges_around():
    layout = layered([(40, 10)] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    route = layout.routes[3]
    middle = layout.centres[1][0]
    assert len(route) == 6
    assert all(abs(x - middle) >= 20 for x, _ in route[1:-1])


# --------------------------------------------------------------------------- plots


def test_curves_from_each_kind_of_history(tmp_path):
    rows = [{"epoch": i, "train_loss": 3 / i, "valid_loss": 4 / i, "valid_accuracy": 1 - 1 / i, "when": "now"} for i in (1, 2, 3)]
    rows[1]["valid_loss"] = None

    class History:
        def __init__(self):
            self.rows = rows

    figures = [viz.curves(h) for h in (rows, {k: [r[k] for r in rows] for k in rows[0]}, History())]
    for figure in figures:
        loss, accuracy = figure.axes
        assert (loss.get_title(loc="left"), accuracy.get_title(loc="left")) == ("loss", "accuracy")
        train, valid = loss.lines
        np.testing.assert_array_equal(train.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(train.get_ydata(), [3, 1.5, 1])
        np.testing.assert_allclose(valid.get_ydata(), [4, np.nan, 4 / 3])
        assert [t.get_text() for t in loss.get_legend().get_texts()] == ["train", "valid"]
        assert loss.get_xlabel() == "epoch"
    path = viz.curves(rows, tmp_path / "deep" / "curves.png", title="run")
    assert path == tmp_path / "deep" / "curves.png"
    assert imread(path).std() > 0.01


def test_curves_of_a_wide_range_are_logarithmic():
    assert viz.curves({"loss": [1000, 10, 1]}).axes[0].get_yscale() == "log"
    assert viz.curves({"loss": [1000, 10, 0]}).axes[0].get_yscale() == "linear"
    assert viz.curves({"loss": pydl.tensor([3.0, 2.0])}).axes[0].lines[0].get_ydata().tolist() == [3, 2]


def test_curves_of_nothing():
    with pytest.raises(ArgumentError, match="no series of numbers"):
        viz.curves({"epoch": [1, 2]})
    with pytest.raises(ArgumentError, match="no series 'step' to draw over; there are"):
        viz.curves({"loss": [1, 2]}, x="step")


@pytest.mark.parametrize(("name", "parts"), [
    ("train_loss", ("train", "loss")), ("loss/val", ("val", "loss")), ("convolutional, test", ("test", "convolutional")),
    ("test_top_5", ("test", "top 5")), ("lr", ("", "lr")), ("train", ("", "train")), ("training_time", ("training", "time")),
])  # fmt: skip
def test_names_of_series(name, parts):
    assert _metric(name) == parts


def test_series_of_rows_with_gaps():
    series = _series([{"a": 1}, {"a": None, "b": 2.5}, {"b": "text"}, {}])
    assert list(series) == ["a"]
    np.testing.assert_array_equal(series["a"], [1, np.nan, np.nan, np.nan])


def test_images_share_one_grey_scale(tmp_path):
    grid = np.linspace(0, 5, 6 * 4, dtype=np.float32).reshape(6, 1, 2, 2)
    figure = viz.images(pydl.from_numpy(grid), [f"t{i}" for i in range(6)])
    assert [a.get_title() for a in figure.axes] == [f"t{i}" for i in range(6)]
    for axes, image in zip(figure.axes, grid, strict=True):
        (shown,) = axes.images
        np.testing.assert_array_equal(shown.get_array(), image[0])
        assert shown.get_clim() == (0, 5)
    assert imread(viz.images(grid, path=tmp_path / "i.png")).ndim == 3


def test_colour_images_in_either_order():
    planes = np.random.default_rng(0).random((2, 3, 8, 6), dtype=np.float32) * 1.2
    shown = [viz.images(g).axes[1].images[0].get_array() for g in (planes, np.moveaxis(planes, 1, -1))]
    for s in shown:
        np.testing.assert_array_equal(s, np.clip(np.moveaxis(planes[1], 0, -1), 0, 1))


def test_wrong_images():
    with pytest.raises(ArgumentError, match="no image"):
        viz.images([])
    with pytest.raises(ArgumentError, match="1 titles for 2 images"):
        viz.images(np.zeros((2, 3, 3)), ["a"])
    with pytest.raises(ShapeError, match=r"\[viz.images\] an image of shape \(2, 5, 5\)"):
        viz.images(np.zeros((1, 2, 5, 5)))


def test_confusion(tmp_path):
    figure = viz.confusion(pydl.tensor([[8, 2], [0, 30]]), ["cat", "dog"])
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0, 1]])
    assert sorted(t.get_text() for t in axes.texts) == ["100", "20", "80"]
    assert axes.get_title(loc="left") == "correct: 95.0% of 40"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    counts = viz.confusion([[8, 2], [0, 30]], normalize=False).axes[0]
    assert sorted(t.get_text() for t in counts.texts) == ["2", "30", "8"]
    viz.confusion(np.zeros((3, 3)), path=tmp_path / "empty.png")
    with pytest.raises(ShapeError, match=r"must be \(K, K\), got \(2, 3\)"):
        viz.confusion(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="3 names for 2 classes"):
        viz.confusion(np.eye(2), ["a", "b", "c"])


def test_weights(tmp_path):
    layer = nn.Conv2d(1, 6, 5)
    image = viz.weights(layer.weight, title="c1").axes[0].images[0]
    limit = float(np.abs(layer.weight.data).max())
    assert image.get_clim() == pytest.approx((-limit, limit))
    values = image.get_array()
    assert set(np.unique(values[~np.isnan(values)])) == set(np.unique(layer.weight.data))
    colours = viz.weights(np.random.default_rng(0).normal(size=(8, 3, 3, 3))).axes[0].images[0].get_array()
    assert colours.shape[-1] == 3
    assert 0 <= colours.min() <= colours.max() <= 1
    for shape in ((16, 6, 5, 5), (10, 784), (4, 3, 7)):
        assert imread(viz.weights(np.random.default_rng(1).normal(size=shape), tmp_path / "w.png")).std() > 0.01
    with pytest.raises(ShapeError, match=r"got \(10, 5\)"):
        viz.weights(np.zeros((10, 5)))


def test_decision_boundary_is_where_the_score_changes_sign():
    X, y = np.array([[0, 0], [2, 2], [1, 0], [2, 1]], np.float32), np.array([0, 1, 0, 1])
    figure = viz.decision_boundary(lambda p: p[:, 0] + p[:, 1] - 2, X, y, names=["low", "high"])
    axes = figure.axes[0]
    line = np.concatenate([p.vertices for c in axes.collections for p in c.get_paths() if c.get_linewidth()[0] == 1.2])
    assert len(line) > 20
    np.testing.assert_allclose(line.sum(axis=1), 2, atol=1e-4)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["low", "high"]


@pytest.mark.parametrize("answer", [
    lambda p: (p[:, 0] > 1).astype(int), lambda p: p[:, 0] > 1, lambda p: p[:, :1] - 1,
    lambda p: np.stack([1 - p[:, 0], p[:, 0] - 1], 1),
])  # fmt: skip
def test_all_kinds_of_scores_give_the_same_regions(answer, tmp_path):
    from pydl.viz.plots import _margins

    mesh = np.random.default_rng(0).random((50, 2)) * 2
    margins = _margins(np.asarray(answer(mesh)), 0.0, 2, 50)
    np.testing.assert_array_equal(margins.argmax(axis=0), mesh[:, 0] > 1)
    assert ((margins > 0).sum(axis=0) == 1).all()
    viz.decision_boundary(answer, mesh, mesh[:, 0] > 1, tmp_path / "d.png")


def test_decision_boundary_of_a_module_keeps_its_mode():
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    model[1].eval()
    viz.decision_boundary(model, pydl.randn(20, 2), pydl.tensor([0, 1, 2, 0] * 5))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_wrong_decision_boundaries():
    X, y = np.zeros((4, 2)), np.array([0, 1, 2, 0])
    with pytest.raises(ShapeError, match=r"X must be \(N, 2\)"):
        viz.decision_boundary(lambda p: p[:, 0], np.zeros((4, 3)), y)
    with pytest.raises(ShapeError, match=r"the model made \(3,\)"):
        viz.decision_boundary(lambda p: p[:3, 0], X, y)
    with pytest.raises(ShapeError, match="scores 2 classes, y has 3"):
        viz.decision_boundary(lambda p: p, X, y)
    with pytest.raises(ArgumentError, match="2 names for 3 classes"):
        viz.decision_boundary(lambda p: p @ np.ones((2, 3)), X, y, names=["a", "b"])


def test_without_matplotlib_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"viz\.curves needs matplotlib.*pip install 'pydl\[plot\]'"):
        viz.curves({"loss": [1.0]})


def test_no_window_and_no_global_state(tmp_path):
    code = (
        "import sys, numpy as np\nfrom pydl import viz\nassert 'matplotlib' not in sys.modules\n"
        "viz.confusion(np.eye(2), path=sys.argv[1])\nassert 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib\nassert matplotlib.rcParams['axes.spines.top']\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.png")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.png").stat().st_size > 1000
