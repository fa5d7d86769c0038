"""Loader, metrics and trainer together: a run with workers that is taken up in the middle of an epoch ends with the same bits."""

import numpy as np
import pytest

import pydl
from pydl import metrics, nn, optim
from pydl.data import ArrayDataset, DataLoader, sample_generator
from pydl.train import Trainer

X = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
Y = (X[:, :3].sum(1) > 0).astype(np.int64)


def shaken(x):
    return x + sample_generator().normal(0, 0.1, x.shape).astype(np.float32)


def trainer(out, workers, kind):
    pydl.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    data = ArrayDataset(X, Y, transform=shaken)
    loader = DataLoader(data, 8, True, num_workers=workers, worker_type=kind, persistent_workers=workers > 0, seed=4)
    figures = {"accuracy": metrics.Accuracy(), "f": metrics.FScore(), "loss": metrics.TopKAccuracy(1)}
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = {"out": out, "checkpoint_every": 5, "keep": 99, "progress": False, "plot": False}
    return loader, Trainer(model, optimizer, pydl.cross_entropy, figures, **options)


def result(run):
    rows = [{k: v for k, v in row.items() if "second" not in k and "time" not in k} for row in run.history.rows]
    return [p.data.tobytes() for p in run.model.parameters()], rows


@pytest.mark.parametrize(("workers", "kind"), [(0, "process"), (2, "thread"), (1, "process")])
def test_resumed_in_the_middle_of_an_epoch(tmp_path, workers, kind):
    loader, whole = trainer(tmp_path / "whole", 0, kind)
    whole.fit(loader, epochs=2)
    loader, first = trainer(tmp_path / "other", workers, kind)
    first.fit(loader, epochs=2)
    assert result(first) == result(whole)
    loader, resumed = trainer(tmp_path / "other", workers, kind)
    resumed.fit(loader, epochs=2, resume=tmp_path / "other" / "checkpoints" / "checkpoint-000000015.safetensors")
    assert result(resumed) == result(whole)
    assert 0.75 < whole.history.rows[-1]["train_accuracy"] <= 1
