"""One side of a step benchmark in a process of its own: ``python -m benchmarks.worker SPECIFICATION`` (started by peers.py).

It answers lines of JSON on standard input with lines of JSON: {"do": "write", "file"} keeps the first result in a file, {"do":
"check", "file"} compares the first result with that one, {"do": "run", "times"} gives seconds a step, {"do": "memory"} gives
peak memory above that after the model was made, and what a step asks of the system. What goes wrong is answered by {"failed":
reason}. A process of its own makes peaks comparable and lets a form have its own environment.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES


class Step:
    """One training step, or one forward pass, of a model; every call hands the batch over anew."""

    def __init__(self, package: Any, model: Any, x: Any, y: Any, inference: bool, autocast: bool, **sgd: Any) -> None:
        self.package, self.model, self.batch = package, model, (x,) if inference else (x, y)
        self.mixed = autocast
        self.cross_entropy = package.nn.functional.cross_entropy
        if inference:
            model.eval()
        else:
            self.optimizer = package.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, **sgd)
        self.run = self.forward if inference else self.train

    def __call__(self) -> Any:
        return self.run(*self.batch)

    def train(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss

    def loss(self, x: Any, y: Any) -> Any:
        with self.autocast():
            return self.cross_entropy(self.model(x), y)

    def forward(self, x: Any) -> Any:
        with self.no_grad(), self.autocast():
            return self.model(x)

    def autocast(self) -> AbstractContextManager[Any]:
        if not self.mixed:
            return nullcontext()
        device = () if self.package.__name__ == "pydl" else ("cpu",)
        return self.package.autocast(*device, dtype=self.package.bfloat16)

    def no_grad(self) -> AbstractContextManager[Any]:
        return self.package.no_grad() if self.package.__name__ == "pydl" else self.package.inference_mode()

    def first(self) -> dict[str, np.ndarray]:
        """What both sides must agree on before anything is timed: outputs, or loss and gradients."""
        if len(self.batch) == 1:
            return {"output": self.output()}
        x, y = self.batch
        loss = self.loss(x, y)
        loss.backward()
        result = self.gradients(loss)
        self.optimizer.zero_grad()
        return result

    def output(self) -> np.ndarray:
        made = self()
        return np.asarray((made.float() if self.mixed else made).numpy())

    def gradients(self, loss: Any) -> dict[str, np.ndarray]:
        return {"loss": np.asarray(loss.item()),
                **{f"gradient of {n}": p.grad.numpy().copy() for n, p in self.model.named_parameters()}}  # fmt: skip


class CapturedStep(Step):
    """The same step of pydl as `pydl.capture` replays it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.run = self.package.capture(self.run)

    def first(self) -> dict[str, np.ndarray]:
        """Of a replay: the weights, which training moves while the step is recorded, are set back before."""
        kept = {n: v.clone() for n, v in self.model.state_dict().items()}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", self.package.graph.capture.CaptureWarning)
            for _ in range(3):
                self()
            if not self.run.replays:
                raise RuntimeError("; ".join(str(w.message) for w in said) or "capture: nothing was recorded")
            if len(self.batch) == 1:
                return {"output": self.output()}
            self.model.load_state_dict(kept)
            result = self.gradients(self())
            if said:
                raise RuntimeError("; ".join(str(w.message) for w in said))
            return result


def prepare(spec: dict[str, Any]) -> Step:
    """The model of either package, both from the weights in `spec["weights"]` (written by the first one)."""
    case = CASES[spec["case"]]
    x, y = case.batch(np.random.default_rng(0))
    weights = Path(spec["weights"])
    if spec["package"] == "pydl":
        import pydl

        pydl.set_num_threads(spec["threads"])
        pydl.manual_seed(0)
        model = case.build(pydl)
        if not weights.exists():
            np.savez(weights, **{n: v.numpy() for n, v in model.state_dict().items()})
        kind = CapturedStep if "captured" in spec["options"] else Step
        return kind(pydl, model, pydl.from_numpy(x), pydl.from_numpy(y), spec["inference"], spec["autocast"])
    import torch

    torch.set_num_threads(spec["threads"])
    model = case.build(torch)
    with np.load(weights) as state:
        model.load_state_dict({n: torch.from_numpy(state[n].copy()) for n in state.files})
    options = spec["options"]
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    if "float64" in options:
        model, tx = model.double(), tx.double() if tx.is_floating_point() else tx
    if "channels-last" in options:
        model, tx = model.to(memory_format=torch.channels_last), tx.to(memory_format=torch.channels_last)
    if "compile" in options:
        model = torch.compile(model)
    sgd = {"fused": True} if "fused" in options and not spec["inference"] else {}
    return Step(torch, model, tx, ty, spec["inference"], spec["autocast"] and "float64" not in options, **sgd)


def peak_bytes() -> int:
    """The largest resident size since `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> int:
    """Give back what is not in use (left over from making the model, or from comparing results) and start the peak anew; returns
    what is resident now."""
    gc.collect()
    if "pydl" in sys.modules:
        sys.modules["pydl"].memory.trim()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Worker:
    """Answers requests about one step."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.step = prepare(spec)
        self.compiled = "compile" in spec["options"]
        self.base = reset_peak()

    def write(self, file: str) -> dict[str, Any]:
        """Keep the first result for others to be compared with."""
        np.savez(file, **self.step.first())  # type: ignore[arg-type]
        return {}

    def check(self, file: str) -> dict[str, Any]:
        """The largest relative difference (2-norm) of the first result from the one in `file`.

        What a compiler keeps for itself (its modules, its code) is no memory of the step: with one, the peaks that follow are
        above what is resident once the first result is thrown away.
        """
        started = time.perf_counter()
        first = self.step.first()
        found: dict[str, Any] = {"warm_up": time.perf_counter() - started, "warm_up_peak": peak_bytes() - self.base}
        mine = {name.replace("_orig_mod.", ""): value for name, value in first.items()}
        worst, where = 0.0, ""
        with np.load(file) as exact:
            for name in exact.files:
                scale = float(np.linalg.norm(exact[name]))
                if name.startswith("gradient") and scale < 1e-6:
                    continue  # a bias before batch normalisation has only rounding noise
                error = float(np.linalg.norm(mine[name] - exact[name])) / max(scale, 1e-30)
                if not error <= worst:
                    worst, where = error, name
        if self.compiled:
            del first, mine
            before, self.base = self.base, reset_peak()
            found["compiler"] = self.base - before
        return {**found, "worst": worst, "where": where}

    def run(self, times: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(times):
            self.step()
        return {"seconds": (time.perf_counter() - started) / times}

    def memory(self) -> dict[str, Any]:
        """The peak of three steps; by the third nothing is new, and its page faults are counted."""
        reset_peak()
        for _ in range(2):
            self.step()
        before = faults()
        self.step()
        return {"peak": peak_bytes() - self.base, "faults": faults() - before}


def main() -> None:
    worker = Worker(json.loads(sys.argv[1]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # a compiler may fail in any way: the reason goes into the table
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            answer = {"failed": f"{type(error).__name__}: {lines[0]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
