from typing import Any

MAPS: dict[str, int]
REDUCTIONS: dict[str, int]
__version__: str

def __getattr__(name: str) -> Any: ...
