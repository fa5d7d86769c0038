"""The networks of the training-step benchmark, each for pydl and for PyTorch from one description.

pydl's layers carry PyTorch's names, so one function builds both: it is given the package (``pydl`` or ``torch``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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


def googlenet(package: Any) -> Any:
    """GoogLeNet (Szegedy et al. 2014) with batch normalisation and without the auxiliary classifiers, as in torchvision."""
    nn = package.nn

    def conv(cin: int, cout: int, kernel: int, stride: int = 1) -> list[Any]:
        layer = nn.Conv2d(cin, cout, kernel, stride=stride, padding=kernel // 2, bias=False)
        return [layer, nn.BatchNorm2d(cout, eps=0.001), nn.ReLU()]

    class Inception(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, cin: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int) -> None:
            super().__init__()
            self.one = nn.Sequential(*conv(cin, one, 1))
            self.three = nn.Sequential(*conv(cin, three_in, 1), *conv(three_in, three, 3))
            self.five = nn.Sequential(*conv(cin, five_in, 1), *conv(five_in, five, 3))
            self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), *conv(cin, pool, 1))

        def forward(self, x: Any) -> Any:
            return package.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)

    def halve() -> Any:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        *conv(3, 64, 7, 2), halve(), *conv(64, 64, 1), *conv(64, 192, 3), halve(),
        Inception(192, 64, 96, 128, 16, 32, 32), Inception(256, 128, 128, 192, 32, 96, 64), halve(),
        Inception(480, 192, 96, 208, 16, 48, 64), Inception(512, 160, 112, 224, 24, 64, 64),
        Inception(512, 128, 128, 256, 24, 64, 64), Inception(512, 112, 144, 288, 32, 64, 64),
        Inception(528, 256, 160, 320, 32, 128, 128), nn.MaxPool2d(2, 2, ceil_mode=True),
        Inception(832, 256, 160, 320, 32, 128, 128), Inception(832, 384, 192, 384, 48, 128, 128),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000),
    )  # fmt: skip


def densenet121(package: Any) -> Any:
    """DenseNet-121 (Huang et al. 2016): growth 32, blocks of 6, 12, 24, 16 layers."""
    nn = package.nn

    class Layer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, cin: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.BatchNorm2d(cin), nn.ReLU(), nn.Conv2d(cin, 128, 1, bias=False),
                nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1, bias=False),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return package.cat([x, self.body(x)], 1)

    layers = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for i, count in enumerate((6, 12, 24, 16)):
        if i:
            half = channels // 2
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, half, 1, bias=False), nn.AvgPool2d(2)]
            channels = half
        for _ in range(count):
            layers.append(Layer(channels))
            channels += 32
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(channels, 1000))  # fmt: skip


def unet(package: Any) -> Any:
    """U-Net (Ronneberger et al. 2015) with base 64, batch normalisation and "same" padding; two classes a pixel."""
    nn = package.nn

    def block(cin: int, cout: int) -> Any:
        layers: list[Any] = []
        for c in (cin, cout):
            layers += [nn.Conv2d(c, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
        return nn.Sequential(*layers)

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            widths = (64, 128, 256, 512, 1024)
            self.down = nn.ModuleList([block(cin, cout) for cin, cout in zip((3, *widths), widths, strict=False)])
            self.pool = nn.MaxPool2d(2)
            self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1]])
            self.join = nn.ModuleList([block(2 * w, w) for w in widths[-2::-1]])
            self.out = nn.Conv2d(64, 2, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for i, down in enumerate(self.down):
                x = down(self.pool(x) if i else x)
                kept.append(x)
            kept.pop()
            for up, join in zip(self.up, self.join, strict=True):
                x = join(package.cat([kept.pop(), up(x)], 1))
            return self.out(x)

    return UNet()
