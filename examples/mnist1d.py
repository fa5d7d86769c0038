"""A convolutional network against a fully connected one on MNIST-1D, with as many layers and hidden units.

The convolutional network shares its weights along the signal and reaches about 17 % error or less, where the fully
connected one stays near 40 % (Prince, "Understanding Deep Learning", chapter 10; Greydanus and Kobak 2020,
arXiv:2011.14439).
"""

from common import Result, finish, fit, options, picture

import pydl
from pydl import optim
from pydl.data import DataLoader, TensorDataset, load_mnist1d
from pydl.metrics import Accuracy
from pydl.models import MNIST1DConv, MNIST1DDense
from pydl.train import Trainer


def train(model: pydl.nn.Module, data: TensorDataset, held_out: TensorDataset, folder: str, args) -> pydl.train.History:
    """SGD with Nesterov momentum; the rate rises for a tenth of the steps, then falls to zero."""
    loader = DataLoader(data, batch_size=100, shuffle=True)
    optimizer = optim.SGD(model.parameters(), lr=0.025, momentum=0.9, nesterov=True)
    steps = args.epochs * len(loader)
    trainer = Trainer(
        model, optimizer, pydl.cross_entropy, {"accuracy": Accuracy()},
        scheduler=optim.lr_scheduler.WarmupCosine(optimizer, steps // 10, steps), scheduler_per_step=True,
        out=args.out / folder, seed=args.seed,
    )  # fmt: skip
    return fit(trainer, loader, DataLoader(held_out, batch_size=1000), args)


def main() -> None:
    args = options(__doc__, epochs=100, quick_epochs=4)
    x, y, x_test, y_test = load_mnist1d()
    data, held_out = TensorDataset(x, y), TensorDataset(x_test, y_test)
    networks = {"convolutional": MNIST1DConv(), "fully connected": MNIST1DDense()}
    errors = {}
    for name, model in networks.items():
        print(f"{name} network, {sum(p.numel() for p in model.parameters()):,} parameters")
        history = train(model, data, held_out, name.replace(" ", "_"), args)
        errors[name] = [[100 * (1 - accuracy) for accuracy in history[f"{part}_accuracy"]] for part in ("train", "valid")]

    with picture(args.out / "curves.png", figsize=(7, 4)) as axes:
        for (name, (on_train, on_test)), colour in zip(errors.items(), ("tab:blue", "tab:orange"), strict=True):
            axes.plot(on_test, color=colour, label=f"{name}, held-out")
            axes.plot(on_train, color=colour, linestyle=":", label=f"{name}, training")
        axes.set(xlabel="epoch", ylabel="error, %", title="MNIST-1D", ylim=(0, None))
        axes.legend()
    with picture(args.out / "predictions.png", 2, 6, figsize=(12, 4), sharey=True) as axes, pydl.no_grad():
        classes = networks["convolutional"].eval()(pydl.from_numpy(x_test[:12])).argmax(1)
        for axis, signal, label, predicted in zip(axes.flat, x_test, y_test, classes.tolist(), strict=False):
            axis.plot(signal[0], color="tab:green" if label == predicted else "tab:red")
            axis.set_title(f"{label}, predicted {predicted}")
            axis.set_xticks([])
    cnn, full = (errors[name][1][-1] for name in networks)
    finish(args, [
        Result("error of the convolutional network, %", cnn, "about 17 or less", None if args.quick else cnn <= 17),
        Result("error of the fully connected network, %", full, "near 40", None if args.quick else 35 <= full <= 45),
    ])


if __name__ == "__main__":
    main()
