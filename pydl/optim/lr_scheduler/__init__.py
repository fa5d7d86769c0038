"""Learning-rate schedules with PyTorch's names, arguments and numbers."""

from pydl.optim.lr_scheduler.base import LRScheduler
from pydl.optim.lr_scheduler.combine import ChainedScheduler, ReduceLROnPlateau, SequentialLR
from pydl.optim.lr_scheduler.cycle import CyclicLR, OneCycleLR
from pydl.optim.lr_scheduler.formula import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    NoamLR,
    PolynomialLR,
    StepLR,
    WarmupCosine,
)

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "NoamLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR", "WarmupCosine",
]
