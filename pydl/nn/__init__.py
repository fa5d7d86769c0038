"""Layers, containers, losses and initialisers with PyTorch's names: one file a family, its `__all__` is public here."""

from pydl.nn import functional, init, utils
from pydl.nn.activation import *
from pydl.nn.attention import *
from pydl.nn.containers import *
from pydl.nn.conv import *
from pydl.nn.dropout import *
from pydl.nn.embedding import *
from pydl.nn.functional_modules import *
from pydl.nn.fusion import *
from pydl.nn.lazy import *
from pydl.nn.linear import *
from pydl.nn.local import *
from pydl.nn.module import *
from pydl.nn.norm import *
from pydl.nn.padding import *
from pydl.nn.pool import *
from pydl.nn.positional import *
from pydl.nn.resample import *
from pydl.nn.rnn import *
from pydl.nn.row_embedding import *
from pydl.nn.transformer import *
