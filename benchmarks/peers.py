"""The sides of a step benchmark: pydl, and PyTorch in several configurations, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

# Keeps large blocks instead of giving them back after each step, and asks for huge pages: the cure for first touches that
# PyTorch's users know.
_HUGE_PAGES = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_TOP_PAD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "THP_MEM_ALLOC_ENABLE": "1",
}  # fmt: skip


def configurations(images: bool, inference: bool, compiled: bool) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name -> options and environment of PyTorch's configurations that make sense for a case."""
    fused = [] if inference else ["fused"]
    found: dict[str, tuple[list[str], dict[str, str]]] = {"eager": ([], {})}
    if not inference:
        found["fused optimizer"] = (fused, {})
    if images:
        found["channels-last"] = (["channels-last", *fused], {})
    found["huge pages"] = (fused, _HUGE_PAGES)
    if images:
        found["channels-last, huge pages"] = (["channels-last", *fused], _HUGE_PAGES)
    if compiled:
        found["compile"] = (["compile", *fused], _HUGE_PAGES)
    return found


class Side:
    """A worker process."""

    def __init__(
        self, name: str, case: str, package: str, folder: Path, threads: int, inference: bool,
        options: list[str] | None = None, environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        spec = {"case": case, "package": package, "threads": threads, "inference": inference, "options": options or [],
                "weights": str(folder / f"{case}.npz")}  # fmt: skip
        self.first = folder / f"{case}-first.npz"
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **(environment or {})}
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.worker", json.dumps(spec)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=variables)  # fmt: skip
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: its process has ended (exit code {self.process.wait()}); see its message above")
        return json.loads(line)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def error(self) -> tuple[float, str]:
        """How far the first result lies from the one that another side has written, and where most."""
        found = self.ask("check", file=str(self.first))
        return found["worst"], found["where"]

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
