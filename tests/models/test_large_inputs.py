"""Every network takes its published input forwards, backwards and through two steps of training."""

import numpy as np
import pytest

import pydl
from pydl import models

LARGE = [n for n in models.list() if (s := models.entry(n).input_size) is not None and len(s) == 3 and s[0] == 3 and s[1] >= 200]


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_published_size(name):
    """All parameters get finite gradients, which move the loss of one batch down or leave it finite."""
    pydl.manual_seed(0)
    shape = models.entry(name).input_size
    model = models.create(name, num_classes=4)
    optimizer = pydl.optim.SGD(model.parameters(), lr=1e-4)
    x, y = pydl.randn(2, *shape), pydl.tensor([0, 3])
    for _ in range(2):
        out = model(x)
        loss = sum(pydl.cross_entropy(o, y) for o in (out if isinstance(out, tuple) else (out,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert np.isfinite(loss.item())
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert np.isfinite(p.grad.numpy()).all(), key


def test_the_list_is_not_empty():
    assert {"alexnet", "vgg16", "googlenet", "resnet50", "densenet121", "vit_b_16", "xception"} <= set(LARGE)
