"""Speed and memory beside PyTorch (pip install 'pydl[peers]'); every benchmark checks its outputs before it times them.

steps: whole training steps of thirteen networks (or forward passes); kernels: single kernels; overhead: small operations;
memory: peak memory and page faults of a step; threads: what more threads gain; vision: images beside Pillow and PyTorch;
profiler: what pydl.profiler costs while it records a step; roofline: steps beside the machine's limits (both pydl alone).
docs/benchmarks.md says how to read the results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydl
from benchmarks import kernels, memory, overhead, profiling, report, roofline, steps, threads, vision
from benchmarks.cases import CASES
from benchmarks.peers import FORMS

BENCHMARKS = ("steps", "kernels", "overhead", "memory", "threads", "vision", "profiler", "roofline")
# Options that only some benchmarks know; the others would leave them unheeded.
ONLY_FOR = {
    "autocast": ("steps",), "case": ("steps", "memory", "threads", "profiler", "roofline"), "family": ("kernels",),
    "forms": ("steps",), "inference": ("steps", "memory", "threads"), "json": tuple(b for b in BENCHMARKS if b != "vision"),
    "markdown": ("steps", "roofline"), "only": ("kernels",), "png": ("steps", "kernels"), "processor_time": ("kernels",),
    "resume": ("steps",), "rounds": tuple(b for b in BENCHMARKS if b != "memory"),
}  # fmt: skip
# What an option that was not given stands for.
DEFAULTS: dict[str, Any] = {"case": list(CASES), "family": list(kernels.FAMILIES), "forms": list(FORMS), "only": "", "rounds": 9}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=BENCHMARKS)
    parser.add_argument("--peer", choices=["torch"], default="torch", help="whom to compare with")
    parser.add_argument("--case", nargs="*", choices=list(CASES), metavar="CASE",
                        help=f"networks (default all): {', '.join(CASES)}")
    parser.add_argument("--family", nargs="*", choices=kernels.FAMILIES, metavar="FAMILY",
                        help=f"kernels (default all): {', '.join(kernels.FAMILIES)}")
    parser.add_argument("--only", metavar="TEXT", help="kernels: those with this text in their name")
    parser.add_argument("--inference", action="store_true", help="forward passes without gradients instead of training steps")
    parser.add_argument("--autocast", action="store_true",
                        help="steps: both sides under their autocast to bfloat16 (pydl.autocast, torch.autocast)")
    parser.add_argument("--threads", type=int, help="threads of both")
    parser.add_argument("--rounds", type=int, help="turns to take the median of (default 9)")
    parser.add_argument("--forms", nargs="*", choices=FORMS, metavar="FORM",
                        help="steps: ways to run a side, of which the fastest counts (default all; a side of which none is named "
                             f"tries all of its own): {', '.join(FORMS)}; the first step of compile takes up to minutes")
    parser.add_argument("--processor-time", action="store_true",
                        help="kernels on one thread: count processor time, which other programs on the machine disturb less")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here, after each case or kernel")
    parser.add_argument("--resume", action="store_true",
                        help="steps: keep the cases that the file of --json holds from an earlier run, measure the others")
    parser.add_argument("--markdown", type=Path, help="steps, roofline: write the table for a document here")
    parser.add_argument("--png", type=Path, help="steps, kernels: draw the ratios here")
    args = parser.parse_args()
    for name, known in ONLY_FOR.items():
        if getattr(args, name) not in (None, False) and args.what not in known:
            parser.error(f"--{name.replace('_', '-')} is for {', '.join(known)}, not for {args.what}")
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.resume and not args.json:
        parser.error("--resume needs the --json of the run that it goes on with")
    return args


Rows = list[dict[str, Any]]


def collect(rows: Iterable[dict[str, Any]], args: argparse.Namespace, before: Iterable[dict[str, Any]] = ()) -> Rows:
    """All rows, with a sign of life for each; a run that ends early leaves in the file what it has."""
    kept = list(before)
    for row in rows:
        kept.append(row)
        if args.json:
            report.save_json(args.json, args.what, kept)
        name = row.get("case") or f"{row['kernel']}, {row['direction']}"
        print(f"  {name}: " + (f"{row['ratio']:.2f}x" if "ratio" in row else "done"), file=sys.stderr, flush=True)
    return kept


def main() -> None:
    args = arguments()
    if args.threads:
        pydl.set_num_threads(args.threads)
    count = pydl.get_num_threads()
    if args.processor_time and count > 1:
        raise SystemExit("--processor-time needs --threads 1: it adds up the time of all threads")
    kind = ("forward pass" if args.inference else "training step") + (", autocast to bfloat16" if args.autocast else "")
    where = f"{count} thread{'s' if count > 1 else ''}"
    if args.what == "steps":
        asked = {"threads": count, "rounds": args.rounds, "inference": args.inference, "autocast": args.autocast,
                 "forms": sorted(args.forms)}  # fmt: skip
        done = report.load_steps(args.json, asked) if args.resume else []
        left = [c for c in args.case if c not in {row["case"] for row in done}]
        rows = collect(steps.run(left, count, args.rounds, args.inference, args.autocast, args.forms), args, done)
        rows.sort(key=lambda row: list(CASES).index(row["case"]))
        show = steps.table
    elif args.what == "memory":
        kind, rows, show = f"peak memory, {kind}", collect(memory.run(args.case, count, args.inference), args), memory.table
    elif args.what == "threads":
        rows, show = collect(threads.run(args.case, count, args.rounds, args.inference), args), threads.table
    elif args.what == "roofline":
        kind, rows, show = "roofline", collect(roofline.run(args.case, args.rounds), args), roofline.table
    elif args.what == "profiler":
        kind, rows, show = "profiler", collect(profiling.run(args.case, args.rounds), args), profiling.table
    else:
        import torch

        torch.set_num_threads(count)
        if args.what == "vision":
            vision.run(args.rounds)
            return
        kind = args.what
        if args.what == "overhead":
            rows, show = overhead.run(args.rounds), None
        else:
            rows, show = collect(kernels.run(args.family, args.only, args.rounds, args.processor_time), args), kernels.table
    if show is not None:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 170).print(show(rows, f"{kind}, {where}"))
    if args.json:
        report.save_json(args.json, args.what, rows)
    if args.markdown:
        args.markdown.write_text(steps.markdown(rows, kind) if args.what == "steps" else roofline.markdown(rows))
    if args.png:
        print(report.bars(args.png, rows, f"{kind}, {where}"))


if __name__ == "__main__":
    main()
