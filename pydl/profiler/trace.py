"""A trace in Chrome's event format (https://ui.perfetto.dev opens it), of a bounded size.

Rows: steps, ranges, operations and native kernels as slices, memory as a counter. When a run has more slices than fit, the
shortest are left out, and the file says how many; the counter takes at most a fifth of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydl.errors import ArgumentError
from pydl.profiler.events import BETWEEN, Event

if TYPE_CHECKING:
    from pydl.profiler.result import Profile

__all__ = ["write_trace"]

_POINTS = 10_000  # of the memory curve
_STEPS, _RANGES, _OPERATIONS, _KERNELS = range(1, 5)
_NAMES = {_STEPS: "steps", _RANGES: "ranges", _OPERATIONS: "operations", _KERNELS: "native kernels"}


def write_trace(profile: Profile, path: str | os.PathLike[str], max_mb: float = 20.0) -> Path:
    """Write the trace; the file is at most `max_mb` million bytes long."""
    if not max_mb > 0:
        raise ArgumentError(f"profiler.trace: max_mb={max_mb}; expected a positive size")
    room = int(max_mb * 1e6) - 2000  # head and tail
    kept = _fitting(_memory(profile), room // 5)
    slices = list(_longest_first(profile))
    longest = _fitting(slices, room - sum(len(line) + 2 for line in kept))
    dropped = len(slices) - len(longest)
    kept += longest
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [json.dumps({"ph": "M", "pid": 1, "tid": t, "name": "thread_name", "args": {"name": n}}) for t, n in _NAMES.items()]
    about = json.dumps({**profile.about, "left_out": dropped})
    path.write_text('{"traceEvents":[\n' + ",\n".join(names + kept) + f'\n],"otherData":{about}}}\n')
    return path


def _longest_first(profile: Profile) -> Iterator[str]:
    origin = profile.steps[0].start if profile.steps else 0
    slices = list(_slices(profile))
    slices.sort(key=lambda s: s[3] - s[2], reverse=True)
    for row, name, start, end, args in slices:
        yield json.dumps({"ph": "X", "pid": 1, "tid": row, "name": name[:80], "ts": (start - origin) / 1e3,
                          "dur": (end - start) / 1e3, "args": args}, separators=(",", ":"))  # fmt: skip


def _memory(profile: Profile) -> Iterator[str]:
    origin = profile.steps[0].start if profile.steps else 0
    every = -(-len(profile.memory) // _POINTS) or 1
    for p in profile.memory[::every]:
        yield json.dumps({"ph": "C", "pid": 1, "name": "memory, MiB", "ts": (p.time - origin) / 1e3,
                          "args": {"in use": round(p.current / 2**20, 3)}}, separators=(",", ":"))  # fmt: skip


def _fitting(lines: Iterable[str], room: int) -> list[str]:
    """As many of the first lines as there is room for."""
    kept = []
    for line in lines:
        room -= len(line) + 2
        if room < 0:
            break
        kept.append(line)
    return kept


def _slices(profile: Profile) -> Iterator[tuple[int, str, int, int, dict[str, Any]]]:
    """(row, name, start, end, arguments) of everything that has a length."""
    for s in profile.steps:
        yield _STEPS, f"step {s.number}", s.start, s.end, {}
    for r in profile.ranges:
        yield _RANGES, r.name, r.start, r.end, {}
    for e in profile.events:
        for k in e.kernels:
            yield _KERNELS, k.name, k.start, k.start + k.duration, {"waited_us": k.waited / 1e3, "threads": k.threads}
        if e.phase != BETWEEN:
            yield _OPERATIONS, e.name if e.phase != "backward" else f"{e.name} backward", e.start, e.end, _arguments(e, profile)


def _arguments(e: Event, profile: Profile) -> dict[str, Any]:
    wall = max(e.wall, 1)
    least = profile.limits.seconds(e.flops, e.bytes, e.itemsize)
    return {
        "module": e.path[:120], "inputs": " ".join("x".join(map(str, s)) for s in e.inputs[:6])[:160],
        "output": "x".join(map(str, e.output)), "flops": e.flops, "bytes": e.bytes, "gflop/s": round(e.flops / wall, 2),
        "gb/s": round(e.bytes / wall, 2), "% of roofline": round(1e11 * least / wall, 1), "kernel_us": e.kernel / 1e3,
        "python_us": e.python / 1e3, "waiting_us": e.waiting / 1e3, "threads": e.threads, "allocations": e.allocations,
        "page faults": e.faults, "memory peak": e.peak,
    }  # fmt: skip
