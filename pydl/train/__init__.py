"""Training: the trainer, checkpoints, callbacks and history."""

from pydl.train.callbacks import BestModel, Callback, TensorBoard
from pydl.train.checkpoint import Checkpoints, latest, load, load_checkpoint, save, save_checkpoint
from pydl.train.early_stopping import Best, EarlyStopping
from pydl.train.history import History
from pydl.train.storage import CheckpointError
from pydl.train.trainer import Trainer

__all__ = [
    "Best", "BestModel", "Callback", "CheckpointError", "Checkpoints", "EarlyStopping", "History", "TensorBoard", "Trainer",
    "latest", "load", "load_checkpoint", "save", "save_checkpoint",
]
