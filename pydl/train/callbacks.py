"""What can be hooked into training: `Callback`, and those that come with pydl."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydl.errors import MissingExtraError
from pydl.train.checkpoint import save
from pydl.train.early_stopping import Best
from pydl.train.storage import Path_

if TYPE_CHECKING:
    from pydl.train.trainer import Trainer

__all__ = ["BestModel", "Callback", "TensorBoard"]


class Callback:
    """Base: override what is needed. `trainer` gives model, optimizer, step, epoch, history; `trainer.stop()` ends it.

    A callback with memory of its own returns it from `state_dict`: it is saved in checkpoints and given back to
    `load_state_dict` when a run is resumed.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step of this fit, after a checkpoint was loaded."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before an epoch; also before the rest of an epoch that was interrupted."""

    def on_step_end(self, trainer: Trainer, loss: float) -> None:
        """After each step of the optimizer; `loss` is the mean over its samples."""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """After validation; what is added to `row` enters the history."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When fit ends, interrupted or not, but not after an error."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class BestModel(Callback):
    """Saves the model's state whenever the watched figure is the best so far, by default as ``best.safetensors``."""

    def __init__(
        self, monitor: str = "valid_loss", mode: str = "min", path: Path_ | None = None, min_delta: float = 0.0
    ) -> None:
        self.best = Best(monitor, mode, min_delta)
        self.path = None if path is None else Path(path)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        if self.best.update(row):
            save(trainer.model.state_dict(), self.path or trainer.out / "best.safetensors")

    def state_dict(self) -> dict[str, Any]:
        return self.best.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best.load_state_dict(state)


class TensorBoard(Callback):
    """Writes the loss of every step and each epoch's row as TensorBoard event files.

    Parameters
    ----------
    folder : path, optional
        Default: ``tensorboard`` in the trainer's output folder.
    every : int
        Write the loss of each n-th step.

    Raises
    ------
    MissingExtraError
        If tensorboardX is not installed (``pip install pydl[tensorboard]``).
    """

    def __init__(self, folder: Path_ | None = None, every: int = 1) -> None:
        try:
            import tensorboardX
        except ImportError:
            raise MissingExtraError("TensorBoard needs tensorboardX: pip install 'pydl[tensorboard]'") from None
        self._module, self.folder, self.every = tensorboardX, folder, every
        self.writer: Any = None

    def on_fit_start(self, trainer: Trainer) -> None:
        folder = self.folder or trainer.out / "tensorboard"
        # purge_step hides what an interrupted run had written after the step that this one continues from.
        self.writer = self._module.SummaryWriter(str(folder), purge_step=trainer.step if trainer.step else None)

    def on_step_end(self, trainer: Trainer, loss: float) -> None:
        if trainer.step % self.every == 0:
            self.writer.add_scalar("step/train_loss", loss, trainer.step)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name not in ("epoch", "step") and isinstance(value, int | float):
                self.writer.add_scalar(f"epoch/{name}", value, trainer.step)

    def on_fit_end(self, trainer: Trainer) -> None:
        self.writer.close()
