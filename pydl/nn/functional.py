"""The functional twins of the layers: ``import pydl.nn.functional as F``."""

from pydl.ops import *
