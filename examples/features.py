"""What a trained network sees: its first filters, its activations on a photograph, and how much of it one unit looks at.

EfficientNet-Lite0 with its ImageNet weights, on a cup of coffee. The first layer holds edges and colours in pairs of opposites
(Zeiler and Fergus 2013); the field that matters is much smaller than the one that counts, and bell-shaped (Luo et al. 2016,
"Understanding the Effective Receptive Field").
"""

from typing import Any

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import models
from pydl.data.pictures import photograph
from pydl.summary import summary

LAYERS = ("conv_stem", "blocks.2", "blocks.4", "blocks.8", "blocks.15")


def main() -> None:
    args = options(__doc__, epochs=1, quick_epochs=1,
                   download={"action": "store_true", "help": "fetch photograph and weights if they are not there"},
                   photograph={"default": "coffee", "help": "one of scikit-image's (default coffee)"})  # fmt: skip
    model = models.create("efficientnet_lite0", weights="imagenet", download=args.download).eval()
    wanted = models.preprocessing("efficientnet_lite0")
    image = wanted.open(photograph(args.photograph, args.download))
    x, crop = wanted(image), np.asarray(wanted.crop(image))
    kept: dict[str, Any] = {}
    for name in LAYERS:
        model.get_submodule(name).register_forward_hook(lambda m, a, out, name=name: kept.__setitem__(name, out))

    filters(model.conv_stem.weight.detach().numpy(), args)
    with pydl.no_grad():
        scores = model(x)
    activations(crop, {name: out.numpy()[0] for name, out in kept.items()}, args)
    rows = receptive_fields(model, x, crop, kept, args)
    stem = model.conv_stem.weight.detach().numpy().reshape(32, 3, 9)
    grey = np.abs(stem.mean(1)).sum(1) / np.abs(stem).mean(1).sum(1)  # 1: the same in all colours
    bright = int((grey > 0.9).sum())
    espresso = 100 * float(pydl.softmax(scores, 1).numpy()[0, 967])
    finish(args, [
        Result("first filters that look at brightness, not colour", bright, "some of 32", 0 < bright < 32),
        Result("probability of espresso, %", espresso, "94 for coffee",
               abs(espresso - 94) < 1 if args.photograph == "coffee" else None),
        *(Result(f"{name}: side of the field that holds 95 % of the influence", rows[name][1], f"below {rows[name][0]:.0f}",
                 rows[name][1] < rows[name][0]) for name in LAYERS[1:]),
    ])  # fmt: skip


def filters(weight: np.ndarray, args: Any) -> None:
    """The 32 filters of 3 x 3 pixels, each brought to the range of colours."""
    order = np.argsort(-np.abs(weight).sum((1, 2, 3)))
    with picture(args.out / "filters.png", 2, 16, figsize=(11, 1.7)) as axes:
        for axis, i in zip(axes.flat, order, strict=True):
            axis.imshow(weight[i].transpose(1, 2, 0) / (2 * np.abs(weight[i]).max()) + 0.5)
            axis.axis("off")


def activations(crop: np.ndarray, kept: dict[str, np.ndarray], args: Any) -> None:
    """For each layer the photograph's five strongest maps."""
    with picture(args.out / "activations.png", len(kept), 6, figsize=(9, 1.55 * len(kept))) as axes:
        for row, (name, maps) in zip(axes, kept.items(), strict=True):
            order = np.argsort(-maps.std((1, 2)))
            row[0].imshow(crop)
            row[0].set_title(f"{name}: {maps.shape[0]} of {maps.shape[1]} x {maps.shape[2]}", fontsize=8, loc="left")
            for axis, i in zip(row[1:], order, strict=False):
                axis.imshow(maps[i], cmap="viridis")
            for axis in row:
                axis.axis("off")


def receptive_fields(model: Any, x: Any, crop: np.ndarray, kept: dict[str, Any], args: Any) -> dict[str, tuple[float, float]]:
    """The gradient of the middle units with respect to the photograph, beside the field that the layers' sizes allow."""
    rows = {}
    reach = {row.path: row.receptive_field for row in summary(model, (1, 3, 224, 224))}
    with picture(args.out / "receptive_fields.png", 1, len(LAYERS), figsize=(2.3 * len(LAYERS), 2.7)) as axes:
        for axis, name in zip(axes, LAYERS, strict=True):
            input = x.detach().requires_grad_()
            model(input)
            maps = kept[name]
            middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
            (middle * pydl.randn(*middle.shape)).sum().backward()
            influence = np.abs(input.grad.numpy()[0]).sum(0)
            inner = name if name == "conv_stem" else f"{name}.project_conv"
            possible = float(min(reach[inner][0], 224))
            rows[name] = possible, side(influence)
            shade = np.clip(influence / np.quantile(influence[influence > 0], 0.98), 0, 1)[..., None]
            axis.imshow(crop / 255 * (0.25 + 0.75 * shade))
            axis.set_title(f"{name}\npossible {reach[inner][0]}, 95 % in {rows[name][1]:.0f}", fontsize=9)
            axis.axis("off")
    return rows


def side(influence: np.ndarray) -> float:
    """The side of the smallest square around the middle of the influence that holds 95 % of it."""
    total = influence.sum()
    y, x = (round(float((influence.sum(1 - k) * np.arange(influence.shape[k])).sum() / total)) for k in (0, 1))
    for half in range(max(influence.shape)):
        if influence[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1].sum() >= 0.95 * total:
            return 2.0 * half + 1
    return float(max(influence.shape))


if __name__ == "__main__":
    main()
