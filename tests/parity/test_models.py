"""LeNet-5 beside the same network in PyTorch: equal weights, 50 steps of training, equal losses."""

import numpy as np
import pytest

import pydl
from pydl import models, optim

torch = pytest.importorskip("torch")


def peer(form):
    """LeNet-5 under the names of `pydl.models.LeNet5`, so that state dictionaries carry over."""
    nn = torch.nn
    activation, pool = (nn.ReLU, nn.MaxPool2d) if form == "modern" else (nn.Tanh, nn.AvgPool2d)
    parts = [("c1", nn.Conv2d(1, 6, 5, padding=2)), ("act1", activation()), ("s2", pool(2)), ("c3", nn.Conv2d(6, 16, 5)),
             ("act3", activation()), ("s4", pool(2)), ("flatten", nn.Flatten()), ("c5", nn.Linear(400, 120)),
             ("act5", activation()), ("f6", nn.Linear(120, 84)), ("act6", activation()),
             ("output", nn.Linear(84, 10))]  # fmt: skip
    model = nn.Sequential()
    for name, part in parts:
        model.add_module(name, part)
    return model


def pictures(rng, n):
    """Ten classes of noisy strokes: a bar at a place and slope that depend on the class."""
    labels = rng.integers(0, 10, n)
    rows, columns = np.mgrid[:28, :28] / 27 - 0.5
    angle = labels[:, None, None] * np.pi / 10
    distance = np.abs(columns * np.cos(angle) + rows * np.sin(angle) + 0.1)
    return (np.exp(-((8 * distance) ** 2)) + rng.normal(0, 0.3, (n, 28, 28))).astype(np.float32)[:, None], labels


@pytest.mark.parametrize("form", ["modern", "classic"])
def test_fifty_steps_of_lenet5(form):
    pydl.manual_seed(3)
    model, other = models.LeNet5(form), peer(form)
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    peer_optimizer = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9)
    rng = np.random.default_rng(0)
    losses, expected = [], []
    for _ in range(50):
        x, y = pictures(rng, 16)
        optimizer.zero_grad()
        loss = pydl.cross_entropy(model(pydl.from_numpy(x)), pydl.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        peer_optimizer.zero_grad()
        peer_loss = torch.nn.functional.cross_entropy(other(torch.tensor(x)), torch.tensor(y))
        peer_loss.backward()
        peer_optimizer.step()
        expected.append(peer_loss.item())
    assert np.mean(expected[-5:]) < 0.7 * expected[0]  # it learns: the comparison is of more than the start
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-4)
