"""U-Net: sizes of the paper's figure, which maps are handed across, and clear errors."""

import numpy as np
import pytest

import pydl
from pydl import models
from pydl.errors import ArgumentError, ShapeError


def test_sizes_of_the_paper():
    net = models.UNet(1, 2, base=2, padding="valid", batch_norm=False)
    sizes = []
    for up in net.up:
        up.register_forward_hook(lambda m, a, out: sizes.append(out.shape[2]))
    with pydl.no_grad():
        out = net(pydl.zeros(1, 1, 572, 572))
    assert out.shape == (1, 2, 388, 388)
    assert sizes == [52, 100, 196, 388]


def test_same_padding_keeps_the_size_and_every_part_learns():
    net = models.UNet(3, 5, base=4, depth=2)
    x = pydl.randn(2, 3, 16, 24)
    scores = net(x)
    assert scores.shape == (2, 5, 16, 24)
    pydl.cross_entropy(scores, pydl.tensor(np.zeros((2, 16, 24), np.int64))).backward()
    assert all(float(np.abs(p.grad.numpy()).max()) > 0 for n, p in net.named_parameters() if n.endswith("weight"))


def test_maps_go_across():
    """With the way through the bottom cut off, the output still depends on the input."""
    net = models.UNet(1, 1, base=16, depth=1, batch_norm=False)
    with pydl.no_grad():
        for p in net.down[1].parameters():
            p.zero_()
        a, b = (net(pydl.randn(1, 1, 4, 4)).numpy() for _ in range(2))
    assert np.abs(a - b).max() > 0


def test_wrong_sizes():
    net = models.UNet(1, 1, base=2, depth=2)
    with pytest.raises(ShapeError, match=r"a map of 9 x 12 cannot be halved; height and width .* multiples of 4"):
        net(pydl.zeros(1, 1, 18, 24))
    with pytest.raises(ArgumentError, match="padding='full'"):
        models.UNet(padding="full")
    with pytest.raises(ArgumentError, match="depth=0"):
        models.UNet(depth=0)
