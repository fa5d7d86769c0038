"""Data sets that worker processes import: a module of its own, so that they need not import pytest."""

import os
import random
import signal
import sys
import time

import numpy as np

import pydl
from pydl.data import Dataset, IterableDataset, get_worker_info, sample_generator


class Squares(Dataset):
    """(i, i * i) as a tensor, an array, a number and a text; with noise from the sample's generator."""

    def __init__(self, n, noise=False):
        self.n, self.noise = n, noise

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        x = np.array([i, i * i], np.float32)
        if self.noise:
            x[1] = sample_generator().random() + sample_generator().random()
        return {"x": pydl.from_numpy(x), "i": i, "name": f"n{i}", "half": i / 2}


class GlobalNoise(Dataset):
    """Draws from the global generators, as careless transforms do."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return np.array([np.random.random(), random.random(), float(pydl.rand(1).item())])  # noqa: NPY002


class Faulty(Dataset):
    """Sample 5 fails in a way that the argument says."""

    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 8

    def __getitem__(self, i):
        if i == 5:
            if self.how == "raise":
                raise KeyError("no picture of sample five")
            if self.how == "leave":
                sys.exit(3)
            if self.how == "odd":
                raise OddError(1, 2)
            if self.how == "shape":
                return np.zeros((3, 2), np.float32)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                os._exit(3)
            if self.how == "hang":
                time.sleep(30)
        return np.zeros((2, 2), np.float32)


class OddError(Exception):
    """Cannot be unpickled: its arguments are not those it was made with."""

    def __init__(self, a, b):
        super().__init__(f"odd {a + b}")


class Counting(IterableDataset):
    def __init__(self, n, noise=False):
        self.n, self.noise = n, noise

    def __iter__(self):
        for i in range(self.n):
            yield np.float32(i), (sample_generator().random() if self.noise else 0.0)


class BrokenStream(IterableDataset):
    def __iter__(self):
        yield 1
        raise ValueError("the stream broke")


class Unloadable:
    """Can be pickled, but not unpickled in another process."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return i

    def __reduce__(self):
        return fail_elsewhere, (os.getpid(),)


def fail_elsewhere(pid):
    if pid != os.getpid():
        raise RuntimeError("this worker cannot load the data set")
    return Unloadable()


def fail_start(worker):
    raise OSError(f"worker {worker} has no disk")


def worker_of(samples):
    """A collate_fn that tells where it ran."""
    info = get_worker_info()
    return os.getpid(), info and info.id, [s["i"] for s in samples]


def mix(samples):
    """A collate_fn that draws random numbers for the batch."""
    return sample_generator().random(), [s["i"] for s in samples]


if __name__ == "__main__":  # run as a script by a test: no guard around the loader, or a parent that is killed
    from pydl.data import DataLoader

    loader = DataLoader(Squares(64), batch_size=2, num_workers=2, collate_fn=worker_of)
    for pid, _, _ in loader:
        print(pid, flush=True)
        if sys.argv[1:] == ["linger"]:
            time.sleep(0.02)
    if sys.argv[1:] == ["linger"]:
        time.sleep(60)
