"""What runs in a worker process of a `DataLoader`."""

from __future__ import annotations

import pickle
import random
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl import random as pydl_random
from pydl.data import context, transport
from pydl.data.reading import END, Task, annotate, make_reader

__all__ = ["ErrorReport", "main", "report"]


class ErrorReport(NamedTuple):
    """An exception on its way to the parent: pickled if it can be, and as text."""

    pickled: bytes | None
    error: BaseException | None
    text: str


def report(error: BaseException, where: str, keep: bool = False) -> ErrorReport:
    """Describe an exception of a worker; `keep` hands on the object itself (to another thread)."""
    text = f"{where}\n\n{''.join(traceback.format_exception(type(error), error, error.__traceback__))}"
    if keep:
        return ErrorReport(None, error, text)
    try:
        pickled = transport.dumps(error)
        pickle.loads(pickled)  # exceptions with required arguments pickle, but do not unpickle
    except Exception:
        pickled = None
    return ErrorReport(pickled, None, text)


def main(worker: int, workers: int, payload: bytes, tasks: Connection, results: Connection) -> None:
    """Read tasks until the parent closes its end (or dies)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it may want to finish a step
    _core.set_num_threads(1)
    out = results.fileno()
    try:
        reader, seed, worker_init_fn = _prepare(payload, worker, workers)
        _seed_everything(seed, worker)
        if worker_init_fn is not None:
            worker_init_fn(worker)
    except Exception as error:
        if isinstance(error, AttributeError) and "__main__" in str(error):
            annotate(error, "what was defined in an interactive session is not known to worker processes: put it into a module "
                            "that can be imported, or use worker_type='thread'")  # fmt: skip
        transport.send(out, ("error", -1, -1, report(error, "while starting")))
        return
    try:
        while True:
            task: Task = tasks.recv()
            transport.send(out, _answer(reader, task, seed))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _prepare(payload: bytes, worker: int, workers: int) -> tuple[Any, int, Any]:
    reader_arguments, worker_init_fn = pickle.loads(payload)
    reader = make_reader(*reader_arguments)
    context.set_worker_info(context.WorkerInfo(worker, workers, reader.seed, reader.dataset))
    return reader, reader.seed, worker_init_fn


def _answer(reader: Any, task: Task, seed: int) -> tuple[Any, ...]:
    # Code that draws from the global generators gets the same numbers for a batch in whichever worker it is read.
    _seed_everything(seed, task.epoch, task.number)
    try:
        batch = reader.read(task)
        return ("end", task.run, task.number, None) if batch is END else ("batch", task.run, task.number, batch)
    except Exception as error:
        return "error", task.run, task.number, report(error, f"while {reader.where}")


def _seed_everything(*key: int) -> None:
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    if "numpy.random" in sys.modules:
        np.random.seed(seed)  # noqa: NPY002 (the generator that users' transforms may draw from)
    pydl_random.manual_seed(seed)
