"""Speed beside PyTorch (pip install 'pydl[peers]'): every benchmark checks its outputs before it times them.

steps: whole training steps of networks; rnn, attention, vision: these kernels; overhead: the cost of small operations.
"""

import argparse
import json
from pathlib import Path

import pydl
from benchmarks import attention, overhead, rnn, steps, vision
from benchmarks.cases import CASES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=["steps", "rnn", "attention", "vision", "overhead"])
    parser.add_argument("--case", nargs="*", choices=list(CASES), default=list(CASES), help="networks for steps (default all)")
    parser.add_argument("--threads", type=int, help="threads of both")
    parser.add_argument("--rounds", type=int, default=9, help="turns to take the median of (default 9)")
    parser.add_argument("--compile", action="store_true", help="steps: also torch.compile; its first call takes minutes")
    parser.add_argument("--json", type=Path, help="write the figures of steps or overhead here")
    args = parser.parse_args()
    import torch

    if args.threads:
        pydl.set_num_threads(args.threads)
    torch.set_num_threads(pydl.get_num_threads())
    if args.what in ("rnn", "attention", "vision"):
        {"rnn": rnn, "attention": attention, "vision": vision}[args.what].run(args.rounds)
        return
    rows = steps.run(args.case, args.rounds, args.compile) if args.what == "steps" else overhead.run(args.rounds)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
