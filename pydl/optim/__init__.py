"""Optimizers and learning-rate schedules with PyTorch's names, defaults and numerics."""

from pydl.optim import lr_scheduler, swa_utils
from pydl.optim.composed import ASGD, Adadelta, Adamax, NAdam, RAdam, Rprop
from pydl.optim.lbfgs import LBFGS
from pydl.optim.optimizer import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from pydl.optim.proximal import fista, ista, soft_threshold
from pydl.optim.sparse import SparseAdam

__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "Optimizer", "RAdam", "RMSprop", "Rprop",
    "SparseAdam", "fista", "ista", "lr_scheduler", "soft_threshold", "swa_utils",
]
