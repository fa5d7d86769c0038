"""All operations, one file per family. Public functions carry PyTorch's names, argument order and defaults."""

from pydl.ops.activation import *
from pydl.ops.attention import *
from pydl.ops.comparison import *
from pydl.ops.composed import *
from pydl.ops.conv import *
from pydl.ops.convert import *
from pydl.ops.dropout import *
from pydl.ops.einsum import *
from pydl.ops.elementwise import *
from pydl.ops.embedding import *
from pydl.ops.fold import *
from pydl.ops.index import *
from pydl.ops.local import *
from pydl.ops.loss import *
from pydl.ops.matmul import *
from pydl.ops.norm import *
from pydl.ops.pad import *
from pydl.ops.pool import *
from pydl.ops.reduce import *
from pydl.ops.resample import *
from pydl.ops.rnn import *
from pydl.ops.shape import *
from pydl.ops.softmax import *
from pydl.ops.sort import *
