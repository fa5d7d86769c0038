"""`DataLoader`: batches of a data set, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from itertools import count, islice
from typing import Any

import numpy as np

from pydl.data.dataset import IterableDataset
from pydl.data.pools import Pool, ProcessPool, ThreadPool, WorkerError, raise_report
from pydl.data.reading import END, Task, make_reader
from pydl.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from pydl.errors import ArgumentError

__all__ = ["DataLoader"]

_POOLS: dict[str, Callable[..., Pool]] = {"process": ProcessPool, "thread": ThreadPool}


class DataLoader:
    """Iterates over batches of a data set: the same batches in the same order for any number of workers.

    Each iteration is an epoch; its order, and the random numbers that transforms take from `pydl.data.sample_generator`,
    depend on the seed and the epoch's number. `state_dict` in the middle of an epoch and `load_state_dict` later, in
    another process, give exactly the remaining batches.

    Parameters
    ----------
    dataset : Dataset, IterableDataset, or anything with ``__len__`` and ``__getitem__``
        A `TensorDataset` is read by whole batches, not sample by sample.
    batch_size : int, optional
        None gives samples one by one, without a batch axis.
    shuffle : bool
        A new order each epoch.
    sampler, batch_sampler : iterable, optional
        Give indices, or lists of indices, instead of `shuffle` (and `batch_size`, `drop_last`).
    num_workers : int
        0 reads in the calling thread.
    collate_fn : callable, optional
        Makes a batch of a list of samples; default `default_collate`.
    drop_last : bool
        Leave out the last batch if it is smaller.
    timeout : float
        Most seconds to wait for a batch from workers; 0 waits as long as it takes.
    worker_init_fn : callable, optional
        Called with its number in each worker before it reads.
    generator : pydl.Generator, optional
        Its seed is taken, not its state; default that of `pydl.manual_seed`.
    prefetch_factor : int, optional
        How many batches a worker is ahead, default 2.
    persistent_workers : bool
        Keep the workers from one epoch to the next (until `close`, or until the loader is gone).
    worker_type : "process" or "thread"
        Processes suit data sets in Python; they are started as fresh interpreters, so the data set is pickled and sent to
        them. Threads start at once and copy nothing; they suit data sets that decode in native code.
    seed : int, optional
        Instead of `generator`.

    Raises
    ------
    WorkerError
        If a worker dies. An exception that the data set raises in a worker is raised again here.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        worker_type: str = "process",
        seed: int | None = None,
    ) -> None:
        self.dataset, self.num_workers, self.collate_fn = dataset, num_workers, collate_fn
        self.timeout, self.worker_init_fn, self.persistent_workers = timeout, worker_init_fn, persistent_workers
        self.worker_type, self.prefetch_factor = worker_type, prefetch_factor
        self._check_workers()
        self.seed = _seed(generator, seed)
        self._stream = isinstance(dataset, IterableDataset)
        self._set_samplers(batch_size, shuffle, sampler, batch_sampler, drop_last)
        self._next = (0, 0)  # epoch and first batch of the next iteration
        self._running: _Position | None = None
        self._pool: Pool | None = None

    def _check_workers(self) -> None:
        if self.num_workers < 0 or self.timeout < 0:
            raise ArgumentError(f"DataLoader: num_workers={self.num_workers}, timeout={self.timeout}; neither may be negative")
        if self.worker_type not in _POOLS:
            raise ArgumentError(f"DataLoader: worker_type={self.worker_type!r}; expected 'process' or 'thread'")
        if self.prefetch_factor is not None and self.prefetch_factor < 1:
            raise ArgumentError(f"DataLoader: prefetch_factor={self.prefetch_factor}, expected at least 1")
        if self.num_workers == 0 and (self.persistent_workers or self.prefetch_factor is not None):
            raise ArgumentError("DataLoader: persistent_workers and prefetch_factor need workers; set num_workers=1 or more")

    def _set_samplers(
        self, batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any, drop_last: bool
    ) -> None:
        if sampler is not None and shuffle:
            raise ArgumentError("DataLoader: give either a sampler or shuffle=True, not both")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ArgumentError("DataLoader: batch_sampler replaces batch_size, shuffle, sampler and drop_last; give no other")
        if batch_size is None and drop_last:
            raise ArgumentError("DataLoader: batch_size=None gives samples one by one; there is no last batch to drop")
        if self._stream:
            if shuffle or sampler is not None or batch_sampler is not None:
                raise ArgumentError("DataLoader: an IterableDataset gives its own order; no shuffle, sampler or batch_sampler")
            if batch_size is not None:
                BatchSampler((), batch_size)  # its check of batch_size
        elif sampler is None and batch_sampler is None:
            sampler = RandomSampler(self.dataset) if shuffle else SequentialSampler(self.dataset)
            if isinstance(sampler, RandomSampler):
                sampler.seed = self.seed
        if sampler is not None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = None if batch_sampler is not None and sampler is None else batch_size
        self.sampler, self.batch_sampler, self.drop_last = sampler, batch_sampler, drop_last

    # ------------------------------------------------------------------ position
    @property
    def epoch(self) -> int:
        """The epoch that is running, or else the next one."""
        return self._place()[0]

    def _place(self) -> tuple[int, int]:
        running = self._running
        return self._next if running is None or running.finished else (running.epoch, running.batch)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its first batch."""
        self._next, self._running = (int(epoch), 0), None

    def state_dict(self) -> dict[str, Any]:
        """The position: the epoch, and how many of its batches have been given out. Numbers only."""
        epoch, batch = self._place()
        sampler = self._order
        return {
            "epoch": epoch,
            "batch": batch,
            "seed": self.seed,
            "length": self._length(),
            "sampler": sampler.state_dict() if hasattr(sampler, "state_dict") else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration gives the batches that were left when `state_dict` was taken.

        Raises
        ------
        ArgumentError
            If this loader has another number of batches: other data, or another batch size.
        """
        length = self._length()
        if state["length"] != length:
            raise ArgumentError(
                f"DataLoader: the saved position is of a loader with {state['length']} batches, this one has {length}; "
                "use the same data and batch size"
            )
        if self.seed != state["seed"]:
            self.close()  # persistent workers know the old seed
        self.seed = state["seed"]
        if state["sampler"] is not None and hasattr(self._order, "load_state_dict"):
            self._order.load_state_dict(state["sampler"])
        self._next, self._running = (state["epoch"], state["batch"]), None

    @property
    def _order(self) -> Any:
        return self.batch_sampler if self.batch_sampler is not None else self.sampler

    def _length(self) -> int | None:
        try:
            return len(self)
        except TypeError:
            return None

    def __len__(self) -> int:
        """Batches in an epoch."""
        if not self._stream:
            return len(self._order)
        n = len(self.dataset)  # TypeError for a stream that does not know
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    # ------------------------------------------------------------------ iteration
    def __iter__(self) -> Iterator[Any]:
        epoch, start = self._next
        self._next = (epoch + 1, 0)
        self._running = _Position(epoch, start)
        if hasattr(self._order, "set_epoch"):
            self._order.set_epoch(epoch)
        return _Batches(self._batches(epoch, start), self._running)

    def _batches(self, epoch: int, start: int) -> Generator[Any, None, None]:
        if self.num_workers == 0:
            reader = make_reader(*self._reader_arguments())
            return _read_here(reader.read, self._tasks(0, epoch, start))
        pool = self._pool or self._start_pool()
        if self.persistent_workers:
            self._pool = pool
        run = pool.start_run()
        close = self.close if self.persistent_workers else pool.close
        ahead = self.num_workers * (self.prefetch_factor or 2)
        return _read_ahead(pool, run, self._tasks(run, epoch, start), ahead, self.timeout, close, self.persistent_workers)

    def _start_pool(self) -> Pool:
        return _POOLS[self.worker_type](self.num_workers, self._reader_arguments(), self.worker_init_fn)

    def _reader_arguments(self) -> tuple[Any, ...]:
        batched = self.batch_sampler is not None
        return self.dataset, self.collate_fn, self.seed, self.batch_size, self.drop_last, self._stream, batched

    def _tasks(self, run: int, epoch: int, start: int) -> Iterator[Task]:
        if self._stream:
            return (Task(run, epoch, number, None, None) for number in count(start))
        batches = enumerate(self._order)
        if getattr(self._order, "replacement", False):
            return islice(_with_repeats(run, epoch, batches), start, None)
        return (Task(run, epoch, number, indices, None) for number, indices in islice(batches, start, None))

    def close(self) -> None:
        """End persistent workers; the next iteration starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _seed(generator: Any, seed: int | None) -> int:
    if seed is not None:
        if generator is not None:
            raise ArgumentError("DataLoader: give either a generator or a seed, not both")
        return int(seed) % 2**64
    from pydl.random import default_generator

    return (generator or default_generator).initial_seed()


class _Position:
    """How far an iteration has come."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch, self.finished = epoch, batch, False


class _Batches:
    """The iterator that the user holds; when it is dropped, the generator ends and with it the workers."""

    def __init__(self, batches: Generator[Any, None, None], position: _Position) -> None:
        self._batches, self._position = batches, position

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            self._position.finished = True
            raise
        self._position.batch += 1
        return batch

    def close(self) -> None:
        """End the iteration and its workers."""
        self._batches.close()


def _with_repeats(run: int, epoch: int, batches: Iterator[tuple[int, Any]]) -> Iterator[Task]:
    """Tasks that tell how often each sample was drawn before: its random numbers are others each time."""
    seen: Counter[Any] = Counter()
    for number, indices in batches:
        repeats = []
        for index in np.atleast_1d(indices).tolist():
            repeats.append(seen[index])
            seen[index] += 1
        yield Task(run, epoch, number, indices, repeats)


def _read_here(read: Callable[[Task], Any], tasks: Iterator[Task]) -> Generator[Any, None, None]:
    for task in tasks:
        batch = read(task)
        if batch is END:
            return
        yield batch


def _read_ahead(
    pool: Pool, run: int, tasks: Iterator[Task], ahead: int, timeout: float, close: Callable[[], None], persistent: bool
) -> Generator[Any, None, None]:
    """Batches from workers, sorted; at most `ahead` are under way or waiting."""
    waiting: deque[int] = deque()
    ready: dict[int, tuple[str, Any]] = {}

    def submit() -> None:
        for task in islice(tasks, ahead - len(waiting)):
            waiting.append(task.number)
            pool.submit(task)

    finished = False
    try:
        submit()
        while waiting:
            if pool.run != run:
                raise WorkerError("DataLoader: this iteration ended when a later one took over the persistent workers")
            wanted = waiting.popleft()
            while wanted not in ready:
                number, *answer = pool.receive(run, timeout)
                ready[wanted if number < 0 else number] = (answer[0], answer[1])
            kind, value = ready.pop(wanted)
            if kind == "error":
                raise_report(value)
            if kind == "end":
                break
            submit()
            yield value
        finished = True
    except GeneratorExit:
        finished = True
    finally:
        if not (finished and persistent) and pool.run == run:
            close()
