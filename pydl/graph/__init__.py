"""The define-by-run graph: tensors record the operations that made them, backward walks the record."""

from pydl.graph.backward import backward, grad
from pydl.graph.engine import TensorCore, apply, is_grad_enabled, is_inference_mode_enabled, wrap
from pydl.graph.function import Function, checkpoint
from pydl.graph.gradcheck import gradcheck
from pydl.graph.modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    no_grad,
    observe,
    set_detect_anomaly,
    set_grad_enabled,
)
from pydl.graph.op import Cost, Op, SlidingWindow
from pydl.graph.precision import autocast, get_float32_matmul_precision, set_float32_matmul_precision

__all__ = [
    "Cost", "Function", "Op", "TensorCore", "SlidingWindow", "apply", "autocast", "backward", "checkpoint", "detect_anomaly",
    "enable_grad", "get_float32_matmul_precision", "grad", "gradcheck", "inference_mode", "is_grad_enabled",
    "is_inference_mode_enabled", "no_grad", "observe", "set_detect_anomaly", "set_float32_matmul_precision", "set_grad_enabled",
    "wrap",
]
