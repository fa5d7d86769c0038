"""Automatic differentiation: the public names of `pydl.graph`."""

from pydl.autograd import functional
from pydl.graph import (
    Function,
    backward,
    detect_anomaly,
    enable_grad,
    grad,
    gradcheck,
    inference_mode,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)

__all__ = [
    "Function", "backward", "detect_anomaly", "enable_grad", "functional", "grad", "gradcheck", "inference_mode", "no_grad",
    "set_detect_anomaly", "set_grad_enabled",
]
