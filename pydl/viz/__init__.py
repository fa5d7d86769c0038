"""Pictures: the computation graph (`graph`), and by matplotlib (extra ``plot``) curves, images, filters, boundaries."""

from pydl.viz.graph import Drawing, graph
from pydl.viz.plots import confusion, curves, decision_boundary, images, prediction, weights

__all__ = ["Drawing", "confusion", "curves", "decision_boundary", "graph", "images", "prediction", "weights"]
