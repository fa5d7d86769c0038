"""The networks that training steps are timed on, each for pydl and for PyTorch from one description.

pydl's layers carry PyTorch's names, so one function builds both: it is given the package (``pydl`` or ``torch``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """`build(package)` makes the model; `batch(rng)` draws (input, target) as ndarrays."""

    build: Callable[[Any], Any]
    batch: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    description: str


def images(n: int, *shape: int, classes: int = 10) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(0, classes, n)

    return draw


def tokens(batch: int, length: int, vocabulary: int) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        text = rng.integers(0, vocabulary, (batch, length + 1))
        return text[:, :-1].copy(), text[:, 1:].reshape(-1).copy()

    return draw


def mlp(package: Any) -> Any:
    nn = package.nn
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def mnist1d(package: Any) -> Any:
    nn = package.nn
    layers: list[Any] = []
    for channels in (1, 15, 15):
        layers += [nn.Conv1d(channels, 15, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(60, 10))


def lenet5(package: Any) -> Any:
    nn = package.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def alexnet(package: Any) -> Any:
    nn = package.nn
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip


def vgg16(package: Any) -> Any:
    nn = package.nn
    layers: list[Any] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    head = [nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def residual(package: Any, blocks: tuple[int, ...], bottleneck: bool) -> Any:
    """ResNet-18 (two 3x3 convolutions a block) or -50 (1x1, 3x3, 1x1)."""
    nn = package.nn

    def conv(cin: int, cout: int, kernel: int, stride: int = 1) -> list[Any]:
        return [nn.Conv2d(cin, cout, kernel, stride=stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(cout)]

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, cin: int, width: int, stride: int) -> None:
            super().__init__()
            cout = 4 * width if bottleneck else width
            if bottleneck:
                body = [*conv(cin, width, 1), nn.ReLU(), *conv(width, width, 3, stride), nn.ReLU(), *conv(width, cout, 1)]
            else:
                body = [*conv(cin, width, 3, stride), nn.ReLU(), *conv(width, cout, 3)]
            self.body = nn.Sequential(*body)
            self.skip = nn.Identity() if cin == cout and stride == 1 else nn.Sequential(*conv(cin, cout, 1, stride))

        def forward(self, x: Any) -> Any:
            return package.relu(self.body(x) + self.skip(x))

    layers = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    cin = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for i in range(count):
            layers.append(Block(cin, width, 2 if stage and i == 0 else 1))
            cin = 4 * width if bottleneck else width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 1000))


def language_model(kind: str) -> Callable[[Any], Any]:
    """Embedding 256, two recurrent layers of 512, scores over 5000 words."""

    def build(package: Any) -> Any:
        nn = package.nn

        class Model(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(5000, 256)
                self.rnn = getattr(nn, kind)(256, 512, num_layers=2, batch_first=True)
                self.out = nn.Linear(512, 5000)

            def forward(self, x: Any) -> Any:
                return self.out(self.rnn(self.embedding(x))[0]).reshape(-1, 5000)

        return Model()

    return build


def transformer(package: Any) -> Any:
    """Encoder and decoder of six layers, width 512, eight heads; source and target are the same tokens."""
    nn = package.nn

    class Model(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5000, 512)
            self.body = nn.Transformer(512, 8, 6, 6, 2048, dropout=0.0, batch_first=True)
            self.out = nn.Linear(512, 5000)

        def forward(self, x: Any) -> Any:
            e = self.embedding(x)
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.out(self.body(e, e, tgt_mask=mask, tgt_is_causal=True)).reshape(-1, 5000)

    return Model()


CASES = {
    "mlp": Case(mlp, images(128, 784), "784-512-512-10, batch 128"),
    "mnist1d": Case(mnist1d, images(100, 1, 40), "3 x conv 15, batch 100 x 1 x 40"),
    "lenet5": Case(lenet5, images(128, 1, 28, 28), "batch 128 x 1 x 28 x 28"),
    "alexnet": Case(alexnet, images(32, 3, 224, 224, classes=1000), "batch 32 x 3 x 224 x 224"),
    "vgg16": Case(vgg16, images(8, 3, 224, 224, classes=1000), "batch 8 x 3 x 224 x 224"),
    "resnet18": Case(lambda p: residual(p, (2, 2, 2, 2), False), images(16, 3, 224, 224, classes=1000), "batch 16, 224 x 224"),
    "resnet50": Case(lambda p: residual(p, (3, 4, 6, 3), True), images(8, 3, 224, 224, classes=1000), "batch 8, 224 x 224"),
    "lstm": Case(language_model("LSTM"), tokens(32, 64, 5000), "2 x 512, batch 32 x 64 tokens"),
    "gru": Case(language_model("GRU"), tokens(32, 64, 5000), "2 x 512, batch 32 x 64 tokens"),
    "transformer": Case(transformer, tokens(8, 64, 5000), "width 512, 6 + 6 layers, batch 8 x 64 tokens"),
}
