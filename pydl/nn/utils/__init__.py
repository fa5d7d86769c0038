"""Gradient clipping, reparametrised weights, parameters as a vector, and sequences of unequal lengths (`rnn`)."""

from pydl.nn.utils import rnn
from pydl.nn.utils.clip_grad import *
from pydl.nn.utils.convert_parameters import *
from pydl.nn.utils.reparametrized import *
