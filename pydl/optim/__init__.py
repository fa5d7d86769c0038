"""Optimizers and learning-rate schedules with PyTorch's names, defaults and numerics."""

from pydl.optim import lr_scheduler
from pydl.optim.optimizer import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from pydl.optim.sparse import SparseAdam

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "SparseAdam", "lr_scheduler"]
