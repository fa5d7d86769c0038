"""Averages of weights and SWALR against torch.optim.swa_utils."""

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.optim import swa_utils

torch = pytest.importorskip("torch")
peer = torch.optim.swa_utils


def networks():
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
    ours = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def averaging(kind, use_buffers):
    if kind == "avg_fn":
        given = {"avg_fn": lambda a, c, n: 0.75 * a + 0.25 * c}
        return [given | {"use_buffers": use_buffers}] * 2
    options = []
    for module in (swa_utils, peer):
        made = {
            "default": {}, "swa": {"avg_fn": module.get_swa_avg_fn()}, "ema": {"avg_fn": module.get_ema_avg_fn(0.9)},
            "multi_ema": {"multi_avg_fn": module.get_ema_multi_avg_fn(0.9)},
            "multi_swa": {"multi_avg_fn": module.get_swa_multi_avg_fn()},
        }[kind]  # fmt: skip
        options.append(made | {"use_buffers": use_buffers})
    return options


CASES = [(kind, b) for kind in ("default", "swa", "ema", "multi_ema", "multi_swa", "avg_fn") for b in (False, True)]


@pytest.mark.parametrize(("kind", "use_buffers"), [c for c in CASES if c != ("multi_swa", True)])  # torch fails with that one
def test_the_same_averages(kind, use_buffers):
    ours, theirs = networks()
    mine, yours = averaging(kind, use_buffers)
    average, expected = swa_utils.AveragedModel(ours, **mine), peer.AveragedModel(theirs, **yours)
    o, t = optim.SGD(ours.parameters(), lr=0.1, momentum=0.9), torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(6):
        x, y = rng.standard_normal((8, 5), dtype=np.float32), rng.integers(0, 3, 8)
        for model, optimizer, loss, tensor in (
            (ours, o, pydl.cross_entropy, pydl.from_numpy), (theirs, t, torch.nn.functional.cross_entropy, torch.from_numpy),
        ):  # fmt: skip
            optimizer.zero_grad()
            loss(model(tensor(x)), tensor(y)).backward()
            optimizer.step()
        average.update_parameters(ours)
        expected.update_parameters(theirs)
    assert list(average.state_dict()) != []
    assert set(average.state_dict()) == set(expected.state_dict())
    for key, value in expected.state_dict().items():
        if use_buffers and key == "module.1.num_batches_tracked":
            assert average.state_dict()[key].item() == 6  # copied here; torch rounds down the average of whole numbers
            continue
        np.testing.assert_allclose(average.state_dict()[key].numpy(), value.numpy(), rtol=2e-5, atol=1e-6, err_msg=key)
    batches = [rng.standard_normal((n, 5), dtype=np.float32) for n in (8, 8, 4)]
    average.eval()
    swa_utils.update_bn([(pydl.from_numpy(b), None) for b in batches], average)
    peer.update_bn([(torch.from_numpy(b), None) for b in batches], expected)
    assert not average.training
    assert average.module[1].momentum == 0.1
    for key in ("module.1.running_mean", "module.1.running_var", "module.1.num_batches_tracked"):
        np.testing.assert_allclose(average.state_dict()[key].numpy(), expected.state_dict()[key].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("epochs", "strategy"), [(5, "cos"), (5, "linear"), (1, "cos"), (0, "linear")])
def test_the_same_rates(epochs, strategy):
    p, q = nn.Parameter(np.zeros(2, np.float32)), torch.nn.Parameter(torch.zeros(2))
    r, s = nn.Parameter(np.zeros(2, np.float32)), torch.nn.Parameter(torch.zeros(2))
    ours = optim.SGD([{"params": [p]}, {"params": [r], "lr": 0.5}], lr=0.1)
    theirs = torch.optim.SGD([{"params": [q]}, {"params": [s], "lr": 0.5}], lr=0.1)
    mine = swa_utils.SWALR(ours, [0.05, 0.9], epochs, strategy)
    yours = peer.SWALR(theirs, [0.05, 0.9], epochs, strategy)
    for _ in range(8):
        assert [g["lr"] for g in ours.param_groups] == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-9)
        theirs.step()
        mine.step()
        yours.step()
