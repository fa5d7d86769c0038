"""Workers of a `DataLoader`, as processes or threads. Both take tasks and answer in any order; the loader sorts."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import queue
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from pydl import _core
from pydl.data import context, transport, worker
from pydl.data.reading import StreamReader, Task, make_reader
from pydl.errors import ArgumentError, PydlError

__all__ = ["Pool", "ProcessPool", "ThreadPool", "WorkerError", "WorkerTimeoutError"]

_GRACE = 1.0  # seconds that workers have to leave by themselves


class WorkerError(PydlError, RuntimeError):
    """A worker of a DataLoader died, or raised an exception that cannot be sent between processes."""


class WorkerTimeoutError(WorkerError, TimeoutError):
    """A worker took longer for a batch than the loader's timeout."""


class WorkerTraceback(Exception):
    """The cause of an exception that a worker raised: where it was raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class Pool:
    """What both kinds share: a queue of answers and the bookkeeping of runs."""

    def __init__(self, workers: int) -> None:
        self.workers, self.run = workers, 0
        self.inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def start_run(self) -> int:
        """Begin an iteration; answers to tasks of earlier ones are thrown away."""
        self.run += 1
        return self.run

    def submit(self, task: Task) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def receive(self, run: int, timeout: float) -> tuple[int, str, Any]:
        """The next answer of this run: (number of the batch, "batch" or "end" or "error", value)."""
        deadline = time.monotonic() + timeout if timeout else None
        while True:
            try:
                kind, its_run, number, value = self.inbox.get(timeout=deadline and max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise WorkerTimeoutError(
                    f"DataLoader: no batch within timeout={timeout:g} s; {self.busy()}"
                ) from None
            self.answered(kind, its_run, number)
            if kind == "dead":
                raise WorkerError(self.obituary(value))
            if its_run in (run, -1):
                return number, kind, value

    def answered(self, kind: str, run: int, number: int) -> None:
        """An answer has come."""

    def busy(self) -> str:
        """What the workers are doing, for messages."""
        return f"{self.workers} worker threads are at work"

    def obituary(self, i: int) -> str:
        """How a worker died, for messages."""
        raise NotImplementedError


def raise_report(found: worker.ErrorReport) -> None:
    """Raise a worker's exception again, its traceback as the cause."""
    if found.error is not None:
        raise found.error
    cause = WorkerTraceback(found.text)
    if found.pickled is not None:
        raise pickle.loads(found.pickled) from cause
    raise WorkerError(f"a worker of a DataLoader raised an exception {found.text}")


def describe(task: Task) -> str:
    """A batch in words."""
    if task.indices is None:
        return f"batch {task.number} of epoch {task.epoch}"
    indices = list(task.indices) if hasattr(task.indices, "__len__") else [task.indices]
    shown = ", ".join(str(i) for i in indices[:8]) + (", ..." if len(indices) > 8 else "")
    return f"batch {task.number} of epoch {task.epoch} (dataset indices {shown})"


# --------------------------------------------------------------------------- processes


class ProcessPool(Pool):
    """Worker processes. They are started by a fork server, which itself is a fresh interpreter that has never run a
    kernel: forking the caller after its threads have started could hang. A thread moves their batches into this
    process while the caller computes."""

    def __init__(self, workers: int, reader_arguments: tuple[Any, ...], worker_init_fn: Callable[[int], None] | None) -> None:
        super().__init__(workers)
        payload = _pickle(reader_arguments, worker_init_fn)
        self.assigned: list[deque[Task]] = [deque() for _ in range(workers)]
        self.processes: list[Any] = []
        self.pipes: list[connection.Connection] = []
        results: list[connection.Connection] = []
        start_context = _context()
        wake, self.wake = start_context.Pipe(duplex=False)
        try:
            for i in range(workers):
                tasks, mine = start_context.Pipe(duplex=False)
                result, theirs = start_context.Pipe(duplex=False)
                self.pipes.append(mine)
                results.append(result)
                process = start_context.Process(
                    target=worker.main, args=(i, workers, payload, tasks, theirs), name=f"pydl-data-{i}", daemon=True
                )
                process.start()
                self.processes.append(process)
                tasks.close()
                theirs.close()
        except BaseException:
            _shut_down(None, self.wake, self.pipes, self.processes)
            raise
        receiver = threading.Thread(target=_receive, args=(results, wake, self.inbox), daemon=True,
                                    name="pydl-data-receiver")  # fmt: skip
        receiver.start()
        self._finalizer = weakref.finalize(self, _shut_down, receiver, self.wake, self.pipes, self.processes)

    def submit(self, task: Task) -> None:
        i = min(range(self.workers), key=lambda i: len(self.assigned[i]))
        self.assigned[i].append(task)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has died: the receiver is about to say so
            self.pipes[i].send(task)

    def answered(self, kind: str, run: int, number: int) -> None:
        for tasks in self.assigned:
            if tasks and (tasks[0].run, tasks[0].number) == (run, number):
                tasks.popleft()

    def busy(self) -> str:
        found = [f"worker {i} at {describe(tasks[0])}" for i, tasks in enumerate(self.assigned) if tasks]
        return ", ".join(found)

    def obituary(self, i: int) -> str:
        process = self.processes[i]
        process.join(_GRACE)
        code = process.exitcode
        how = "ended" if code is None else f"ended with exit status {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        text = f"DataLoader worker {i} (process {process.pid}) {how}"
        if self.assigned[i]:
            text += f" while {describe(self.assigned[i][0])} was its next"
        if code == -signal.SIGKILL:
            return f"{text}; the system kills so when memory runs out: use fewer workers or smaller batches"
        return (
            f"{text}; see its own output above. If it could not start: a script that uses worker processes must do its work "
            "under `if __name__ == '__main__':`, or use worker_type='thread'"
        )

    def close(self) -> None:
        self._finalizer()


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([worker.__name__])  # counts only if the server has not been started yet
    return found


def _pickle(reader_arguments: tuple[Any, ...], worker_init_fn: Any) -> bytes:
    try:
        return transport.dumps((reader_arguments, worker_init_fn))
    except Exception as error:
        parts = {"dataset": reader_arguments[0], "collate_fn": reader_arguments[1], "worker_init_fn": worker_init_fn}
        for name, part in parts.items():
            try:
                transport.dumps(part)
            except Exception:
                raise ArgumentError(
                    f"DataLoader: {name} cannot be sent to worker processes ({type(error).__name__}: {error}); define its "
                    "classes and functions at the top level of a module (no lambda), open files in the worker, or use "
                    "worker_type='thread'"
                ) from error
        raise


def _receive(results: list[connection.Connection], wake: connection.Connection, inbox: Any) -> None:
    """Move answers from the pipes to the queue until the pool closes."""
    open_pipes: dict[Any, int] = {r: i for i, r in enumerate(results)}
    try:
        while True:
            ready = connection.wait([wake, *open_pipes])
            if wake in ready:
                return
            for pipe in [r for r in open_pipes if r in ready]:
                try:
                    inbox.put(transport.receive(pipe.fileno()))
                except (EOFError, OSError):
                    inbox.put(("dead", -1, -1, open_pipes.pop(pipe)))
    except Exception as error:  # never leave the loader waiting for a thread that is gone
        inbox.put(("error", -1, -1, worker.report(error, "while receiving a batch", keep=True)))
    finally:
        for pipe in (*results, wake):
            pipe.close()


def _shut_down(receiver: threading.Thread | None, wake: connection.Connection, pipes: list[Any], processes: list[Any]) -> None:
    """Let the workers leave; end those that do not."""
    for pipe in (wake, *pipes):
        pipe.close()  # the workers see the end of their tasks, the receiver its call to stop
    if receiver is not None and receiver is not threading.current_thread():
        receiver.join(_GRACE)
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
    for end in ("terminate", "kill"):
        for process in processes:
            if process.is_alive():
                getattr(process, end)()
        for process in processes:
            process.join(_GRACE)


# --------------------------------------------------------------------------- threads


class ThreadPool(Pool):
    """Worker threads: nothing is copied or pickled; they run at once where the data set's code releases the GIL."""

    def __init__(self, workers: int, reader_arguments: tuple[Any, ...], worker_init_fn: Callable[[int], None] | None) -> None:
        super().__init__(workers)
        reader = make_reader(*reader_arguments)
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        lock = threading.Lock()
        info = [context.WorkerInfo(i, workers, reader.seed, reader.dataset) for i in range(workers)]
        self.threads = [
            threading.Thread(target=_work, args=(reader, self.tasks, self.inbox, lock, i, worker_init_fn), daemon=True,
                             name=f"pydl-data-{i.id}")
            for i in info
        ]  # fmt: skip
        self._finalizer = weakref.finalize(self, _stop_threads, self.tasks, self.threads)
        for thread in self.threads:
            thread.start()

    def start_run(self) -> int:
        _drain(self.tasks)
        return super().start_run()

    def submit(self, task: Task) -> None:
        self.tasks.put(task)

    def close(self) -> None:
        self._finalizer()


def _work(reader: Any, tasks: Any, inbox: Any, lock: Any, info: context.WorkerInfo, worker_init_fn: Any) -> None:
    _core.set_thread_serial(True)
    context.set_worker_info(info)
    try:
        if worker_init_fn is not None:
            worker_init_fn(info.id)
    except Exception as error:
        inbox.put(("error", -1, -1, worker.report(error, "while starting", keep=True)))
        return
    while (answer := _next_answer(reader, tasks, lock)) is not None:
        inbox.put(answer)


def _next_answer(reader: Any, tasks: Any, lock: Any) -> tuple[Any, ...] | None:
    """Take a task and do it; None when there are to be no more."""
    if not isinstance(reader, StreamReader):
        task = tasks.get()
        return None if task is None else _batch(task, reader.read)
    with lock:  # a stream has one order: whoever takes the next task takes the next samples
        task = tasks.get()
        if task is None:
            return None
        failure, samples = _guarded(reader.pull, task)
    if failure is not None or samples is None:
        return failure or ("end", task.run, task.number, None)
    return _batch(task, lambda t: reader.finish(samples, t))


def _batch(task: Task, read: Callable[[Task], Any]) -> tuple[Any, ...]:
    answer, batch = _guarded(read, task)
    return answer or ("batch", task.run, task.number, batch)


def _guarded(read: Callable[[Task], Any], task: Task) -> tuple[tuple[Any, ...] | None, Any]:
    """(None, result), or (the answer that reports the error, None)."""
    try:
        return None, read(task)
    except BaseException as error:  # even SystemExit: a thread that ends in silence would leave the loader waiting
        return ("error", task.run, task.number, worker.report(error, "in a worker thread", keep=True)), None


def _drain(tasks: Any) -> None:
    while not tasks.empty():
        try:
            tasks.get_nowait()
        except queue.Empty:
            return


def _stop_threads(tasks: Any, threads: list[threading.Thread]) -> None:
    _drain(tasks)
    for _ in threads:
        tasks.put(None)
    deadline = time.monotonic() + _GRACE
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0))
