"""The perceptron: one unit learns NAND, cannot learn XOR, and two layers of units compute XOR.

Rosenblatt's rule adds t x to the weights for every wrong answer (targets t of -1 or +1): it is gradient descent on
max(0, -t f(x)) with learning rate 1. It ends after finitely many errors if a line separates the classes (Novikoff 1962),
and never if none does, as with XOR (Minsky and Papert 1969). XOR(a, b) = NAND(NAND(a, NAND(a, b)), NAND(b, NAND(a, b)))
needs further layers; here two of them are learnt by gradient descent.
"""

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, TensorDataset
from pydl.train import Trainer

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
NAND = np.array([1, 1, 1, -1], np.float32)
XOR = np.array([-1, 1, 1, -1], np.float32)


def perceptron_criterion(score: pydl.Tensor, target: pydl.Tensor) -> pydl.Tensor:
    """Positive where sign(score) is wrong; a score of exactly 0 counts as wrong, so that learning can start from zeros."""
    wrong = (score.detach() * target <= 0).float()
    return (-(target * score) * wrong).sum()


def logistic_criterion(score: pydl.Tensor, target: pydl.Tensor) -> pydl.Tensor:
    """log(1 + exp(-t f(x))): never exactly zero, so hidden units go on learning."""
    return pydl.soft_margin_loss(score, target)


def errors(model: nn.Module, targets: np.ndarray) -> int:
    with pydl.no_grad():
        scores = model(pydl.from_numpy(CORNERS)).numpy()[:, 0]
    return int((scores * targets <= 0).sum())


def learn(name: str, model: nn.Module, targets: np.ndarray, criterion, optimizer, batch_size: int, args) -> int:
    """Train and return how many of the four corners are wrong afterwards."""
    loader = DataLoader(TensorDataset(CORNERS, targets[:, None]), batch_size=batch_size)
    trainer = Trainer(
        model, optimizer, criterion, out=args.out / name, seed=args.seed, progress=False, plot=False,
        checkpoint_epochs=100,
    )
    fit(trainer, loader, None, args)
    wrong = errors(model, targets)
    print(f"{name}: {wrong} of 4 wrong after {args.epochs} epochs")
    return wrong


def single_unit() -> nn.Module:
    unit = nn.Linear(2, 1)
    nn.init.zeros_(unit.weight)
    nn.init.zeros_(unit.bias)
    return unit


def main() -> None:
    args = options(__doc__, epochs=200, quick_epochs=200)
    nand, xor = single_unit(), single_unit()
    layers = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    wrong = {
        "nand": learn("nand", nand, NAND, perceptron_criterion, optim.SGD(nand.parameters(), lr=1.0), 1, args),
        "xor": learn("xor", xor, XOR, perceptron_criterion, optim.SGD(xor.parameters(), lr=1.0), 1, args),
        "xor_two_layers": learn(
            "xor_two_layers", layers, XOR, logistic_criterion, optim.Adam(layers.parameters(), lr=0.1), 4, args
        ),
    }

    grid = np.linspace(-0.5, 1.5, 201, dtype=np.float32)
    plane = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    cases = (("NAND, one unit", nand, NAND), ("XOR, one unit", xor, XOR), ("XOR, two layers", layers, XOR))
    with picture(args.out / "boundaries.png", 1, 3, figsize=(11, 3.8)) as axes, pydl.no_grad():
        for axis, (title, model, targets) in zip(axes, cases, strict=True):
            scores = model(pydl.from_numpy(plane)).numpy().reshape(len(grid), len(grid))
            axis.contourf(grid, grid, scores > 0, levels=[-0.5, 0.5, 1.5], colors=["tab:orange", "tab:blue"], alpha=0.3)
            axis.scatter(*CORNERS.T, c=np.where(targets > 0, "tab:blue", "tab:orange"), edgecolors="black", s=80)
            axis.set(title=f"{title}: {errors(model, targets)} wrong", xlabel="a", ylabel="b", aspect="equal")
    finish(args, [
        Result("NAND, one unit: wrong answers", wrong["nand"], "0", wrong["nand"] == 0),
        Result("XOR, one unit: wrong answers", wrong["xor"], "at least 1", wrong["xor"] >= 1),
        Result("XOR, two layers: wrong answers", wrong["xor_two_layers"], "0", wrong["xor_two_layers"] == 0),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
