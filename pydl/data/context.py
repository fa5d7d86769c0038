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
    placed = False  # whether the generator is at the key
    worker: WorkerInfo | None = None

    def __init__(self) -> None:
        # One generator a thread, moved to the place of each sample: making a new one takes ten times as long.
        self.bits = np.random.Philox(key=0)
        self.generator = np.random.Generator(self.bits)
        self.nothing = np.zeros(4, np.uint64)


_local = _Local()


def enter(seed: int, stream: int, epoch: int, index: Any, repeat: int = 0) -> None:
    """From here on `sample_generator` gives the numbers of this sample (or batch)."""
    _local.key, _local.placed = (seed, stream, epoch, index, repeat), False


def leave() -> None:
    _local.key = None


def sample_generator() -> np.random.Generator:
    """The random generator for the sample that is being read: use it in `__getitem__` and in transforms.

    Its numbers depend on the loader's seed, the epoch and the sample's index alone: not on the worker, the number of
    workers, the order, or what was read before. Calls within one sample return the same generator, so several transforms
    draw different numbers. A sample that a sampler draws twice in an epoch gets other numbers the second time. In
    `collate_fn` it belongs to the batch (for mixup and the like). Ask for it each time; one that is kept goes on with the
    numbers of whatever is being read. Outside of a loader it continues pydl's default generator.
    """
    if _local.key is None:
        from pydl.random import default_generator

        return default_generator.numpy()
    if not _local.placed:
        seed, stream, epoch, index, repeat = _local.key
        if not isinstance(index, int | np.integer):  # keys of a sampler of one's own
            index = zlib.crc32(repr(index).encode())
        place: Any = {
            "counter": np.array([0, repeat, int(index) & _WORD, epoch], np.uint64),
            "key": np.array([seed, stream], np.uint64),
        }
        _local.bits.state = {
            "bit_generator": "Philox", "state": place, "buffer": _local.nothing, "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        _local.placed = True
    return _local.generator


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a `DataLoader`: its id, the number of workers, the loader's seed, the data set; None elsewhere."""
    return _local.worker


def set_worker_info(info: WorkerInfo) -> None:
    _local.worker = info
