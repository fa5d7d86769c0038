"""The shapes of the kernel benchmark: layers of the thirteen networks, and the products that the targets name.

A kernel is a function of tensors, or a module, given for both packages by one description.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Kernel(NamedTuple):
    """`run(package, tensors)`, or `module(package)` called on them. Inputs are shapes of normal numbers, or (shape, limit) of
    integers below the limit; the gradients of the first `gradients` inputs (and of the module's parameters) are timed."""

    family: str
    name: str
    inputs: tuple[Any, ...]
    gradients: int
    run: Callable[[Any, list[Any]], Any] | None = None
    module: Callable[[Any], Any] | None = None
    images: bool = False  # the peer is also tried with channels-last memory


def _functional(name: str, *args: Any, **options: Any) -> Callable[[Any, list[Any]], Any]:
    return lambda package, tensors: getattr(package.nn.functional, name)(*tensors, *args, **options)


def _conv(x: Shape, cout: int, kernel: int, stride: int = 1, padding: int | None = None, note: str = "") -> Kernel:
    pad = kernel // 2 if padding is None else padding
    name = f"{'x'.join(map(str, x))} -> {cout}, {kernel}x{kernel}{f'/{stride}' if stride > 1 else ''}{note}"
    return Kernel("conv", name, (x, (cout, x[1], kernel, kernel)), 2, _functional("conv2d", None, stride, pad), images=True)


def _transposed(x: Shape, cout: int) -> Kernel:
    """As the U-Net has them: with a bias."""
    name = f"transposed {'x'.join(map(str, x))} -> {cout}, 2x2/2, unet"
    return Kernel("conv", name, (x, (x[1], cout, 2, 2), (cout,)), 3, _functional("conv_transpose2d", 2), images=True)


def _depthwise(x: Shape, stride: int = 1) -> Kernel:
    name = f"depthwise {'x'.join(map(str, x))}, 3x3{f'/{stride}' if stride > 1 else ''}"
    return Kernel("conv", name, (x, (x[1], 1, 3, 3)), 2, _functional("conv2d", None, stride, 1, 1, x[1]), images=True)


def _matmul(m: int, k: int, n: int, note: str = "") -> Kernel:
    return Kernel("matmul", f"{m}x{k}x{n}{note}", ((m, k), (k, n)), 2, lambda p, t: t[0] @ t[1])


def _linear(rows: int, cin: int, cout: int, note: str) -> Kernel:
    shapes = ((rows, cin), (cout, cin), (cout,))
    return Kernel("matmul", f"linear {rows}x{cin} -> {cout}, {note}", shapes, 3, _functional("linear"))


def _module(family: str, name: str, x: Shape, make: Callable[[Any], Any], images: bool = False) -> Kernel:
    return Kernel(family, name, (x,), 1, module=make, images=images)


def _recurrent(kind: str) -> Kernel:
    return _module("recurrent", f"{kind} 2 layers, 64 steps, batch 32, 256 -> 512", (64, 32, 256),
                   lambda p: getattr(p.nn, kind)(256, 512, num_layers=2))  # fmt: skip


def _attention(batch: int, heads: int, positions: int, causal: bool) -> Kernel:
    shape = (batch, heads, positions, 64)
    name = f"{'x'.join(map(str, shape))}{', causal' if causal else ''}"
    return Kernel("attention", name, (shape,) * 3, 3, _functional("scaled_dot_product_attention", is_causal=causal))


KERNELS = [
    _matmul(64, 4096, 1024), _matmul(128, 1000, 4096), _matmul(512, 512, 512), _matmul(2048, 512, 512), _matmul(1024, 1024, 1024),
    _linear(128, 784, 512, "mlp"), _linear(32, 9216, 4096, "alexnet"), _linear(512, 512, 2048, "transformer"),
    _linear(512, 2048, 512, "transformer"), _linear(2048, 512, 5000, "language model"),
    _conv((128, 1, 28, 28), 6, 5, note=", lenet5"), _conv((128, 6, 14, 14), 16, 5, padding=0, note=", lenet5"),
    _conv((32, 3, 224, 224), 64, 11, 4, 2, ", alexnet"), _conv((32, 64, 27, 27), 192, 5, note=", alexnet"),
    _conv((16, 3, 224, 224), 64, 7, 2, note=", stem"), _conv((16, 64, 56, 56), 64, 3), _conv((16, 128, 28, 28), 128, 3),
    _conv((16, 256, 14, 14), 256, 3), _conv((16, 512, 7, 7), 512, 3), _conv((16, 64, 56, 56), 128, 3, 2),
    _conv((8, 64, 224, 224), 64, 3, note=", vgg16"), _conv((8, 256, 56, 56), 256, 3, note=", vgg16"),
    _conv((8, 64, 56, 56), 256, 1, note=", resnet50"), _conv((8, 256, 56, 56), 64, 1, note=", resnet50"),
    _conv((8, 1024, 14, 14), 256, 1, note=", resnet50"), _conv((8, 256, 56, 56), 512, 1, 2, note=", resnet50"),
    _conv((16, 16, 28, 28), 32, 5, note=", googlenet"), _conv((8, 128, 28, 28), 32, 3, note=", densenet121"),
    _conv((8, 512, 14, 14), 128, 1, note=", densenet121"), _conv((4, 64, 128, 128), 64, 3, note=", unet"),
    _transposed((4, 1024, 8, 8), 512), _transposed((4, 128, 64, 64), 64),
    _depthwise((8, 64, 112, 112)), _depthwise((8, 96, 112, 112), 2), _depthwise((8, 512, 14, 14)),
    Kernel("conv", "100x15x19 -> 15, 3/2, mnist1d", ((100, 15, 19), (15, 15, 3)), 2, _functional("conv1d", None, 2)),
    Kernel("pool", "max 3x3/2, 16x64x112x112", ((16, 64, 112, 112),), 1, _functional("max_pool2d", 3, 2, 1), images=True),
    Kernel("pool", "max 2x2, 8x64x224x224, vgg16", ((8, 64, 224, 224),), 1, _functional("max_pool2d", 2), images=True),
    Kernel("pool", "max 3x3/2, 32x192x27x27, alexnet", ((32, 192, 27, 27),), 1, _functional("max_pool2d", 3, 2), images=True),
    Kernel("pool", "max 3x3/1, 16x192x28x28, googlenet", ((16, 192, 28, 28),), 1, _functional("max_pool2d", 3, 1, 1),
           images=True),
    Kernel("pool", "average 2x2, 8x128x56x56, densenet121", ((8, 128, 56, 56),), 1, _functional("avg_pool2d", 2), images=True),
    Kernel("pool", "global average, 16x512x7x7", ((16, 512, 7, 7),), 1, _functional("adaptive_avg_pool2d", 1), images=True),
    _module("norm", "batch norm 16x64x112x112", (16, 64, 112, 112), lambda p: p.nn.BatchNorm2d(64), True),
    _module("norm", "batch norm 8x256x56x56", (8, 256, 56, 56), lambda p: p.nn.BatchNorm2d(256), True),
    _module("norm", "batch norm 16x512x7x7", (16, 512, 7, 7), lambda p: p.nn.BatchNorm2d(512), True),
    _module("norm", "layer norm 512x512", (512, 512), lambda p: p.nn.LayerNorm(512)),
    Kernel("softmax", "softmax 64x64x64", ((64, 64, 64),), 1, _functional("softmax", -1)),
    Kernel("softmax", "log-softmax 512x512", ((512, 512),), 1, _functional("log_softmax", -1)),
    Kernel("softmax", "cross-entropy 2048x5000", ((2048, 5000), ((2048,), 5000)), 1, _functional("cross_entropy")),
    Kernel("softmax", "cross-entropy 4x2x128x128, unet", ((4, 2, 128, 128), ((4, 128, 128), 2)), 1, _functional("cross_entropy"),
           images=True),
    _attention(8, 8, 64, False), _attention(8, 8, 64, True), _attention(8, 8, 512, False), _attention(1, 8, 2048, True),
    _recurrent("LSTM"), _recurrent("GRU"),
    Kernel("element-wise", "relu 16x64x112x112", ((16, 64, 112, 112),), 1, _functional("relu"), images=True),
    Kernel("element-wise", "add 16x64x56x56", ((16, 64, 56, 56),) * 2, 2, lambda p, t: t[0] + t[1], images=True),
    Kernel("element-wise", "gelu 512x2048", ((512, 2048),), 1, _functional("gelu")),
    Kernel("element-wise", "gelu, tanh form, 512x2048", ((512, 2048),), 1, _functional("gelu", approximate="tanh")),
    Kernel("element-wise", "tanh 512x2048", ((512, 2048),), 1, lambda p, t: p.tanh(t[0])),
    Kernel("element-wise", "sigmoid 512x2048", ((512, 2048),), 1, lambda p, t: p.sigmoid(t[0])),
    Kernel("element-wise", "transpose 2048x512", ((2048, 512),), 1, lambda p, t: t[0].transpose(0, 1).contiguous()),
    Kernel("element-wise", "heads 8x64x8x64 to 8x8x64x64", ((8, 64, 8, 64),), 1, lambda p, t: t[0].transpose(1, 2).contiguous()),
    Kernel("element-wise", "upsample 4x128x64x64, nearest", ((4, 128, 64, 64),), 1, _functional("interpolate", None, 2.0),
           images=True),
    Kernel("element-wise", "upsample 4x128x64x64, bilinear", ((4, 128, 64, 64),), 1,
           _functional("interpolate", None, 2.0, "bilinear", False), images=True),
    Kernel("element-wise", "add bias 512x2048 + 2048", ((512, 2048), (2048,)), 2, lambda p, t: t[0] + t[1]),
    Kernel("element-wise", "cat 8x(256 + 32)x56x56, densenet121", ((8, 256, 56, 56), (8, 32, 56, 56)), 2,
           lambda p, t: p.cat(t, 1), images=True),
    Kernel("element-wise", "cat 16x(64 + 128 + 32 + 32)x28x28, googlenet", tuple((16, c, 28, 28) for c in (64, 128, 32, 32)), 4,
           lambda p, t: p.cat(t, 1), images=True),
    Kernel("element-wise", "sum of all 16x64x56x56", ((16, 64, 56, 56),), 1, lambda p, t: t[0].sum(), images=True),
    Kernel("element-wise", "sum over rows 512x2048", ((512, 2048),), 1, lambda p, t: t[0].sum(0)),
    Kernel("element-wise", "embedding 5000x256, 32x64 tokens", (((32, 64), 5000), (5000, 256)), 2, _functional("embedding")),
]  # fmt: skip
