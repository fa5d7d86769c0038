"""Every operation that has a record, captured: replayed with the bits of eager, or refused; never replayed wrong."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import OpRecord, _arrays

import pydl
from pydl.graph.capture import CaptureWarning, capture

FAMILIES = sorted(p.stem for p in Path(__file__).parent.glob("test_*.py") if p.stem != Path(__file__).stem)


def _records(family: str) -> dict[str, OpRecord]:
    tables = [v for v in vars(importlib.import_module(family)).values() if isinstance(v, list | tuple)]
    return {r.name: r for table in tables for r in table if isinstance(r, OpRecord)}


def _step(record: OpRecord, leaves: list[Any]) -> Callable[..., list[Any]]:
    """Forward and backward of the operation; the leaves that need a gradient take the arguments' values by a product with 1."""

    def step(*inputs: Any) -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        results = record.function(*[x * leaf if leaf.requires_grad else x for x, leaf in zip(inputs, leaves, strict=True)])
        results = list(results) if isinstance(results, tuple | list) else [results]
        sums = [t.sum() for t in results if isinstance(t, pydl.Tensor) and t.requires_grad]
        if sums:
            total = sums[0]
            for s in sums[1:]:
                total = total + s
            total.backward()
        return [t for t in results if isinstance(t, pydl.Tensor)] + [leaf.grad for leaf in leaves if leaf.grad is not None]

    return step


def _tensors(arrays: list[np.ndarray]) -> list[Any]:
    return [pydl.tensor(a.astype(np.float32) if a.dtype.kind == "f" else a) for a in arrays]


def _agrees(record: OpRecord) -> bool:
    """Whether the operation is replayed; each call is compared with an eager one on other values."""
    batches = [_tensors([np.asarray(a) for a in _arrays(record.inputs, seed)]) for seed in range(2)]
    leaves = [pydl.ones(x.shape, requires_grad=True) if record.gradient and x.data.dtype.kind == "f" else pydl.zeros(1)
              for x in batches[0]]
    run, step = capture(_step(record, leaves)), _step(record, leaves)
    for i in range(5):
        captured = [t.detach().numpy().copy() for t in run(*batches[i % 2])]
        expected = [t.detach().numpy() for t in step(*batches[i % 2])]
        for mine, other in zip(captured, expected, strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=record.name)
    return run.replays


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_operations_have_the_bits_of_eager_ones(family: str) -> None:
    records = _records(family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        replayed = [name for name, record in records.items() if _agrees(record)]
    if family in ("test_activation", "test_conv", "test_matmul", "test_norm", "test_reduce"):
        assert len(replayed) > len(records) / 3
