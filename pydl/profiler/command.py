"""What ``pydl profile`` does: run a model on random data, print the tables, save pictures, trace and profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pydl
from pydl._extras import require
from pydl.errors import ArgumentError
from pydl.graph import no_grad, wrap
from pydl.profiler.limits import machine_limits
from pydl.profiler.result import Profile
from pydl.profiler.session import profile, record_function, schedule
from pydl.summary import first_tensor

__all__ = ["profile_model"]


def profile_model(
    model: Any, name: str, sizes: Sequence[tuple[int, ...]], dtypes: Sequence[Any], *, train: bool, steps: int, warmup: int,
    rows: int, depth: int | None, out: Path | None, compare: Path | None,
) -> Profile:
    """Profile some steps of a model and report them."""
    if out is not None:
        require("matplotlib", "plot", "pydl profile --out")  # before the work, not after it
    earlier = Profile.load(compare) if compare is not None else None
    rng = np.random.default_rng(0)
    inputs = [_random(rng, shape, np.dtype(dtype), model) for shape, dtype in zip(sizes, dtypes, strict=True)]
    run = _training(model, inputs, rng) if train else _inference(model, inputs)
    with profile(schedule(warmup=warmup, active=steps, repeat=1), model=model) as p:
        for _ in range(warmup + steps):
            run()
            p.step()
    result = p.result
    kind = "training step" if train else "inference"
    result.about.update(model=name, kind=kind, inputs=[list(s) for s in sizes])
    machine_limits()
    tables = [result.table("op", rows), result.table("module", None if depth else rows, depth), result.table("layer", rows),
              result.table("kernel", rows)]  # fmt: skip
    if train:
        tables.append(result.table("range"))
    if earlier is not None:
        tables.append(earlier.compare(result, "op", rows))
    for table in tables:
        table.show()
    if out is not None:
        title = f"{name}, {kind}, {' and '.join('x'.join(map(str, s)) for s in sizes)}"
        result.roofline(out / "roofline.png", title)
        result.memory_plot(out / "memory.png", title)
        result.trace(out / "trace.json")
        result.save(out / "profile.json.gz")
        (out / "tables.txt").write_text("\n\n".join([title, *map(str, tables), str(result.limits)]) + "\n")
        print(f"saved in {out}: roofline.png, memory.png, tables.txt, profile.json.gz, trace.json (for https://ui.perfetto.dev)")
    return result


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, model: Any) -> Any:
    """Normal numbers, or integers that every embedding of the model has a row for."""
    if dtype.kind == "f":
        return wrap(rng.standard_normal(shape).astype(dtype))
    if dtype.kind == "b":
        return wrap(rng.random(shape) < 0.5)
    rows = [m.num_embeddings for m in model.modules() if isinstance(getattr(m, "num_embeddings", None), int)]
    return wrap(rng.integers(0, min(rows, default=2), shape).astype(dtype))


def _inference(model: Any, inputs: list[Any]) -> Callable[[], None]:
    model.eval()

    def run() -> None:
        with no_grad():
            model(*inputs)

    return run


def _training(model: Any, inputs: list[Any], rng: np.random.Generator) -> Callable[[], None]:
    model.train()
    optimizer = pydl.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    targets: list[Any] = []

    def run() -> None:
        with record_function("zero_grad"):
            optimizer.zero_grad()
        with record_function("forward"):
            scores = first_tensor(model(*inputs))
        if scores is None or scores.data.dtype.kind != "f":
            raise ArgumentError("profile --train: the model gives no floating tensor to learn from; leave --train out")
        with record_function("loss"):
            if not targets:
                targets.append(_target(scores.data.shape, rng))
            loss = scores.square().mean() if targets[0] is None else pydl.cross_entropy(scores, targets[0])
        with record_function("backward"):
            loss.backward()
        with record_function("optimizer"):
            optimizer.step()

    return run


def _target(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Class numbers for scores (N, C, ...); None for a single column, where the square is the loss."""
    if len(shape) < 2 or shape[1] < 2:
        return None
    return wrap(rng.integers(0, shape[1], (shape[0], *shape[2:])))
