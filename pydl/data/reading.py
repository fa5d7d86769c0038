"""Reading one batch: the part of a `DataLoader` that runs in the caller or in any worker, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from pydl.data import context
from pydl.data.collate import collate, default_convert
from pydl.data.dataset import batch_reader
from pydl.graph.engine import wrap

__all__ = ["END", "MapReader", "StreamReader", "Task", "annotate", "make_reader"]

END = object()  # what a stream gives after its last batch


class Task(NamedTuple):
    """One batch to be read."""

    run: int  # which iteration over the loader it belongs to
    epoch: int
    number: int  # of the batch in the epoch
    indices: Any  # of the samples; None for streams
    repeats: list[int] | None  # how often each sample was drawn before in this epoch; None: never


class _Reader:
    """`where` tells what is being read, for messages about errors."""

    where = ""

    def __init__(self, dataset: Any, collate_fn: Callable[[Any], Any] | None, seed: int) -> None:
        self.dataset, self.collate_fn, self.seed = dataset, collate_fn, seed

    def join(self, samples: Any, indices: Any, task: Task) -> Any:
        if self.collate_fn is None:
            return collate(samples, indices)
        self.where = f"collating batch {task.number} of epoch {task.epoch}"
        context.enter(self.seed, context.BATCH, task.epoch, task.number)
        try:
            return self.collate_fn(samples)
        finally:
            context.leave()


class MapReader(_Reader):
    """Samples by number. The reader may be shared by threads: what changes is passed as arguments."""

    def __init__(self, dataset: Any, collate_fn: Any, seed: int, batched: bool) -> None:
        super().__init__(dataset, collate_fn, seed)
        self.batched = batched
        self.take = batch_reader(dataset) if batched and collate_fn is None else None

    def read(self, task: Task) -> Any:
        if self.take is not None:
            return tuple(wrap(a) for a in self.take(np.asarray(task.indices, np.int64)))
        if not self.batched:
            sample = self._sample(task.indices, task, 0)
            return default_convert(sample) if self.collate_fn is None else self.join(sample, None, task)
        indices = task.indices.tolist() if isinstance(task.indices, np.ndarray) else task.indices
        return self.join([self._sample(index, task, i) for i, index in enumerate(indices)], indices, task)

    def _sample(self, index: Any, task: Task, i: int) -> Any:
        self.where = f"reading the sample of dataset index {index}"
        context.enter(self.seed, context.SAMPLE, task.epoch, index, task.repeats[i] if task.repeats else 0)
        try:
            return self.dataset[index]
        except Exception as error:
            annotate(error, f"at dataset index {index}, batch {task.number} of epoch {task.epoch}")
            raise
        finally:
            context.leave()


class StreamReader(_Reader):
    """Samples one after the other. `pull` must not run twice at a time; `join` may."""

    def __init__(self, dataset: Any, collate_fn: Any, seed: int, batch_size: int | None, drop_last: bool) -> None:
        super().__init__(dataset, collate_fn, seed)
        self.batch_size, self.drop_last = batch_size, drop_last
        self.run, self.number, self.position = -1, 0, 0
        self.stream: Iterator[Any] = iter(())

    def read(self, task: Task) -> Any:
        """The batch, or END after the last one."""
        samples = self.pull(task)
        return END if samples is None else self.finish(samples, task)

    def pull(self, task: Task) -> list[Any] | None:
        """The samples of the task's batch, those of batches before it passed over; None after the end."""
        if task.run != self.run:
            self.run, self.number, self.position, self.stream = task.run, 0, 0, iter(self.dataset)
        size = self.batch_size or 1
        while True:
            samples: list[Any] = []
            while len(samples) < size and self._next(samples, task.epoch):
                pass
            if not samples or (len(samples) < size and self.drop_last):
                return None
            self.number += 1
            if self.number > task.number:
                return samples

    def finish(self, samples: list[Any], task: Task) -> Any:
        if self.batch_size is None:
            return default_convert(samples[0]) if self.collate_fn is None else self.join(samples[0], None, task)
        start = task.number * self.batch_size
        return self.join(samples, range(start, start + len(samples)), task)

    def _next(self, samples: list[Any], epoch: int) -> bool:
        self.where = f"reading sample {self.position} of the stream"
        context.enter(self.seed, context.SAMPLE, epoch, self.position)
        try:
            samples.append(next(self.stream))
        except StopIteration:
            return False
        except Exception as error:
            annotate(error, f"at sample {self.position} of the stream, epoch {epoch}")
            raise
        finally:
            context.leave()
        self.position += 1
        return True


def annotate(error: BaseException, text: str) -> None:
    """Add a line below the error's message (Python 3.11; older ones show it for workers only)."""
    if hasattr(error, "add_note"):
        error.add_note(text)


def make_reader(
    dataset: Any, collate_fn: Any, seed: int, batch_size: int | None, drop_last: bool, stream: bool, batched: bool
) -> MapReader | StreamReader:
    """The reader for these arguments of a loader."""
    if stream:
        return StreamReader(dataset, collate_fn, seed, batch_size, drop_last)
    return MapReader(dataset, collate_fn, seed, batched)
