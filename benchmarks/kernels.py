"""Single kernels beside PyTorch's: time, GFLOP/s, GB/s, share of what this machine can do, forward and backward apart.

Work is counted by the operations' own cost rules, the machine is measured by `pydl.profiler.machine_limits`. Both packages run in
this process in turns; where memory order matters PyTorch is timed in both, and its better one counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import pydl
from benchmarks.measure import agree, alternate, geometric_mean
from benchmarks.shapes import KERNELS, Kernel
from pydl import profiler
from pydl.ops._common import channels_last

FAMILIES = (*dict.fromkeys(k.family for k in KERNELS), "optimizer")
Clock = Callable[[], float]
_LARGEST = 1e-3  # relative difference in the 2-norm


class Work(NamedTuple):
    """One side of a kernel. `backward` reuses one recorded forward; `both` records its own."""

    forward: Callable[[], Any]
    backward: Callable[[], Any]
    both: Callable[[], Any]


def run(families: list[str], only: str, rounds: int, processor_time: bool) -> Iterator[dict[str, Any]]:
    """The kernels of some families, or of these only the ones whose name holds a text."""
    clock = time.process_time if processor_time else time.perf_counter
    for kernel in KERNELS:
        if kernel.family in families and only in kernel.name:
            yield from measure(kernel, rounds, clock)
    if "optimizer" in families and only in "optimizer":
        yield from optimizers(rounds, clock)


def measure(kernel: Kernel, rounds: int, clock: Clock) -> Iterator[dict[str, Any]]:
    """A row for the forward and one for the backward."""
    import torch

    rng = np.random.default_rng(0)
    arrays = [_draw(rng, s) for s in kernel.inputs]
    module = kernel.module(pydl) if kernel.module else None
    sides = {"pydl": _side(pydl, kernel, arrays, module, "")}
    for order in ("", "channels-last") if kernel.images else ("",):
        sides[order or "PyTorch"] = _side(torch, kernel, arrays, module, order)
    names = list(sides)
    for name in names[1:]:
        agree(_first(sides["pydl"].forward()), _first(sides[name].forward()), f"{kernel.name}", _LARGEST)
        for a, b in zip(sides["pydl"].backward(), sides[name].backward(), strict=True):
            agree(a, b, f"gradient of {kernel.name}", _LARGEST)
    for direction in ("forward", "backward"):
        functions = {name: getattr(side, direction) for name, side in sides.items()}
        yield _row(kernel.family, kernel.name, direction, functions, rounds, clock, _work(sides["pydl"].both, direction))


def _draw(rng: np.random.Generator, shape: Any) -> np.ndarray:
    if isinstance(shape[0], tuple):
        return rng.integers(0, shape[1], shape[0])
    return rng.standard_normal(shape).astype(np.float32)


def _tensor(package: Any, a: np.ndarray, order: str, inside: bool) -> Any:
    """A tensor in the memory order that it has inside a network: pydl's own for images is channels-last."""
    if package is pydl:
        return pydl.from_numpy(channels_last(a) if inside and a.ndim == 4 else a.copy())
    t = package.tensor(a)
    return t.contiguous(memory_format=package.channels_last) if order and a.ndim == 4 else t


def _side(package: Any, kernel: Kernel, arrays: list[np.ndarray], source: Any, order: str) -> Work:
    tensors = []
    wanted = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"][: kernel.gradients]
    for i, a in enumerate(arrays):
        weight = kernel.family == "conv" and i > 0
        t = _tensor(package, a, order, inside=kernel.images and not weight)
        tensors.append(t.requires_grad_() if i in wanted else t)
    module = source
    if source is not None and package is not pydl:
        assert kernel.module is not None
        module = kernel.module(package)
        module.load_state_dict({n: package.from_numpy(v.numpy().copy()) for n, v in source.state_dict().items()})
    leaves = [tensors[i] for i in wanted] + (list(module.parameters()) if module is not None else [])

    def call() -> Any:
        if module is not None:
            return module(*tensors)
        assert kernel.run is not None
        return kernel.run(package, tensors)

    def forward() -> Any:
        with package.no_grad():
            return call()

    out = _first(call())
    gradient = np.random.default_rng(1).standard_normal(tuple(out.shape)).astype(np.float32)
    g = _tensor(package, gradient, order, inside=kernel.images)

    def backward() -> Any:
        return package.autograd.grad(out, leaves, g, retain_graph=True)

    def both() -> Any:
        return package.autograd.grad(_first(call()), leaves, g)

    return Work(forward, backward, both)


def _first(out: Any) -> Any:
    return out[0] if isinstance(out, tuple) else out


def _row(
    family: str, name: str, direction: str, functions: dict[str, Callable[[], Any]], rounds: int, clock: Clock,
    work: tuple[int, int],
) -> dict[str, Any]:
    flops, moved = work
    times = alternate(functions, rounds, clock=clock)
    best = min((n for n in times if n != "pydl"), key=lambda n: times[n].median)
    ours, theirs = times["pydl"].median, times[best].median
    limits = profiler.machine_limits()
    return {
        "family": family, "kernel": name, "direction": direction, "pydl": times["pydl"]._asdict(), "peer": times[best]._asdict(),
        "best": best, "ratio": theirs / ours, "gflops": flops / ours / 1e9, "bandwidth": moved / ours / 1e9,
        "roofline": limits.seconds(flops, moved) / ours,
    }  # fmt: skip


def _work(function: Callable[[], Any], direction: str) -> tuple[int, int]:
    """FLOPs and bytes of one phase, by the cost rules."""
    with profiler.profile() as p:
        function()
    events = [e for e in p.result.events if e.phase == direction]
    return sum(e.flops for e in events), sum(e.bytes for e in events)


def optimizers(rounds: int, clock: Clock) -> Iterator[dict[str, Any]]:
    """One step over the parameters of ResNet-18."""
    import torch

    from pydl import models

    shapes = [p.shape for p in models.create("resnet18").parameters()]
    rng = np.random.default_rng(0)
    values, gradients = ([rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(2))
    for name, options in (("SGD", {"lr": 1e-3, "momentum": 0.9}), ("Adam", {"lr": 1e-3}), ("AdamW", {"lr": 1e-3})):
        steps: dict[str, Callable[[], Any]] = {}
        first: dict[str, np.ndarray] = {}
        sides: tuple[Any, ...] = (("pydl", pydl, {}), ("foreach", torch, {"foreach": True}), ("fused", torch, {"fused": True}))
        for side, package, extra in sides:
            parameters = []
            for value, gradient in zip(values, gradients, strict=True):
                p = package.tensor(value.copy()).requires_grad_()
                p.grad = package.tensor(gradient)
                parameters.append(p)
            optimizer = getattr(package.optim, name)(parameters, **options, **extra)
            optimizer.step()
            first[side] = parameters[0].detach().numpy().copy()
            agree(first[side], first["pydl"], f"{name} of {side}", 1e-5)
            steps[side] = optimizer.step
        work = _work(steps["pydl"], "optimizer")
        yield _row("optimizer", f"{name}, parameters of resnet18", "optimizer", steps, rounds, clock, work)


def table(rows: list[dict[str, Any]], title: str) -> Any:
    """The rows, and the mean ratio of each family."""
    from rich.table import Table

    names = ("family", "kernel", "direction", "pydl, ms", "GFLOP/s", "GB/s", "% of roofline", "PyTorch, ms", "speed")
    made = Table(*names, title=title)
    for r in rows:
        made.add_row(r["family"], r["kernel"], r["direction"], f"{1e3 * r['pydl']['median']:.3f}", f"{r['gflops']:.0f}",
                     f"{r['bandwidth']:.1f}", f"{100 * r['roofline']:.0f}",
                     f"{1e3 * r['peer']['median']:.3f}{' (' + r['best'] + ')' if r['best'] != 'PyTorch' else ''}",
                     f"{r['ratio']:.2f}x")  # fmt: skip
    made.add_section()
    for family in dict.fromkeys(r["family"] for r in rows):
        mean = geometric_mean([r["ratio"] for r in rows if r["family"] == family])
        made.add_row(family, "geometric mean", *[""] * 6, f"{mean:.2f}x")
    return made
