"""Averages of a network's weights over its training, with the names of ``torch.optim.swa_utils``.

Sources: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization" (SWA); Polyak and
Juditsky 1992 for averages of the iterates, of which the exponential moving average (EMA) forgets the old ones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.modes import no_grad
from pydl.nn.module import Module
from pydl.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from pydl.optim.lr_scheduler.base import LRScheduler, for_each_group
from pydl.optim.optimizer import Optimizer
from pydl.tensor import tensor

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn",
]

AvgFn = Callable[[Any, Any, int], Any]
MultiAvgFn = Callable[[list[Any], list[Any], int], None]


def _require_decay(name: str, decay: float) -> float:
    if not 0 <= decay <= 1:
        raise ArgumentError(f"{name}: decay={decay}; expected 0 to 1")
    return decay


def get_ema_avg_fn(decay: float = 0.999) -> AvgFn:
    """decay * average + (1 - decay) * parameter, one tensor at a time, as a new tensor."""
    _require_decay("get_ema_avg_fn", decay)
    return lambda average, current, count: average * decay + current * (1 - decay)


def get_swa_avg_fn() -> AvgFn:
    """average + (parameter - average) / (count + 1): the plain mean of all that were seen, one tensor at a time."""
    return lambda average, current, count: average + (current - average) / (count + 1)


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAvgFn:
    """decay * average + (1 - decay) * parameter, for all tensors in place by the native kernels."""
    _require_decay("get_ema_multi_avg_fn", decay)

    def update(averages: list[Any], currents: list[Any], count: int) -> None:
        for average, current in zip(averages, currents, strict=True):
            average.mul_(decay).add_(current, alpha=1 - decay)

    return update


def get_swa_multi_avg_fn() -> MultiAvgFn:
    """average + (parameter - average) / (count + 1), for all tensors in place by the native kernels."""

    def update(averages: list[Any], currents: list[Any], count: int) -> None:
        for average, current in zip(averages, currents, strict=True):
            average.mul_(count / (count + 1)).add_(current, alpha=1 / (count + 1))

    return update


class AveragedModel(Module):
    """A copy of a network whose parameters are averages of those that the network goes through.

    Call `update_parameters` after steps or epochs; the first call copies. The copy is a network itself, as
    ``averaged(x)`` and as ``averaged.module``; its state (with the number of updates, ``n_averaged``) is saved by
    `state_dict` as any module's, so that averaging goes on from a checkpoint. Batch norm's statistics belong to other
    weights: call `update_bn` before the copy is used, unless `use_buffers` averages them too.

    Parameters
    ----------
    model : Module
        What is averaged. It is left alone.
    avg_fn : callable, optional
        ``avg_fn(average, parameter, n_averaged)``, the new average of one tensor. Default: the plain mean.
    multi_avg_fn : callable, optional
        ``multi_avg_fn(averages, parameters, n_averaged)``, changing all averages in place.
    use_buffers : bool
        Average floating buffers too; else they are copied from the network at each update.

    Source: Izmailov et al. 2018, section 3.2.
    """

    def __init__(
        self, model: Module, device: Any = None, avg_fn: AvgFn | None = None, multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError("AveragedModel: give avg_fn or multi_avg_fn, not both")
        if not isinstance(model, Module):
            raise ArgumentError(f"AveragedModel: expected a Module, got {type(model).__name__}")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device=device)
        for p in self.module.parameters():
            p.grad = None
        self.register_buffer("n_averaged", tensor(0, np.int64))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the network's present parameters into the average."""
        averages: list[Any] = list(self.module.parameters())
        currents: list[Any] = list(model.parameters())
        mine, theirs = list(self.module.buffers()), list(model.buffers())
        if [a.shape for a in (*averages, *mine)] != [c.shape for c in (*currents, *theirs)]:
            raise ArgumentError("AveragedModel.update_parameters: the network's parameters and buffers have other shapes or "
                                "another order than those of the network that the average was made from")
        count = int(self.n_averaged.item())
        copied = list(zip(mine, theirs, strict=True))
        if self.use_buffers:
            floating = [a.data.dtype.kind == "f" for a in mine]
            averages += [a for a, f in zip(mine, floating, strict=True) if f]
            currents += [c for c, f in zip(theirs, floating, strict=True) if f]
            copied = [pair for pair, f in zip(copied, floating, strict=True) if not f]
        with no_grad():
            if count == 0:
                copied += zip(averages, currents, strict=True)
            else:
                self._average(averages, [c.detach() for c in currents], count)
            for average, current in copied:
                average.copy_(current.detach())
            self.n_averaged.add_(1)

    def _average(self, averages: list[Any], currents: list[Any], count: int) -> None:
        if self.avg_fn is not None:
            for average, current in zip(averages, currents, strict=True):
                average.copy_(self.avg_fn(average.detach(), current, count))
        else:
            (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, currents, count)


@contextmanager
def _fresh_statistics(model: Module, norms: list[Any]) -> Iterator[None]:
    """Batch norms with reset statistics that average all batches alike; afterwards momenta and modes as before."""
    momenta, modes = [m.momentum for m in norms], [(m, m.training) for m in model.modules()]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    model.train()
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        for m, mode in modes:
            object.__setattr__(m, "training", mode)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of all batch norms anew, as means over the batches of a loader.

    Parameters
    ----------
    loader : iterable of batches
        Tensors, or lists or tuples that begin with the input.
    model : Module
        A network without batch norm is left alone.
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm1d | BatchNorm2d | BatchNorm3d) and m.track_running_stats]
    if not norms:
        return
    with _fresh_statistics(model, norms), no_grad():
        for batch in loader:
            x = batch[0] if isinstance(batch, list | tuple) else batch
            model(x if device is None else x.to(device=device))


class SWALR(LRScheduler):
    """From the rate that is found to the constant `swa_lr` within `anneal_epochs` steps, along a cosine or a line.

    At t = step / anneal_epochs the rate is swa_lr * a(t) + rate * (1 - a(t)), a(t) = (1 - cos(pi t)) / 2 or t.

    Parameters
    ----------
    swa_lr : float or list of float
        The last rate, or one for each group.
    anneal_strategy : {"cos", "linear"}

    Source: Izmailov et al. 2018; numbers as ``torch.optim.swa_utils.SWALR``.
    """

    def __init__(
        self, optimizer: Optimizer, swa_lr: float | list[float], anneal_epochs: int = 10, anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"SWALR: anneal_strategy={anneal_strategy!r}; expected 'cos' or 'linear'")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ArgumentError(f"SWALR: anneal_epochs={anneal_epochs!r}; expected 0 or a positive integer")
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"SWALR: expected an Optimizer, got {type(optimizer).__name__}")
        self.swa_lrs = for_each_group("SWALR", "swa_lr", swa_lr, len(optimizer.param_groups))
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        t = min(max(step / max(self.anneal_epochs, 1), 0.0), 1.0)
        return t if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        step = self.last_epoch if self.anneal_epochs else max(self.last_epoch, 1)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for rate, target in zip(self._current(), self.swa_lrs, strict=True):
            start = target if before == 1 else (rate - before * target) / (1 - before)
            rates.append(target * now + start * (1 - now))
        return rates
