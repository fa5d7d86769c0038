"""Training: the trainer, checkpoints, callbacks and history."""

from pydl.train.callbacks import BestModel, Callback, TensorBoard
from pydl.train.checkpoint import Checkpoints, latest, load, load_checkpoint, save, save_checkpoint
from pydl.train.diagnosis import (
    CurvePoint,
    Reading,
    Trial,
    error_rate,
    gradient_norms,
    grid_search,
    learning_curve,
    read_errors,
    trials_table,
    validation_curve,
)
from pydl.train.early_stopping import Best, EarlyStopping
from pydl.train.ensemble import average_predictions
from pydl.train.history import History
from pydl.train.loss_surface import filter_normalised_directions, loss_surface
from pydl.train.storage import CheckpointError
from pydl.train.trainer import Trainer

__all__ = [
    "Best", "BestModel", "Callback", "CheckpointError", "Checkpoints", "CurvePoint", "EarlyStopping", "History", "Reading",
    "TensorBoard", "Trainer", "Trial", "average_predictions", "error_rate", "filter_normalised_directions", "gradient_norms",
    "grid_search", "latest", "learning_curve", "load", "load_checkpoint", "loss_surface", "read_errors", "save",
    "save_checkpoint", "trials_table", "validation_curve",
]
