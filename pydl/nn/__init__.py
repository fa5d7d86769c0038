"""Layers, containers, losses and initialisers with PyTorch's names."""

from pydl.nn import init
from pydl.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from pydl.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from pydl.nn.functional_modules import MODULES as _MODULES
from pydl.nn.linear import Flatten, Identity, Linear, Unflatten
from pydl.nn.module import Module, Parameter
from pydl.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LocalResponseNorm,
    RMSNorm,
)
from pydl.nn.pool import *
from pydl.nn.pool import __all__ as _POOL

globals().update(_MODULES)

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d",
    "LayerNorm", "LocalResponseNorm", "RMSNorm",
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Flatten", "Identity", "Linear",
    "Module", "ModuleDict", "ModuleList", "Parameter", "ParameterDict", "ParameterList", "Sequential", "Unflatten", "init",
    *_MODULES,
    *_POOL,
]
