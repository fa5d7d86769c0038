"""A whole training step (zero_grad, forward, cross-entropy, backward, SGD with momentum) beside PyTorch's.

Both start from the same weights; loss and gradients of the first step must agree before anything is timed. PyTorch runs
in several configurations, and its best one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pydl
from benchmarks.cases import CASES, Case
from benchmarks.measure import Timing, agree, alternate, geometric_mean


class Step:
    """One training step of a model, as a function without arguments."""

    def __init__(self, package: Any, model: Any, x: Any, y: Any, **sgd: Any) -> None:
        self.model, self.x, self.y = model, x, y
        self.optimizer = package.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, **sgd)
        self.criterion = pydl.cross_entropy if package is pydl else package.nn.functional.cross_entropy

    def __call__(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss


def ours(case: Case, x: np.ndarray, y: np.ndarray) -> Step:
    pydl.manual_seed(0)
    return Step(pydl, case.build(pydl), pydl.from_numpy(x), pydl.from_numpy(y))


def theirs(
    case: Case, x: np.ndarray, y: np.ndarray, state: dict[str, np.ndarray], compiled: bool
) -> dict[str, Callable[[], Any]]:
    """PyTorch's configurations by name, all from the same weights."""
    import torch

    def model() -> Any:
        m = case.build(torch)
        m.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
        return m

    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    steps: dict[str, Callable[[], Any]] = {
        "eager": Step(torch, model(), tx, ty),
        "fused": Step(torch, model(), tx, ty, fused=True),
    }
    if x.ndim == 4:
        last = torch.channels_last
        steps["channels-last"] = Step(torch, model().to(memory_format=last), tx.to(memory_format=last), ty, fused=True)
    if compiled:
        steps["compile"] = Step(torch, torch.compile(model()), tx, ty, fused=True)
    return steps


def agree_on_first_step(name: str, step: Step, peer: Step) -> None:
    """Loss and gradients of one forward and backward, before any update."""
    results = []
    for s in (step, peer):
        loss = s.criterion(s.model(s.x), s.y)
        loss.backward()
        gradients = {n: p.grad.numpy().copy() for n, p in s.model.named_parameters()}
        s.optimizer.zero_grad()
        results.append((float(loss.item()), gradients))
    (loss, gradients), (expected, peers) = results
    if not np.isclose(loss, expected, rtol=1e-4):
        raise SystemExit(f"{name}: the first loss is {loss}, PyTorch's {expected}: nothing was timed")
    for parameter, g in gradients.items():
        if np.linalg.norm(peers[parameter]) > 1e-6:  # a bias before batch normalisation has only rounding noise
            agree(g, peers[parameter], f"{name}, gradient of {parameter}", tolerance=1e-2)


def measure(name: str, rounds: int, compiled: bool) -> dict[str, Timing]:
    case = CASES[name]
    x, y = case.batch(np.random.default_rng(0))
    step = ours(case, x, y)
    state = {n: v.numpy().copy() for n, v in step.model.state_dict().items()}
    peers = theirs(case, x, y, state, compiled)
    agree_on_first_step(name, step, peers["eager"])  # type: ignore[arg-type]
    return alternate({"pydl": step, **peers}, rounds)


def run(names: list[str], rounds: int, compiled: bool) -> list[dict[str, Any]]:
    """Time the cases and print a row for each."""
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "pydl", "PyTorch, best of", "ratio", title=f"training step, {pydl.get_num_threads()} threads")
    rows = []
    for name in names:
        times = measure(name, rounds, compiled)
        best = min((n for n in times if n != "pydl"), key=lambda n: times[n].median)
        ratio = times[best].median / times["pydl"].median
        others = ", ".join(f"{n} {1e3 * t.median:.3g}" for n, t in times.items() if n != "pydl")
        table.add_row(name, str(times["pydl"]), f"{best} {times[best]}\n({others})", f"{ratio:.2f}x")
        rows.append({"case": name, "ratio": ratio, "best": best, "seconds": {n: t._asdict() for n, t in times.items()}})
    Console().print(table)
    print(f"geometric mean: {geometric_mean([r['ratio'] for r in rows]):.2f}x")
    return rows
