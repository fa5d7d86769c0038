"""What pydl runs on: version, instruction set, threads, memory, dependencies; for ``pydl info`` and bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pydl
from pydl import _core, memory

__all__ = ["collect"]


def collect() -> dict[str, Any]:
    """Everything as plain dictionaries, ready for JSON; nothing is imported for it."""
    hard, extras = _requirements()
    return {
        "pydl": {"version": pydl.__version__, "location": str(Path(pydl.__file__).parent)},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": {"platform": platform.platform(), "processor": _processor()},
        "instruction_set": {
            "active": _core.isa(),
            "available": [isa + " (emulated)" * (isa == "amx" and _core.tiles_emulated()) for isa in _core.supported_isas()],
            "forced_by": "PYDL_ISA" if os.environ.get("PYDL_ISA") else None,
            "bfloat16": _core.why_no_bfloat16() or "yes",
        },
        "threads": threads(),
        "memory": {"pool": _core.memory_enabled(), "cap": _core.memory_cap(), **memory.statistics()},
        "dependencies": {name: _version(name) for name in hard},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in extras.items()},
    }


def threads() -> dict[str, Any]:
    """How many threads the kernels use, where that number comes from, and the limits that were found."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    used = pydl.get_num_threads()
    ignored = []
    source = "all CPUs of the machine" if affinity == os.cpu_count() else "CPU affinity"
    expected = affinity
    if quota is not None and max(int(quota), 1) < affinity:
        source, expected = "cgroup CPU quota", max(int(quota), 1)
    for name in ("OMP_NUM_THREADS", "PYDL_NUM_THREADS"):  # the later one wins
        text = os.environ.get(name, "")
        found = re.match(r"\s*\+?(\d+)", text)
        if found and 0 < int(found[1]) < 4096:
            source, expected = name, int(found[1])
        elif text:
            ignored.append(f"{name}={text}: not a positive number")
    if used != expected:
        source = "pydl.set_num_threads, or the environment when the process started"
    return {
        "used": used, "source": source, "affinity": affinity, "cgroup_quota": quota, "cpus": os.cpu_count(), "ignored": ignored,
    }  # fmt: skip


def _cgroup_quota() -> float | None:
    """The container's CPU limit in CPUs; None without one."""

    def numbers(path: str) -> list[str]:
        try:
            return Path(path).read_text().split()
        except OSError:
            return []

    v2 = numbers("/sys/fs/cgroup/cpu.max")
    if len(v2) == 2 and v2[0] != "max":
        return int(v2[0]) / int(v2[1])
    v1 = numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") + numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if len(v1) == 2 and int(v1[0]) > 0:
        return int(v1[0]) / int(v1[1])
    return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Hard dependencies, and packages by extra: from the installed package, or from pyproject.toml in a source tree."""
    hard: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in _requirement_lines():
        requirement, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", requirement.strip())
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", marker)
        if name:
            (extras.setdefault(extra[1], []) if extra else hard).append(name[0])
    return hard, extras


def _requirement_lines() -> list[str]:
    source = Path(pydl.__file__).parent.parent / "pyproject.toml"
    if source.is_file() and sys.version_info >= (3, 11):
        import tomllib

        project = tomllib.loads(source.read_text())["project"]
        if project["name"] == "pydl":
            optional = project["optional-dependencies"]
            return project["dependencies"] + [f'{line}; extra == "{e}"' for e, lines in optional.items() for line in lines]
    try:
        return importlib.metadata.requires("pydl") or []
    except importlib.metadata.PackageNotFoundError:
        return []
