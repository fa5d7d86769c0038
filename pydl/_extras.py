"""Optional dependencies: imported when first needed, with the command that installs them when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from pydl.errors import MissingExtraError


def require(module: str, extra: str, purpose: str) -> Any:
    """The module, or `MissingExtraError` saying which extra of pydl provides it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise  # it is there, but something that it needs is not: its own message says what
        raise MissingExtraError(f"{purpose} needs {package}, which is not installed: pip install 'pydl[{extra}]'") from None
