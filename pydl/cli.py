"""The command ``pydl``: ``pydl info``, ``pydl summary``, ``pydl profile``, ``pydl predict``; also ``python -m pydl``.

Exit codes: 0 done, 1 an error that a message on standard error explains, 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydl.errors import ArgumentError, PydlError

__all__ = ["main"]

_DEVELOPMENT = ("dev", "test", "peers")  # for people who change pydl: not shown as missing


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except PydlError as error:
        print(f"pydl {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    import pydl

    parser = argparse.ArgumentParser(prog="pydl", description="pydl: a compiled deep-learning framework")
    parser.add_argument("--version", action="version", version=f"pydl {pydl.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="version, instruction set, threads, memory, dependencies")
    info.add_argument("--json", action="store_true", help="print it all as JSON")
    info.set_defaults(run=_info)

    table = commands.add_parser(
        "summary", help="the layers of a model: output shape, parameters, FLOPs, receptive field, memory",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a model once on zeros and print its layers.",
        epilog="examples:\n  pydl summary lenet5\n  pydl summary mlp --arg 'sizes=(784, 100, 10)'\n"
        "  pydl summary package.nets:ResNet --input 1x3x224x224\n  pydl summary path/to/net.py:Net --input 8x40 --dtype int64",
    )  # fmt: skip
    _add_model(table)
    table.add_argument("--depth", type=int, metavar="N", help="show modules down to this depth")
    table.add_argument("--list", action="store_true", help="print the names of the networks that pydl has")
    table.set_defaults(run=_summary, error=table.error)
    _add_profile(commands)
    _add_predict(commands)
    return parser


def _add_profile(commands: Any) -> None:
    profile = commands.add_parser(
        "profile", help="where the time and memory of a model go: operations, layers, roofline, trace",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a model on random data and print what each operation, module and layer takes.",
        epilog="examples:\n  pydl profile resnet18 --input 8x3x224x224 --train --out profile\n"
        "  pydl profile path/to/net.py:Net --input 8x40 --dtype int64 --threads 1",
    )  # fmt: skip
    _add_model(profile)
    profile.add_argument("--train", action="store_true",
                         help="whole training steps: forward, loss, backward, SGD with momentum")
    profile.add_argument("--steps", type=_positive, default=3, metavar="N", help="recorded steps (default 3)")
    profile.add_argument("--warmup", type=int, default=2, metavar="N", help="steps before, thrown away (default 2)")
    profile.add_argument("--threads", type=_positive, metavar="N", help="threads of the kernels")
    profile.add_argument("--depth", type=int, metavar="N", help="show modules down to this depth")
    profile.add_argument("--rows", type=_positive, default=25, metavar="N", help="rows of each table (default 25)")
    profile.add_argument("--out", type=Path, metavar="DIR",
                         help="save roofline.png, memory.png (need matplotlib), trace.json, profile.json.gz, tables.txt here")
    profile.add_argument("--compare", type=Path, metavar="FILE", help="compare with a profile.json.gz saved before")
    profile.set_defaults(run=_profile, error=profile.error)


def _add_predict(commands: Any) -> None:
    command = commands.add_parser(
        "predict", help="what is in a picture: the likeliest classes, and the picture with them beside it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Classify pictures with a trained network.",
        epilog="examples:\n  pydl predict efficientnet_lite0 --weights imagenet --download cat.jpg --out cat-annotated.png\n"
        "  pydl predict lenet5 --weights out/lenet5/best.safetensors digit.png\n"
        "  pydl predict resnet18 --weights mine.pth --arg num_classes=8 --classes names.txt a.jpg b.jpg",
    )  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a name (see pydl summary --list), or path/to/file.py:Class")
    command.add_argument("image", metavar="IMAGE", nargs="+", type=Path, help="files that Pillow reads: JPEG, PNG, ...")
    command.add_argument("--weights", metavar="W", required=True, help="a .safetensors or .pth file, or: imagenet")
    command.add_argument("--download", action="store_true", help="fetch published weights and names if they are not there")
    command.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to show (default 5)")
    command.add_argument("--out", type=Path, metavar="FILE", help="save the annotated picture; a folder for several")
    command.add_argument("--classes", type=Path, metavar="FILE", help="names of the classes, one in a line")
    command.add_argument("--size", type=_size, metavar="224x224", help="height and width that the network is given")
    command.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="argument for the constructor")
    command.set_defaults(run=_predict)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?",
                        help="a name (pydl summary --list), package.module:Class, or path/to/file.py:Class")
    parser.add_argument("--input", action="append", metavar="1x1x28x28", type=_size,
                        help="shape of the input with the batch axis; once for each input")
    parser.add_argument("--dtype", action="append", metavar="DTYPE", help="element type of each input (default float32)")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="argument for the constructor")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _size(text: str) -> tuple[int, ...]:
    parts = text.lower().replace(",", "x").strip("()").split("x")
    if not all(p.strip().isdigit() for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as 1x1x28x28")
    return tuple(int(p) for p in parts)


# --------------------------------------------------------------------------- info


def _info(args: argparse.Namespace) -> None:
    from pydl import environment

    found = environment.collect()
    if args.json:
        print(json.dumps(found, indent=2))
        return
    rows = _info_rows(found)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name.ljust(width)}  {text}".rstrip())


def _info_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    isa, threads, pool = found["instruction_set"], found["threads"], found["memory"]
    quota = threads["cgroup_quota"]
    rows = [
        ("pydl", f"{found['pydl']['version']} in {found['pydl']['location']}"),
        ("python", f"{found['python']['version']} ({found['python']['executable']})"),
        ("system", found["system"]["platform"]),
        ("processor", found["system"]["processor"]),
        ("instruction set", isa["active"] + (" (PYDL_ISA)" if isa["forced_by"] else "")
         + f", available: {', '.join(isa['available'])}"),
        ("bfloat16", isa["bfloat16"]),
        ("threads", f"{threads['used']}, from: {threads['source']}"),
        ("", f"affinity {threads['affinity']} of {threads['cpus']} CPUs, cgroup quota "
             + ("none" if quota is None else f"{quota:g} CPUs")),
        *(("", f"ignored {text}") for text in threads["ignored"]),
        ("memory pool", ("on" if pool["pool"] else "off (PYDL_POOL=0)")
         + (", no cap" if pool["cap"] < 0 else f", cap {pool['cap'] / 2**20:.0f} MiB")),
        ("", f"in use {_mib(pool['current'])}, peak {_mib(pool['peak'])}, reserved {_mib(pool['reserved'])}, "
             f"{pool['allocations']} allocations ({pool['system_allocations']} from the system)"),
    ]  # fmt: skip
    for name, version in found["dependencies"].items():
        rows.append(("dependencies" if name == next(iter(found["dependencies"])) else "", f"{name} {version or 'MISSING'}"))
    for i, (extra, packages) in enumerate((e, p) for e, p in found["extras"].items() if e not in _DEVELOPMENT):
        missing = [name for name, version in packages.items() if version is None]
        there = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        text = there if not missing else f"missing {', '.join(missing)}: pip install 'pydl[{extra}]'"
        rows.append(("extras" if i == 0 else "", f"{extra}: {text}"))
    return rows


def _mib(n: int) -> str:
    return f"{n / 2**20:.1f} MiB"


# --------------------------------------------------------------------------- summary


def _summary(args: argparse.Namespace) -> None:
    from pydl import models
    from pydl.summary import summary

    if args.list:
        print("\n".join(models.list()))
        return
    model, sizes, dtypes = _model_and_inputs(args)
    summary(model, sizes, dtypes, args.depth).show()


def _profile(args: argparse.Namespace) -> None:
    import pydl
    from pydl.profiler.command import profile_model

    if args.threads:
        pydl.set_num_threads(args.threads)
    model, sizes, dtypes = _model_and_inputs(args)
    profile_model(model, args.model, sizes, dtypes, train=args.train, steps=args.steps, warmup=max(args.warmup, 0),
                  rows=args.rows, depth=args.depth, out=args.out, compare=args.compare)


def _model_and_inputs(args: argparse.Namespace) -> tuple[Any, list[tuple[int, ...]], list[Any]]:
    """The module named on the command line, and the shape and dtype of each of its inputs."""
    if args.model is None:
        args.error("MODEL is required; pydl summary --list prints the names that pydl has")
    model, usual = load_model(args.model, _arguments(args.arg))
    sizes = args.input
    if sizes is None:
        if usual is None:
            raise ArgumentError(f"{args.model}: which input shape? Give it with the batch axis: --input 1x3x224x224")
        sizes = [(1, *usual)]
    dtypes = [_dtype(text) for text in args.dtype or ["float32"]]
    if len(dtypes) == 1:
        dtypes *= len(sizes)
    return model, sizes, dtypes


# --------------------------------------------------------------------------- predict


def _predict(args: argparse.Namespace) -> None:
    import dataclasses

    from pydl import models, nn
    from pydl.models.predict import Predictor

    arguments = _arguments(args.arg)
    wanted = models.preprocessing(args.model)
    if os.path.splitext(args.weights)[1]:
        with nn.init.skip():
            model, _ = load_model(args.model, arguments)
        models.load_weights(model, args.weights)
        names = None
    else:
        known = models.published(args.model, args.weights)
        try:
            model = models.create(args.model, weights=args.weights, download=args.download, **arguments)
        except models.WeightsNotFoundError as error:
            raise PydlError(f"{error}; or --download") from None
        names = known.classes(args.download) if arguments.get("num_classes", known.num_classes) == known.num_classes else None
    if args.size is not None:
        if len(args.size) != 2:
            raise ArgumentError(f"--size {'x'.join(map(str, args.size))}: expected height and width, 224x224 say")
        wanted = dataclasses.replace(wanted, size=args.size, resize=None)
    if args.classes is not None:
        names = _lines(args.classes)
    predictor = Predictor(model, wanted, names)
    for path in args.image:
        found = predictor(path, args.top)
        if len(args.image) > 1:
            print(path)
        width = max(len(c.name) for c in found)
        for c in found:
            print(f"{100 * c.probability:6.2f} %  {c.name.ljust(width)}  ({c.number})")
        if args.out is not None:
            out = args.out if len(args.image) == 1 and args.out.suffix else args.out / f"{path.stem}-annotated.png"
            print(f"picture: {predictor.annotate(path, found, out)}")


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"--classes {path}: cannot be read: {error}") from None


def _arguments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value that is no Python literal is a string."""
    arguments = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ArgumentError(f"--arg {text}: expected NAME=VALUE")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def _dtype(text: str) -> Any:
    import numpy as np

    try:
        return np.dtype(text)
    except TypeError:
        known = "float32, float64, int64, int32, uint8 or bool"
        raise ArgumentError(f"--dtype {text}: no such element type; expected {known}") from None


def load_model(text: str, arguments: dict[str, Any]) -> tuple[Any, tuple[int, ...] | None]:
    """A module from a registered name, package.module:Class or file.py:Class, and the usual input shape if it is known."""
    from pydl import models
    from pydl.nn.module import Module

    place, colon, name = text.rpartition(":")
    usual = None
    if colon:
        made = _attribute(_import_file(Path(place)) if place.endswith(".py") else _import_module(place), name, place)
    else:
        entry = models.entry(text)
        made, usual = entry.make, entry.input_size
    if isinstance(made, Module):
        if arguments:
            raise ArgumentError(f"{text}: is a module already and takes no --arg")
        return made, usual
    if not callable(made):
        raise ArgumentError(f"{text}: is {type(made).__name__}, neither a module nor something that makes one")
    try:
        model = made(**arguments)
    except TypeError as error:
        raise ArgumentError(f"{text}: cannot be made: {error}; give constructor arguments as --arg NAME=VALUE") from error
    if not isinstance(model, Module):
        raise ArgumentError(f"{text}: made {type(model).__name__}, expected a pydl.nn.Module")
    return model, usual


def _attribute(module: Any, name: str, place: str) -> Any:
    for part in name.split("."):
        if not hasattr(module, part):
            there = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
            raise ArgumentError(f"{place}: there is no {name!r}; defined there: {', '.join(sorted(there)) or 'nothing callable'}")
        module = getattr(module, part)
    return module


def _import_module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as python -m does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        forms = "package.module:Class or path/to/file.py:Class"
        raise ArgumentError(f"{name}: cannot be imported: {error}; expected {forms}") from error


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ArgumentError(f"{path}: no such file")
    sys.path.insert(0, str(path.parent.resolve()))  # as python FILE does
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"{path}: cannot be imported: {error}") from error
    return module
