"""Transfer learning: EfficientNet-Lite0 knows 1000 things of ImageNet; what does that help to sort 1293 emoji by category?

Three ways with the same network and the same pictures, tested on 343 others: from scratch; frozen, with a new last layer alone
(Donahue et al. 2013, "DeCAF"); and then fine-tuned, the trunk at a smaller rate than the head (Yosinski et al. 2014, "How
transferable are features in deep neural networks?": transferred and fine-tuned features beat random ones).
"""

from typing import Any

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import models, nn, optim
from pydl.data import ArrayDataset, DataLoader
from pydl.data.pictures import Emoji
from pydl.metrics import Accuracy
from pydl.train import Trainer

NETWORK, SIZE = "efficientnet_lite0", 64


def main() -> None:
    args = options(
        __doc__, epochs=3, quick_epochs=1,
        **{"head-epochs": {"type": int, "default": 40, "help": "for the new layer alone, on stored features (default 40)"}},
        download={"action": "store_true", "help": "fetch pictures and weights if they are not there"},
    )  # fmt: skip
    train, test = (Emoji(train=part, download=args.download, size=SIZE) for part in (True, False))
    step = 12 if args.quick else 1
    sets = [ArrayDataset(prepared(s.data[::step]), s.targets[::step]) for s in (train, test)]
    classes = len(train.classes)

    pydl.manual_seed(args.seed)
    print("from scratch")
    scratch = models.create(NETWORK, num_classes=classes)
    for layer in scratch.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1  # of a few hundred steps; as published, 0.01, it is meant for hundreds of thousands
    everything = [{"params": list(scratch.parameters()), "lr": 2e-3}]
    curves = {"from scratch": learn("scratch", scratch, everything, sets, args.epochs, args)}

    print("frozen, a new last layer")
    model = models.create(NETWORK, weights="imagenet", num_classes=classes)
    models.freeze(model, until="fc")
    curves["frozen, new head"] = learn_head(model, sets, args)

    print("fine-tuned")
    models.unfreeze(model, start="blocks.5")  # what sees edges and blobs stays as it is
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # a thousand pictures are too few for statistics of their own
            models.freeze(layer)
    groups = models.parameter_groups(model, {"": 3e-4, "fc": 1e-3})
    curves["fine-tuned"] = learn("fine-tuned", model, groups, sets, args.epochs, args)
    pydl.save(model.state_dict(), args.out / "emoji.safetensors")
    (args.out / "classes.txt").write_text("\n".join(train.classes) + "\n")
    draw(curves, args)
    show(model, test, sets[1], args)

    final = {name: values[-1] for name, values in curves.items()}
    largest = 100 * np.bincount(test.targets).max() / len(test)
    full = not args.quick
    finish(args, [
        Result("from scratch: right on held-out emoji, %", final["from scratch"], f"{largest:.0f}: the largest class"),
        Result("frozen, new head, %", final["frozen, new head"], "above from scratch",
               final["frozen, new head"] > final["from scratch"] if full else None),
        Result("fine-tuned, %", final["fine-tuned"], "above both",
               final["fine-tuned"] >= max(final.values()) if full else None),
    ])  # fmt: skip


def prepared(images: np.ndarray) -> np.ndarray:
    wanted = models.preprocessing(NETWORK)
    return ((images.astype(np.float32) - wanted.mean) / wanted.std).astype(np.float32)


def learn(name: str, model: nn.Module, groups: list[dict[str, Any]], sets: list[Any], epochs: int, args: Any) -> list[float]:
    """Train the whole network, or what is not frozen of it; accuracy on held-out pictures after each epoch."""
    train, test = DataLoader(sets[0], batch_size=32, shuffle=True), DataLoader(sets[1], batch_size=64)
    optimizer = optim.AdamW(groups, weight_decay=1e-2)
    schedule = optim.lr_scheduler.WarmupCosine(optimizer, len(train) // 2, epochs * len(train))
    trainer = Trainer(model, optimizer, pydl.cross_entropy, {"accuracy": Accuracy()}, scheduler=schedule, scheduler_per_step=True,
                      out=args.out / name, seed=args.seed, plot=False)  # fmt: skip
    history = trainer.fit(train, test, epochs, resume=args.resume)
    if trainer.interrupted:
        raise SystemExit(130)
    return [100 * a for a in history["valid_accuracy"]]


def learn_head(model: nn.Module, sets: list[Any], args: Any) -> list[float]:
    """A frozen trunk gives the same features in every epoch: they are computed once, and only the last layer is run."""
    head, model.fc = model.fc, nn.Identity()
    model.eval()
    stored = []
    with pydl.no_grad():
        for part in sets:
            features = [model(x).numpy() for x, _ in DataLoader(part, batch_size=64)]
            stored.append(ArrayDataset(np.concatenate(features), part.arrays[1]))
    curve = learn("head", head, [{"params": list(head.parameters()), "lr": 3e-3}], stored, args.head_epochs, args)
    model.fc = head
    return curve


def draw(curves: dict[str, list[float]], args: Any) -> None:
    colours = dict(zip(curves, ("#d9722e", "#3b9151", "#2f6fb7"), strict=True))
    with picture(args.out / "transfer.png", 1, 2, figsize=(9.5, 3.6), width_ratios=(3, 2)) as (left, right):
        for name, values in curves.items():
            label = f"{name}, {len(values)} epochs"
            left.plot(np.linspace(0, 1, len(values) + 1)[1:], values, "o-", ms=3, color=colours[name], label=label)
        left.set(xlabel="part of training", ylabel="right on held-out emoji, %", ylim=(0, 100))
        left.legend(frameon=False, loc="lower right")
        bars = right.barh(list(curves), [v[-1] for v in curves.values()], color=list(colours.values()))
        right.bar_label(bars, fmt="%.1f %%", padding=4)
        right.set(xlim=(0, 115), title="at the end")
        right.invert_yaxis()


def show(model: nn.Module, test: Any, prepared_set: Any, args: Any) -> None:
    """Held-out emoji with what the fine-tuned network takes them for."""
    from pydl.viz import images

    model.eval()
    chosen = np.random.default_rng(0).permutation(len(prepared_set))[:18]
    with pydl.no_grad():
        predicted = model(pydl.from_numpy(prepared_set.arrays[0][chosen])).numpy().argmax(1)
    step = len(test) // len(prepared_set)
    right = predicted == prepared_set.arrays[1][chosen]
    titles = [("" if ok else "wrong: ") + test.classes[p] for p, ok in zip(predicted, right, strict=True)]
    images([test.data[i * step] for i in chosen], titles, args.out / "emoji.png", columns=6)


if __name__ == "__main__":
    main()
