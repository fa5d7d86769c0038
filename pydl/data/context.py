"""What the code that reads a sample can ask for: random numbers of this very sample, and which worker it runs in."""

from __future__ import annotations

import threading
import zlib
from typing import Any, NamedTuple

import numpy as np

__all__ = ["WorkerInfo", "enter", "get_worker_info", "leave", "sample_generator", "set_worker_info"]

SAMPLE, BATCH = 1, 2  # separate streams of random numbers; 0 is the samplers'
_WORD = 2**64 - 1


class WorkerInfo(NamedTuple):
    """The worker that the calling code runs in."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Local(threading.local):
    key: tuple[Any, ...] | None = None  # seed, stream, epoch, index, repeat
    generator: np.random.Generator | None = None
    worker: WorkerInfo | None = None


_local = _Local()


def enter(seed: int, stream: int, epoch: int, index: Any, repeat: int = 0) -> None:
    """From here on `sample_generator` gives the numbers of this sample (or batch)."""
    _local.key, _local.generator = (seed, stream, epoch, index, repeat), None


def leave() -> None:
    _local.key = _local.generator = None


def sample_generator() -> np.random.Generator:
    """The random generator for the sample that is being read: use it in `__getitem__` and in transforms.

    Its numbers depend on the loader's seed, the epoch and the sample's index alone: not on the worker, the number of
    workers, the order, or what was read before. Calls within one sample return the same generator, so several transforms
    draw different numbers. A sample that a sampler draws twice in an epoch gets other numbers the second time. In
    `collate_fn` it belongs to the batch (for mixup and the like). Outside of a loader it continues pydl's default generator.
    """
    if _local.key is None:
        from pydl.random import default_generator

        return default_generator.numpy()
    if _local.generator is None:
        seed, stream, epoch, index, repeat = _local.key
        if not isinstance(index, int | np.integer):  # keys of a sampler of one's own
            index = zlib.crc32(repr(index).encode())
        counter = np.array([0, repeat, int(index) & _WORD, epoch], np.uint64)
        _local.generator = np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64), counter=counter))
    return _local.generator


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a `DataLoader`: its id, the number of workers, the loader's seed, the data set; None elsewhere."""
    return _local.worker


def set_worker_info(info: WorkerInfo) -> None:
    _local.worker = info
