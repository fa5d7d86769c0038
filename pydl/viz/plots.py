"""Pictures by matplotlib (extra ``plot``): curves, image grids, confusion matrices, filters, decision boundaries.

Each function writes the file and returns its path; without a path it returns the matplotlib figure. No window is opened
and matplotlib's global state is left alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.errors import ArgumentError, ShapeError
from pydl.graph import TensorCore, no_grad, wrap

__all__ = ["confusion", "curves", "decision_boundary", "images", "prediction", "weights"]

Path_ = str | os.PathLike[str]

COLOURS = ("#2f6fb7", "#d9722e", "#3b9151", "#b5403f", "#7a5aa8", "#8a6d4b", "#cf6aa8", "#5d6772", "#a9a12c", "#2fa3b5")
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.labelcolor": "#3c4856",
    "axes.edgecolor": "#8a929c", "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "xtick.color": "#3c4856", "ytick.color": "#3c4856", "grid.color": "#e3e6ea", "grid.linewidth": 0.8,
    "legend.frameon": False, "image.interpolation": "nearest",
}  # fmt: skip


@contextmanager
def _style(name: str) -> Iterator[Any]:
    """The module matplotlib.figure, with pydl's style in force until the end of the block."""
    matplotlib = require("matplotlib", "plot", f"viz.{name}")
    figures = require("matplotlib.figure", "plot", f"viz.{name}")
    with matplotlib.rc_context(_STYLE):
        yield figures


def _finish(figure: Any, path: Path_ | None, dpi: int = 144) -> Any:
    if path is None:
        return figure
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def _array(value: Any) -> np.ndarray:
    return value.data if isinstance(value, TensorCore) else np.asarray(value)


def curves(history: Any, path: Path_ | None = None, x: str | None = None, title: str = "") -> Any:
    """Draw series over epochs or steps; those that measure the same (train_loss, valid_loss) share a panel.

    Parameters
    ----------
    history : History, mapping of name to numbers, or sequence of rows
        A `pydl.train.History`; ``{"train_loss": [...], "valid_loss": [...]}``; or one dictionary a row. None and NaN
        leave a gap.
    path : path, optional
        Where to save the picture; its suffix chooses the format.
    x : str, optional
        The series to draw over. Default: "epoch" or "step" if there is one, else 1, 2, 3...
    title : str
        Above the picture.
    """
    series = _series(history)
    if x is None:
        x = next((name for name in ("epoch", "step") if name in series), None)
    elif x not in series:
        raise ArgumentError(f"viz.curves: no series {x!r} to draw over; there are {list(series)}")
    panels: dict[str, list[str]] = {}
    for name in series:
        if name != x:
            panels.setdefault(_metric(name)[1], []).append(name)
    if not panels:
        raise ArgumentError("viz.curves: there is no series of numbers to draw")
    with _style("curves") as figures:
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure = figures.Figure(figsize=(max(6.0, 4.4 * columns), 3.3 * rows), layout="constrained")
        if title:
            figure.suptitle(title, fontweight="bold")
        for i, (metric, names) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, i + 1)
            _panel(axes, metric, {name: series[name] for name in names}, series[x] if x else None)
            axes.set_xlabel(x or "epoch")
        return _finish(figure, path)


def _series(history: Any) -> dict[str, np.ndarray]:
    """Every numeric series as float64 with NaN for what is missing."""
    rows = getattr(history, "rows", history)
    if not isinstance(rows, Mapping):
        rows = [dict(row) for row in rows]
        rows = {name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}
    series = {}
    for name, values in rows.items():
        try:
            series[str(name)] = np.array([np.nan if v is None else float(v) for v in _array(values).tolist()])
        except (TypeError, ValueError):
            continue  # text, such as a time of day
    return series


_PARTS = ("train", "training", "valid", "validation", "val", "test", "dev")


def _metric(name: str) -> tuple[str, str]:
    """("train", "loss") from train_loss, loss/train, train loss; ("", name) where no part of the data is named."""
    words = name.replace("/", "_").replace(" ", "_").replace(",", "_").split("_")
    part = next((w for w in words if w.lower() in _PARTS), "")
    rest = " ".join(w for w in words if w and w != part)
    return (part, rest) if part and rest else ("", name.replace("_", " "))


def _panel(axes: Any, metric: str, series: dict[str, np.ndarray], x: np.ndarray | None) -> None:
    from matplotlib.ticker import MaxNLocator

    for (name, values), colour in zip(series.items(), COLOURS * (1 + len(series) // len(COLOURS)), strict=False):
        at = np.arange(1, len(values) + 1) if x is None else x[: len(values)]
        marker = "o" if np.isfinite(values).sum() <= 12 else None
        axes.plot(at, values, color=colour, linewidth=1.8, marker=marker, markersize=4, label=_metric(name)[0] or metric)
    axes.set_title(metric, loc="left")
    axes.grid(True)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    finite = np.concatenate([v[np.isfinite(v)] for v in series.values()])
    if finite.size and finite.min() > 0 and finite.max() > 200 * finite.min():
        axes.set_yscale("log")
    if len(series) > 1:
        axes.legend()


def images(grid: Any, titles: Sequence[str] | None = None, path: Path_ | None = None, columns: int | None = None) -> Any:
    """Draw images side by side, each with its title.

    Parameters
    ----------
    grid : Tensor, ndarray or sequence of them
        Images (N, H, W), (N, C, H, W) or a list of (H, W), (C, H, W) or (H, W, C), with C of 1, 3 or 4. Grey images share
        one scale from the least to the greatest value; colours are 0 to 1 (or 0 to 255 in uint8) and are cut off there.
    titles : sequence of str, optional
        One for each image.
    path : path, optional
        Where to save the picture.
    columns : int, optional
        Images in a row. Default: about as many as rows.
    """
    pictures = [_picture(_array(image)) for image in grid]
    if not pictures:
        raise ArgumentError("viz.images: there is no image to draw")
    if titles is not None and len(titles) != len(pictures):
        raise ArgumentError(f"viz.images: {len(titles)} titles for {len(pictures)} images")
    columns = min(len(pictures), columns or math.ceil(math.sqrt(len(pictures) * 1.6)))
    rows = -(-len(pictures) // columns)
    grey = [p for p in pictures if p.ndim == 2]
    low, high = (min(p.min() for p in grey), max(p.max() for p in grey)) if grey else (0.0, 1.0)
    shape = pictures[0].shape
    cell = 1.25 if max(shape[:2]) <= 64 else 2.2
    tall = cell * shape[0] / shape[1] + (0.2 if titles is not None else 0.0)
    with _style("images") as figures:
        figure = figures.Figure(figsize=(cell * columns + 0.2, tall * rows + 0.2), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
        for i, picture in enumerate(pictures):
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.imshow(picture, cmap="gray", vmin=low, vmax=high)
            axes.set_axis_off()
            if titles is not None:
                axes.set_title(str(titles[i]), fontsize=8.5, fontweight="normal", pad=3)
        return _finish(figure, path)


def _picture(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3 or 4) as matplotlib takes it."""
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[-1] not in (1, 3, 4):
        image = np.moveaxis(image, 0, -1)
    elif image.ndim == 3 and image.shape[-1] not in (1, 3, 4):
        image = image[..., None] if image.shape[0] == 1 else image
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[-1] in (3, 4)):
        raise ShapeError(f"[viz.images] an image of shape {image.shape}; expected (H, W), (C, H, W) or (H, W, C), C of 1, 3 or 4")
    if image.ndim == 3 and image.dtype != np.uint8:
        image = np.clip(image, 0, 1)
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def prediction(
    image: Any, names: Sequence[str], probabilities: Sequence[float], path: Path_ | None = None, title: str = ""
) -> Any:
    """Draw an image with its likeliest classes as bars beside it.

    Parameters
    ----------
    image : Tensor or ndarray
        As one of `images`.
    names : sequence of str
        The classes, likeliest first.
    probabilities : sequence of float
        One for each, 0 to 1.
    path : path, optional
        Where to save the picture.
    title : str
        Above the bars.
    """
    if len(names) != len(probabilities):
        raise ArgumentError(f"viz.prediction: {len(names)} names for {len(probabilities)} probabilities")
    pixels = _picture(_array(image))
    height = 3.4
    wide = height * float(np.clip(pixels.shape[1] / pixels.shape[0], 0.5, 2.2))
    with _style("prediction") as figures:
        figure = figures.Figure(figsize=(wide + 3.6, height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(wide, 3.4))
        left.imshow(pixels, cmap="gray")
        left.set_axis_off()
        rows = np.arange(len(names))
        right.barh(rows, probabilities, color=[COLOURS[1], *(COLOURS[0] for _ in rows[1:])], height=0.62, alpha=0.55)
        for row, (name, p) in enumerate(zip(names, probabilities, strict=True)):
            right.text(0.01, row, f"{100 * p:.1f} %  {name}", va="center", fontsize=10)
        right.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.6))
        right.set_axis_off()
        right.set_title(title, loc="left")
        return _finish(figure, path)


def confusion(
    matrix: Any, names: Sequence[str] | None = None, path: Path_ | None = None, normalize: bool = True
) -> Any:
    """Draw a confusion matrix: row = true class, column = predicted class, colour = share of the row.

    Parameters
    ----------
    matrix : Tensor or ndarray
        Counts (K, K).
    names : sequence of str, optional
        The classes. Default: 0, 1, 2...
    path : path, optional
        Where to save the picture.
    normalize : bool
        Write percentages of the true class; False writes the counts.
    """
    counts = _array(matrix).astype(np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError(f"[viz.confusion] matrix must be (K, K), got {counts.shape}")
    k = len(counts)
    names = [str(i) for i in range(k)] if names is None else [str(n) for n in names]
    if len(names) != k:
        raise ArgumentError(f"viz.confusion: {len(names)} names for {k} classes")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    with _style("confusion") as figures:
        side = max(3.6, 0.52 * k + 1.4)
        figure = figures.Figure(figsize=(side + 0.9, side), layout="constrained")
        axes = figure.add_subplot()
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        long = max(map(len, names)) > 3
        axes.set_xticks(range(k), names, rotation=45 if long else 0, ha="right" if long else "center", rotation_mode="anchor")
        axes.set_yticks(range(k), names)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title(f"correct: {np.trace(counts) / max(counts.sum(), 1e-12):.1%} of {counts.sum():,.0f}", loc="left")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(k - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(k - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        for (i, j), count in np.ndenumerate(counts) if k <= 30 else ():
            if count:
                text = f"{100 * share[i, j]:.0f}" if normalize else f"{count:g}"
                axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if share[i, j] > 0.55 else "#1d2733")
        bar = figure.colorbar(picture, ax=axes, shrink=0.8, aspect=30, format="{x:.0%}", label="share of the true class")
        bar.outline.set_visible(False)
        return _finish(figure, path)


def weights(filters: Any, path: Path_ | None = None, columns: int | None = None, title: str = "") -> Any:
    """Draw the filters of a layer as small pictures: blue below zero, red above, one scale for all.

    Parameters
    ----------
    filters : Tensor or ndarray
        Convolution weights (O, C, H, W): three channels as colours, one as values, otherwise a row of channels for each
        filter; (O, H, W); or weights of a fully connected layer (O, D) with D a square number.
    path : path, optional
        Where to save the picture.
    columns : int, optional
        Tiles in a row; the default makes the picture about square.
    title : str
        Above the picture.
    """
    w = _array(filters).astype(np.float32)
    if w.ndim == 2 and math.isqrt(w.shape[1]) ** 2 == w.shape[1]:
        w = w.reshape(len(w), math.isqrt(w.shape[1]), -1)
    if w.ndim == 4 and w.shape[1] == 1:
        w = w[:, 0]
    if w.ndim not in (3, 4) or 0 in w.shape:
        raise ShapeError(f"[viz.weights] filters must be (O, C, H, W), (O, H, W) or (O, D) with D a square, got {w.shape}")
    colour = w.ndim == 4 and w.shape[1] == 3
    if w.ndim == 4 and not colour:
        columns = w.shape[1] if columns is None else columns
        w = w.reshape(-1, *w.shape[2:])
    limit = max(float(np.abs(w).max()), 1e-12)
    tiles = np.moveaxis(w, 1, -1) / (2 * limit) + 0.5 if colour else w
    with _style("weights") as figures:
        return _finish(_mosaic(figures, tiles, limit, columns, title), path)


def _mosaic(figures: Any, tiles: np.ndarray, limit: float, columns: int | None, title: str) -> Any:
    """All tiles as one image with narrow gaps: quick for thousands of filters."""
    n, h, w = tiles.shape[:3]
    columns = min(n, columns or math.ceil(math.sqrt(n * h / w)))
    rows = -(-n // columns)
    zoom = max(1, 28 // max(h, w))  # so that the gap is thin beside a small filter
    h, w, gap = h * zoom, w * zoom, 2
    sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, *tiles.shape[3:]), np.nan, np.float32)
    for i, tile in enumerate(tiles):
        y, x = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[y : y + h, x : x + w] = tile.repeat(zoom, 0).repeat(zoom, 1)
    scale = min(7.5 / sheet.shape[1], 8.5 / sheet.shape[0])
    beside, above = 0.15 if tiles.ndim == 4 else 0.9, 0.4 if title else 0.15  # colour bar, title
    size = max(2.2, sheet.shape[1] * scale) + beside, sheet.shape[0] * scale + above
    figure = figures.Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="left")
    if tiles.ndim == 4:
        axes.imshow(np.where(np.isnan(sheet), 1.0, sheet))
        return figure
    bar = figure.colorbar(axes.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit), ax=axes, shrink=0.7, aspect=30)
    bar.outline.set_visible(False)
    return figure


def decision_boundary(
    model: Any, X: Any, y: Any, path: Path_ | None = None, threshold: float = 0.0, names: Sequence[str] | None = None,
    title: str = "",
) -> Any:
    """Draw the regions that a classifier of two features assigns to each class, with the data on top.

    Parameters
    ----------
    model : Module or callable
        From points (M, 2) to scores (M, K), of which the largest wins, or (M,) or (M, 1), class 1 above `threshold`;
        whole numbers (M,) are taken as classes. A Module is given a float32 tensor, a function an ndarray.
    X : Tensor or ndarray
        Data (N, 2).
    y : Tensor or ndarray
        Classes (N,), whole numbers from 0.
    path : path, optional
        Where to save the picture.
    threshold : float
        For one score: 0 for logits, 0.5 for probabilities.
    names : sequence of str, optional
        The classes, for the legend.
    title : str
        Above the picture.
    """
    points, labels = _array(X).astype(np.float32), _array(y).reshape(-1).astype(np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels) or not len(points):
        raise ShapeError(f"[viz.decision_boundary] X must be (N, 2) and y (N,), N at least 1, got {points.shape}, {labels.shape}")
    low, high = points.min(axis=0), points.max(axis=0)
    space = np.where(high > low, 0.12 * (high - low), 1.0)
    u, v = (np.linspace(a, b, 240, dtype=np.float32) for a, b in zip(low - space, high + space, strict=True))
    mesh = np.stack([g.ravel() for g in np.meshgrid(u, v)], axis=1)
    margins = _margins(_scores(model, mesh), threshold, int(labels.max()) + 1, len(mesh)).reshape(-1, len(v), len(u))
    k = len(margins)
    if names is not None and len(names) < k:
        raise ArgumentError(f"viz.decision_boundary: {len(names)} names for {k} classes")
    with _style("decision_boundary") as figures:
        figure = figures.Figure(figsize=(5.6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        colours = [COLOURS[i % len(COLOURS)] for i in range(k)]
        axes.contourf(u, v, margins.argmax(axis=0), levels=np.arange(k + 1) - 0.5, colors=colours, alpha=0.22)
        for margin in margins[1:] if k == 2 else margins:
            if margin.min() < 0 < margin.max():
                axes.contour(u, v, margin, levels=[0], colors="#3c4856", linewidths=1.2)
        for i in np.unique(labels):
            mine = points[labels == i]
            label = names[i] if names is not None else f"class {i}"
            axes.scatter(mine[:, 0], mine[:, 1], s=24, color=colours[i], edgecolor="white", linewidth=0.7, label=label, zorder=3)
        axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(u[0], u[-1]), ylim=(v[0], v[-1]))
        axes.set_title(title, loc="left")
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none", loc="best")
        return _finish(figure, path)


def _scores(model: Callable[[Any], Any], mesh: np.ndarray) -> np.ndarray:
    from pydl.nn.module import Module

    if not isinstance(model, Module):
        return _array(model(mesh))
    modes = [(m, m.training) for m in model.modules()]
    try:
        model.eval()
        with no_grad():
            return _array(model(wrap(mesh)))
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)


def _margins(scores: np.ndarray, threshold: float, classes: int, n: int) -> np.ndarray:
    """(K, M): how far each class is ahead of the best other one; above zero where it wins."""
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.shape[:1] != (n,) or scores.ndim > 2:
        raise ShapeError(f"[viz.decision_boundary] the model made {scores.shape} of ({n}, 2); expected ({n}, K) or ({n},)")
    if scores.ndim == 1 and scores.dtype.kind in "iub":
        scores = np.eye(max(classes, int(scores.max()) + 1))[scores.astype(np.int64)]
    if scores.ndim == 1:
        return np.stack([threshold - scores, scores - threshold])
    if scores.shape[1] < classes:
        raise ShapeError(f"[viz.decision_boundary] the model scores {scores.shape[1]} classes, y has {classes}")
    order = np.sort(scores, axis=1)
    best_other = np.where(scores == order[:, -1:], order[:, -2:-1], order[:, -1:])
    return (scores - best_other).T
