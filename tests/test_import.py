"""`import pydl` stays light: which modules it loads, counted rather than timed."""

import json
import subprocess
import sys

HEAVY = {
    "matplotlib", "rich", "PIL", "scipy", "torch", "safetensors", "ml_dtypes", "sklearn", "argparse", "asyncio",
    "multiprocessing",
}  # fmt: skip


def loaded_by(statement):
    """Modules that the statement loads beyond those of NumPy."""
    code = (
        f"import sys, numpy; before = set(sys.modules)\n{statement}\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_few_modules():
    modules = loaded_by("import pydl")
    own = {m for m in modules if m.partition(".")[0] == "pydl"}
    assert "pydl.tensor" in own
    assert len(own) <= 60
    assert len(modules - own) <= 30, sorted(modules - own)


def test_import_leaves_the_optional_parts_alone():
    modules = loaded_by("import pydl")
    assert not {m.partition(".")[0] for m in modules} & HEAVY
    assert not modules & {f"pydl.{name}" for name in ("nn", "train", "optim", "data", "models", "viz", "cli", "summary")}


def test_layers_models_and_summary_load_no_optional_package():
    modules = loaded_by("import pydl.nn, pydl.models, pydl.summary, pydl.optim, pydl.viz")
    assert "pydl.models.mlp" in modules
    assert not {m.partition(".")[0] for m in modules} & {"matplotlib", "rich", "PIL", "scipy", "torch", "sklearn"}


def test_lazy_modules_exist():
    import importlib

    import pydl

    for name in sorted(pydl._LAZY_MODULES):
        assert getattr(pydl, name) is importlib.import_module(f"pydl.{name}")
