"""A convolutional network against a fully connected one on MNIST-1D, with as many layers and hidden units.

The convolutional network shares its weights along the signal and reaches about 17 % error, where the fully connected
one stays near 40 % (Prince, "Understanding Deep Learning", chapter 10; Greydanus and Kobak 2020, arXiv:2011.14439).
"""

import argparse
import json
import time
from pathlib import Path

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, TensorDataset, load_mnist1d


def convolutional() -> nn.Module:
    """Three convolutions of 15 channels, kernel 3, stride 2: lengths 40 -> 19 -> 9 -> 4."""
    return nn.Sequential(
        nn.Conv1d(1, 15, 3, stride=2), nn.ReLU(),
        nn.Conv1d(15, 15, 3, stride=2), nn.ReLU(),
        nn.Conv1d(15, 15, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(60, 10),
    )  # fmt: skip


def fully_connected() -> nn.Module:
    """Hidden layers of as many units as the convolutional network's: 285, 135, 60."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(40, 285), nn.ReLU(),
        nn.Linear(285, 135), nn.ReLU(),
        nn.Linear(135, 60), nn.ReLU(),
        nn.Linear(60, 10),
    )  # fmt: skip


def error_rate(model: nn.Module, x: pydl.Tensor, y: pydl.Tensor) -> float:
    """Percentage of wrong classes."""
    model.eval()
    with pydl.no_grad():
        wrong = (model(x).argmax(1) != y).numpy().mean()
    model.train()
    return 100 * float(wrong)


def initialise(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def train(name: str, model: nn.Module, data: tuple, epochs: int, seed: int) -> list[tuple[float, float]]:
    """SGD with momentum, the rate halved every 20 epochs; returns (train, test) error after each epoch."""
    x, y, x_test, y_test = (pydl.from_numpy(a) for a in data)
    initialise(model)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = DataLoader(TensorDataset(data[0], data[1]), batch_size=100, shuffle=True, seed=seed)
    history = []
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * 0.5 ** (epoch // 20)
        for signals, labels in loader:
            optimizer.zero_grad()
            loss = pydl.cross_entropy(model(signals), labels)
            loss.backward()
            optimizer.step()
        history.append((error_rate(model, x, y), error_rate(model, x_test, y_test)))
        if epoch % 10 == 9 or epoch == epochs - 1:
            print(f"{name:16} epoch {epoch + 1:3}: loss {loss.item():.3f}, error {history[-1][0]:5.1f} % train, "
                  f"{history[-1][1]:5.1f} % test")
    return history


def plot(histories: dict[str, list[tuple[float, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for (name, history), colour in zip(histories.items(), ("tab:blue", "tab:orange"), strict=True):
        axes.plot([h[1] for h in history], color=colour, label=f"{name}, test")
        axes.plot([h[0] for h in history], color=colour, linestyle=":", label=f"{name}, train")
    axes.set(xlabel="epoch", ylabel="error, %", title="MNIST-1D", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="a few epochs only, to see that everything works")
    args = parser.parse_args()
    if args.threads:
        pydl.set_num_threads(args.threads)
    epochs = 5 if args.quick else args.epochs
    args.out.mkdir(parents=True, exist_ok=True)

    data = load_mnist1d()
    histories, results = {}, {"seed": args.seed, "epochs": epochs}
    for name, make in (("convolutional", convolutional), ("fully connected", fully_connected)):
        pydl.manual_seed(args.seed)
        start = time.perf_counter()
        histories[name] = train(name, make(), data, epochs, args.seed)
        results[name] = {"test_error": histories[name][-1][1], "seconds": round(time.perf_counter() - start, 2)}
    print("documented: about 17 % for the convolutional network, about 40 % for the fully connected one")
    plot(histories, args.out / "mnist1d.png")
    (args.out / "mnist1d.json").write_text(json.dumps(results, indent=2))
    print(f"curves: {args.out / 'mnist1d.png'}, figures: {args.out / 'mnist1d.json'}")


if __name__ == "__main__":
    main()
