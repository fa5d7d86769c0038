"""`Trainer`: the loop of epochs and steps, with validation, history, checkpoints and a clean way out."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydl import random as pydl_random
from pydl.errors import ArgumentError, NonFiniteError, PydlError
from pydl.graph.engine import TensorCore
from pydl.graph.modes import no_grad
from pydl.train import progress as _progress
from pydl.train.callbacks import Callback
from pydl.train.checkpoint import CheckpointError, Checkpoints, load, save
from pydl.train.early_stopping import EarlyStopping
from pydl.train.history import History
from pydl.train.state import LoaderPosition, load_metric_state, load_rng_state, metric_state, rng_state
from pydl.train.storage import Path_

__all__ = ["Trainer"]


class Trainer:
    """Trains a model and leaves everything needed to look at the run, or to go on with it, in one folder.

    A batch is a tuple or list (input, target), or (input, input, ..., target) for a model with several; a batch that is
    one tensor is its own target (autoencoders). For anything else override `forward`.

    Parameters
    ----------
    model, optimizer
        The module and the optimizer over its parameters.
    loss : callable
        ``loss(output, target)``, the mean over the batch.
    metrics : dict of name -> metric
        Streaming metrics with ``update(output, target)``, ``compute()`` and ``reset()``; they appear in the history as
        ``train_<name>`` and ``valid_<name>``.
    scheduler
        A learning-rate schedule; stepped after each epoch (one that takes a figure, such as ReduceLROnPlateau, gets the
        validation loss, or the training loss without a valid_loader), or after each step with `scheduler_per_step`.
    callbacks : sequence of Callback
    out : path
        Folder for ``checkpoints/``, ``history.csv``, ``history.png``, ``best.safetensors``.
    checkpoint_every : int, optional
        Also write a checkpoint every so many steps.
    checkpoint_epochs : int
        Write history and checkpoint after every so many epochs, and after the last one. Each is flushed to the disk: where
        an epoch takes a millisecond, choose a large number.
    keep : int
        How many checkpoints to keep.
    grad_clip : float, optional
        Largest norm of all gradients together.
    accumulate : int
        Add up the gradients of so many batches for one step; they are weighted by their sizes, as one large batch is.
    early_stopping : EarlyStopping, optional
    progress : bool
        Show a bar on a terminal, a line an epoch elsewhere.
    seed : int, optional
        Seeds pydl's generator when training starts anew (for dropout and the like; the model is initialised already).
    plot : bool
        Draw ``history.png`` at the end, if matplotlib is installed.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss: Callable[[Any, Any], Any],
        metrics: Mapping[str, Any] | None = None,
        scheduler: Any = None,
        callbacks: Sequence[Callback] = (),
        out: Path_ = "out",
        checkpoint_every: int | None = None,
        keep: int = 3,
        grad_clip: float | None = None,
        accumulate: int = 1,
        early_stopping: EarlyStopping | None = None,
        progress: bool = True,
        seed: int | None = None,
        *,
        checkpoint_epochs: int = 1,
        scheduler_per_step: bool = False,
        plot: bool = True,
    ) -> None:
        _require_positive(
            checkpoint_every=checkpoint_every, checkpoint_epochs=checkpoint_epochs, grad_clip=grad_clip, accumulate=accumulate
        )
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.metrics, self.scheduler, self.callbacks = dict(metrics or {}), scheduler, list(callbacks)
        self.out, self.checkpoint_every, self.checkpoint_epochs = Path(out), checkpoint_every, checkpoint_epochs
        self.checkpoints = Checkpoints(self.out / "checkpoints", keep)
        self.grad_clip, self.accumulate, self.early_stopping = grad_clip, accumulate, early_stopping
        self.show_progress, self.seed, self.scheduler_per_step, self.plot = progress, seed, scheduler_per_step, plot
        self._takes_figure = scheduler is not None and "metrics" in inspect.signature(scheduler.step).parameters
        if scheduler_per_step and self._takes_figure:
            raise ArgumentError("Trainer: a schedule that watches a figure is stepped once an epoch, not per step")
        self._progress: _progress.Silent = _progress.Silent()
        self.interrupted = False
        self._start_anew()

    def _start_anew(self) -> None:
        self.epoch = 0  # epochs that are over
        self.batch = 0  # batches done in the running epoch
        self.step = 0  # steps of the optimizer in all
        self.history = History()
        self._in_validation = False  # all batches of the epoch are done, its row is not complete
        self._loss_sum, self._samples = 0.0, 0
        self._loader_state: Any = None  # where to start in the middle of an epoch
        self._loaded_step = -1  # of the checkpoint that this run continues
        self._stop = False

    # ------------------------------------------------------------------ public
    def fit(
        self,
        train_loader: Iterable[Any],
        valid_loader: Iterable[Any] | None = None,
        epochs: int = 1,
        resume: str | os.PathLike[str] | bool = False,
        fallback: bool = False,
    ) -> History:
        """Train until `epochs` epochs are over in all.

        Parameters
        ----------
        resume : "auto", path, True or False
            "auto" or True goes on from the newest checkpoint in `out`, if there is one; a path names one; False starts
            anew, and the first checkpoint then replaces those of an older run. A resumed run ends with the same bits
            as one that was never interrupted.
        fallback : bool
            Continue from an older checkpoint if the wanted one is damaged.

        Returns
        -------
        History
            After Ctrl-C, `interrupted` is True: the step was finished and a checkpoint written.

        Raises
        ------
        NonFiniteError
            At a loss, gradient or parameter that is NaN or infinite; no checkpoint is written after it.
        CheckpointError
            If the checkpoint is damaged or does not fit.
        """
        self._progress = _progress.choose(self.show_progress)
        position = LoaderPosition(train_loader)
        self._begin(resume, fallback)
        with self._catch_interrupt(), contextlib.closing(self._progress):
            for callback in self.callbacks:
                callback.on_fit_start(self)
            while self.epoch < epochs and not self._stop and not self.interrupted:
                self._run_epoch(position, valid_loader, epochs)
            for callback in self.callbacks:
                callback.on_fit_end(self)
        self._finish()
        return self.history

    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """The mean loss and the metrics over a loader, in evaluation mode."""
        return self._evaluate(loader, lambda: False)

    def _evaluate(self, batches: Iterable[Any], interrupted: Callable[[], bool]) -> dict[str, Any]:
        total, samples = 0.0, 0
        self._reset_metrics()
        with self._evaluation():
            for batch in batches:
                loss, output, target = self.forward(batch)
                n = _samples(target)
                total, samples = total + float(loss.item()) * n, samples + n
                self._update_metrics(output, target)
                if interrupted():
                    break
        if not samples:
            raise ArgumentError("evaluate: the loader gave no samples")
        return {"loss": total / samples, **self._compute_metrics()}

    def predict(self, loader: Iterable[Any]) -> Any:
        """The model's outputs for all batches, joined along the first axis; targets in the batches are ignored."""
        from pydl.ops import cat

        with self._evaluation():
            outputs = [self.model(*_inputs(batch)) for batch in loader]
        if not outputs:
            raise ArgumentError("predict: the loader gave no batches")
        if isinstance(outputs[0], tuple):
            return tuple(cat(list(part)) for part in zip(*outputs, strict=True))
        return cat(outputs)

    def forward(self, batch: Any) -> tuple[Any, Any, Any]:
        """(loss, output, target) of a batch. Override it for other kinds of batches or losses."""
        output = self.model(*_inputs(batch))
        target = batch if isinstance(batch, TensorCore) else batch[-1]
        return self.loss(output, target), output, target

    def stop(self) -> None:
        """End training after the running epoch (for callbacks)."""
        self._stop = True

    @property
    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    # ------------------------------------------------------------------ start and end
    def _begin(self, resume: str | os.PathLike[str] | bool, fallback: bool) -> None:
        self.interrupted = False
        self._start_anew()
        named = not isinstance(resume, bool) and resume != "auto"
        if resume and (named or self.checkpoints.paths()):
            state, source = self.checkpoints.load(resume if named else None, fallback)  # type: ignore[arg-type]
            self._load(state, source)
            self._progress.note(f"resumed from {source}: epoch {self.epoch + 1}, step {self.step}")
            return
        if self.early_stopping is not None:
            self.early_stopping.reset()
        if self.seed is not None:
            pydl_random.manual_seed(self.seed)

    def _finish(self) -> None:
        if self.interrupted:
            self._progress.note(
                f"stopped after step {self.step} in epoch {self.epoch + 1}, saved as {self.checkpoints.latest()}; "
                "fit(..., resume='auto') goes on from there (examples: --resume)"
            )
            return
        if self.early_stopping is not None and self.early_stopping.restore_best and self.early_stopping.epoch is not None:
            self.model.load_state_dict(load(self.out / "best.safetensors"))
        if self.plot and len(self.history):
            try:
                self.history.plot(self.out / "history.png")
            except ImportError as error:
                self._progress.note(f"no picture of the history: {error}")

    # ------------------------------------------------------------------ epochs
    def _run_epoch(self, position: LoaderPosition, valid_loader: Iterable[Any] | None, epochs: int) -> None:
        started = time.perf_counter()
        self._progress.start(self.epoch + 1, epochs, self.batch, position.length)
        for callback in self.callbacks:
            callback.on_epoch_start(self)
        if not self._in_validation:
            self._train_epoch(position)
        row = None if self.interrupted else self._close_epoch(valid_loader)
        if row is None or self._stop or self.epoch >= epochs or self.epoch % self.checkpoint_epochs == 0:
            self._save(position)
        if row is not None:  # None: interrupted in the middle of the epoch
            self._progress.end(row, time.perf_counter() - started)

    def _train_epoch(self, position: LoaderPosition) -> None:
        if self.batch == 0:
            self._reset_metrics()
            self._loss_sum, self._samples = 0.0, 0
        self.model.train()
        batches = position.start(self.epoch, self.batch, self._loader_state)
        self._loader_state = None
        while group := list(islice(batches, self.accumulate)):
            loss = self._train_step(group)
            self.batch, self.step = self.batch + len(group), self.step + 1
            if self.scheduler_per_step:
                self.scheduler.step()
            self._in_validation = self.batch == position.length
            self._progress.advance(len(group), loss)
            for callback in self.callbacks:
                callback.on_step_end(self, loss)
            if self.interrupted:
                return
            if self.checkpoint_every and self.step % self.checkpoint_every == 0:
                self._save(position)
        if not self._samples:
            raise ArgumentError("fit: the train_loader gave no batches")
        self._in_validation = True

    def _train_step(self, group: list[Any]) -> float:
        """One step of the optimizer over one or more batches; the mean loss."""
        self.optimizer.zero_grad()
        counts = [_samples(batch if isinstance(batch, TensorCore) else batch[-1]) for batch in group]
        total = 0.0
        for batch, n in zip(group, counts, strict=True):
            loss, output, target = self.forward(batch)
            value = float(loss.item())
            if not math.isfinite(value):
                raise self._not_finite(f"the training loss is {value}")
            (loss if len(group) == 1 else loss * (n / sum(counts))).backward()
            total += value * n
            self._update_metrics(output.detach() if isinstance(output, TensorCore) else output, target)
        self._clip()
        self.optimizer.step()
        self._loss_sum, self._samples = self._loss_sum + total, self._samples + sum(counts)
        return total / sum(counts)

    def _clip(self) -> None:
        if self.grad_clip is None:
            return
        from pydl.nn.utils import clip_grad_norm_

        norm = float(clip_grad_norm_(self.model.parameters(), self.grad_clip))
        if not math.isfinite(norm):
            raise self._not_finite(f"the norm of the gradients is {norm}")

    def _close_epoch(self, valid_loader: Iterable[Any] | None) -> dict[str, Any] | None:
        """Validate, complete the row, step schedule and early stopping; None if interrupted meanwhile."""
        before = rng_state(), {k: metric_state(m) for k, m in self.metrics.items()}
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step, "lr": self.learning_rate}
        row["train_loss"] = self._loss_sum / self._samples
        row |= {f"train_{k}": v for k, v in self._compute_metrics().items()}
        if valid_loader is not None:
            batches = LoaderPosition(valid_loader).start(self.epoch, 0, None)
            row |= {f"valid_{k}": v for k, v in self._evaluate(batches, lambda: self.interrupted).items()}
            if self.interrupted:  # go back to before validation: it will be done again
                load_rng_state(before[0])
                for name, metric in self.metrics.items():
                    load_metric_state(metric, before[1][name])
                return None
            if not math.isfinite(row["valid_loss"]):
                raise self._not_finite(f"the validation loss is {row['valid_loss']}")
        for callback in self.callbacks:
            callback.on_epoch_end(self, row)
        self._step_scheduler(row)
        if self.early_stopping is not None and self.early_stopping.update(row):
            save(self.model.state_dict(), self.out / "best.safetensors")
        self._stop = self._stop or (self.early_stopping is not None and self.early_stopping.stopped)
        self.history.append(row)
        self.epoch, self.batch, self._in_validation, self._loader_state = self.epoch + 1, 0, False, None
        return row

    def _step_scheduler(self, row: Mapping[str, Any]) -> None:
        if self.scheduler is None or self.scheduler_per_step:
            return
        if self._takes_figure:
            self.scheduler.step(row.get("valid_loss", row["train_loss"]))
        else:
            self.scheduler.step()

    # ------------------------------------------------------------------ metrics and modes
    def _reset_metrics(self) -> None:
        for metric in self.metrics.values():
            metric.reset()

    def _update_metrics(self, output: Any, target: Any) -> None:
        for metric in self.metrics.values():
            metric.update(output, target)

    def _compute_metrics(self) -> dict[str, Any]:
        return {name: _number(metric.compute()) for name, metric in self.metrics.items()}

    @contextlib.contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Evaluation mode without recording; each part gets its own mode back afterwards."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training

    def _not_finite(self, what: str) -> NonFiniteError:
        good = self.checkpoints.latest()
        return NonFiniteError(
            f"{what} at step {self.step + 1} in epoch {self.epoch + 1} (learning rate {self.learning_rate:g}); nothing was "
            f"saved after it, the last checkpoint is {good or 'none'}. Lower the learning rate, clip gradients "
            "(grad_clip=1.0), or find the operation with pydl.autograd.detect_anomaly()"
        )

    # ------------------------------------------------------------------ checkpoints
    def _save(self, position: LoaderPosition) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.data.size and not math.isfinite(float(abs(parameter.data).max())):
                raise self._not_finite(f"parameter {name} is not finite after the last update")
        for path in self.checkpoints.paths():  # of an older run, or those that were found damaged
            if _step_of(path) > self._loaded_step:
                path.unlink(missing_ok=True)
        self._loaded_step = self.step
        self.checkpoints.save(self._state(position), self.step)
        if len(self.history):
            self.history.save(self.out / "history.csv")

    def _state(self, position: LoaderPosition) -> dict[str, Any]:
        names = ("epoch", "batch", "step", "_in_validation", "_loss_sum", "_samples", "_stop")
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "early_stopping": None if self.early_stopping is None else self.early_stopping.state_dict(),
            "position": {name.lstrip("_"): getattr(self, name) for name in names},
            "loader": position.state() if self.batch else None,
            "rng": rng_state(),
            "metrics": {name: metric_state(m) for name, m in self.metrics.items()},
            "history": self.history.rows,
            "callbacks": [{"type": type(c).__name__, "state": c.state_dict()} for c in self.callbacks],
        }

    def _load(self, state: Mapping[str, Any], source: Path) -> None:
        try:
            self._load_parts(state)
        except (PydlError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{source} does not fit this trainer: {error}; it may be of another run: use another out folder, or "
                "resume=False to start anew"
            ) from error

    def _load_parts(self, state: Mapping[str, Any]) -> None:
        for name, part in (("scheduler", self.scheduler), ("early_stopping", self.early_stopping)):
            if (part is None) != (state[name] is None):
                raise ArgumentError(f"{name} is {'missing here' if part is None else 'missing in the checkpoint'}")
        kinds = [type(c).__name__ for c in self.callbacks]
        if kinds != [c["type"] for c in state["callbacks"]] or set(self.metrics) != set(state["metrics"]):
            raise ArgumentError("it was written with other callbacks or metrics")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.early_stopping is not None:
            self.early_stopping.load_state_dict(state["early_stopping"])
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved["state"])
        for name, metric in self.metrics.items():
            load_metric_state(metric, state["metrics"][name])
        place = state["position"]
        self.epoch, self.batch, self.step = place["epoch"], place["batch"], place["step"]
        self._in_validation, self._stop = place["in_validation"], place["stop"]
        self._loss_sum, self._samples = place["loss_sum"], place["samples"]
        self._loader_state, self._loaded_step = state["loader"], self.step
        self.history = History(state["history"])
        load_rng_state(state["rng"])

    # ------------------------------------------------------------------ Ctrl-C
    @contextlib.contextmanager
    def _catch_interrupt(self) -> Iterator[None]:
        """Ctrl-C ends training after the running step; a second one raises KeyboardInterrupt at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread only
            return

        def handler(number: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once, without saving\n")

        previous = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)


def _require_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ArgumentError(f"Trainer: {name}={value}, expected a positive number")


def _inputs(batch: Any) -> tuple[Any, ...]:
    if isinstance(batch, TensorCore):
        return (batch,)
    if not isinstance(batch, tuple | list) or not batch:
        raise ArgumentError(
            f"Trainer: a batch is a {type(batch).__name__}; expected a tensor or (input, target), or override forward"
        )
    return tuple(batch[:-1]) if len(batch) > 1 else tuple(batch)


def _samples(target: Any) -> int:
    return len(target) if getattr(target, "ndim", 1) else 1


def _number(value: Any) -> Any:
    """A metric's figure as a Python number; one figure per class stays a list."""
    value = getattr(value, "data", value) if isinstance(value, TensorCore) else value
    return value.tolist() if hasattr(value, "tolist") else value


def _step_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
