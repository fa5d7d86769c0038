"""The examples in docstrings say what really happens."""

import doctest
import importlib
import pkgutil

import pytest

import pydl

MODULES = [m.name for m in pkgutil.walk_packages(pydl.__path__, "pydl.") if m.name != "pydl.__main__"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch):
    from pydl.models import registry

    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))  # an example registers a network
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples():
    assert "pydl.viz.graph" in MODULES
    finder = doctest.DocTestFinder()
    assert any(test.examples for test in finder.find(importlib.import_module("pydl.viz.graph")))
