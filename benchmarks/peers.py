"""The sides of a step benchmark: pydl and PyTorch, each in several forms, each form in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple

# Keeps large blocks instead of giving them back after each step, and asks for huge pages: the cure for first touches that
# PyTorch's users know.
_HUGE_PAGES = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_TOP_PAD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "THP_MEM_ALLOC_ENABLE": "1",
}  # fmt: skip


class Form(NamedTuple):
    """A way to run one side: what its worker does, and in which environment."""

    package: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})


OURS = {"eager": Form("pydl"), "captured": Form("pydl", ("captured",))}
EXACT = Form("torch", ("float64",))  # the judge of everybody's first results


def peer_forms(images: bool, inference: bool) -> dict[str, Form]:
    """The ways of PyTorch that make sense for a case; eager is the first."""
    fused = () if inference else ("fused",)
    found = {"eager": Form("torch")}
    if not inference:
        found["fused"] = Form("torch", fused)
    if images:
        found["channels-last"] = Form("torch", ("channels-last", *fused))
    found["huge-pages"] = Form("torch", fused, _HUGE_PAGES)
    if images:
        found["channels-last+huge-pages"] = Form("torch", ("channels-last", *fused), _HUGE_PAGES)
    found["compile"] = Form("torch", ("compile", *(("channels-last",) if images else ()), *fused), _HUGE_PAGES)
    return found


FORMS = tuple(dict.fromkeys([*OURS, *peer_forms(True, False)]))


class SideFailed(Exception):
    """A worker could not do what it was asked; the message says why."""


class Side:
    """A worker process."""

    def __init__(self, name: str, case: str, form: Form, folder: Path, threads: int, inference: bool,
                 autocast: bool = False) -> None:
        self.name = name
        spec = {"case": case, "package": form.package, "threads": threads, "inference": inference, "autocast": autocast,
                "options": form.options, "weights": str(folder / f"{case}.npz")}  # fmt: skip
        self.first = folder / f"{case}-first.npz"
        caches = {f"{n}_CACHE_DIR": str(folder / "compiled") for n in ("TORCHINDUCTOR", "TRITON")}
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **caches, **form.environment}
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.worker", json.dumps(spec)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=variables)  # fmt: skip
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SideFailed(f"{self.name}: its process has ended (exit code {self.process.wait()}); see its message above")
        answer = json.loads(line)
        if "failed" in answer:
            raise SideFailed(f"{self.name}: {answer['failed']}")
        return answer

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def check(self) -> dict[str, Any]:
        """How far the first result lies from the one that the judge has written ("worst") and where most ("where"), what it took
        to get there ("warm_up" seconds, "warm_up_peak" bytes), and what a compiler keeps ("compiler" bytes)."""
        return self.ask("check", file=str(self.first))

    def seconds(self, times: int = 1) -> float:
        return float(self.ask("run", times=times)["seconds"])

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
