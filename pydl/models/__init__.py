
from pydl.models.lenet import LeNet5
from pydl.models.mlp import MLP
from pydl.models.mnist1d import MNIST1DConv, MNIST1DDense
from pydl.models.registry import Entry, create, entry, list, register

__all__ = ["Entry", "LeNet5", "MLP", "MNIST1DConv", "MNIST1DDense", "create", "entry", "list", "register"]
