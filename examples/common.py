"""What the examples share: options, training that can be interrupted and resumed, pictures, and the closing table."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pydl
from pydl import nn
from pydl.data import FashionMNIST, MNIST5k, Subset
from pydl.data.pictures import Sprites
from pydl.train import Trainer


class Result(NamedTuple):
    """One figure that an example measured, and what the literature or theory says."""

    name: str
    measured: float
    documented: str
    holds: bool | None = None  # whether the two agree; None if they are not comparable in this run


def options(description: str, epochs: int, quick_epochs: int, **more: dict[str, Any]) -> argparse.Namespace:
    """Parse the options that every example has; `more` maps further option names to ``add_argument`` settings."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, help=f"passes over the training data (default {epochs})")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and everything random (default 0)")
    parser.add_argument("--threads", type=int, help="threads of the kernels; results do not depend on it")
    parser.add_argument("--out", type=Path, default=Path("out") / name, help=f"folder for results (default out/{name})")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in the same folder")
    parser.add_argument("--quick", action="store_true", help=f"{quick_epochs} epochs on little data, to see that all works")
    for option, settings in more.items():
        parser.add_argument(f"--{option}", **settings)
    args = parser.parse_args()
    if args.epochs is None:
        args.epochs = quick_epochs if args.quick else epochs
    if args.threads:
        pydl.set_num_threads(args.threads)
    pydl.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    args.started = time.perf_counter()
    return args


class Standardise(nn.Module):
    """(x - mean) / std of the images to train on, in front of a network."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        self.mean, self.std = float(images.mean()) / 255, float(images.std()) / 255

    def forward(self, x: Any) -> Any:
        return (x - self.mean) * (1 / self.std)


def small_images(name: str, train: int, test: int, download: bool = False) -> tuple[Any, Any, Any]:
    """So many real images of about 32 x 32 to train and to test on, evenly out of each set, and the set to train on itself.

    ``fashion``: clothes; ``mnist5k``: digits; ``sprites``: coloured figures of a game, those to test on being other figures.
    """
    if name == "mnist5k":
        sets = MNIST5k(train=True), MNIST5k(train=False)
    else:
        source = {"fashion": FashionMNIST, "sprites": Sprites}[name]
        sets = source(train=True, download=download), source(train=False, download=download)
    parts = [Subset(s, np.linspace(0, len(s) - 1, min(n, len(s))).astype(int)) for s, n in zip(sets, (train, test), strict=True)]
    return parts[0], parts[1], sets[0]


DATA: dict[str, Any] = {
    "data": {"choices": ["fashion", "mnist5k", "sprites"], "default": "fashion", "help": "images (default fashion)"},
    "download": {"action": "store_true", "help": "fetch the images if they are not there"},
}


def fit(trainer: Trainer, train: Any, valid: Any, args: argparse.Namespace) -> pydl.train.History:
    """Train to the end; after Ctrl-C leave with a hint, the checkpoint is written."""
    history = trainer.fit(train, valid, args.epochs, resume=args.resume)
    if trainer.interrupted:
        raise SystemExit(130)
    return history


@contextmanager
def picture(path: Path, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[Any]:
    """A matplotlib figure with axes to draw on, saved at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, layout="constrained", **settings)
    yield axes
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")


def finish(args: argparse.Namespace, results: list[Result]) -> None:
    """Print what was measured beside what is documented, and write both to metrics.json."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "measured", "documented", "")
    for r in results:
        table.add_row(r.name, f"{r.measured:.4g}", r.documented, "" if r.holds is None else "holds" if r.holds else "differs")
    Console().print(table)
    figures = {
        r.name: {"measured": float(r.measured), "documented": r.documented, "holds": None if r.holds is None else bool(r.holds)}
        for r in results
    }
    run = {
        "seed": args.seed, "epochs": args.epochs, "quick": args.quick, "threads": pydl.get_num_threads(),
        "seconds": round(time.perf_counter() - args.started, 1), "pydl": pydl.__version__,
    }  # fmt: skip
    path = args.out / "metrics.json"
    path.write_text(json.dumps({"run": run, "results": figures}, indent=2) + "\n")
    print(f"figures: {path}")
