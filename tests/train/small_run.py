"""A small real training run for the tests; also a program, so that it can be killed.

    python small_run.py DATA.npz OUT [--epochs N] [--pause SECONDS] [--every STEPS]
"""

import argparse
import random
import time

import numpy as np

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, TensorDataset
from pydl.train import Callback, EarlyStopping, Trainer


class Noise(nn.Module):
    """Draws random numbers while training, as dropout does."""

    def forward(self, x):
        return x + 0.1 * pydl.randn(*x.shape) if self.training else x


class Accuracy:
    """Counts right answers."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.right, self.seen = 0, 0

    def update(self, output, target):
        self.right += int((output.numpy().argmax(1) == target.numpy()).sum())
        self.seen += len(target)

    def compute(self):
        return self.right / self.seen


class Halving:
    """A schedule: half the rate every second epoch."""

    def __init__(self, optimizer):
        self.optimizer, self.epoch = optimizer, 0

    def step(self):
        self.epoch += 1
        if self.epoch % 2 == 0:
            for group in self.optimizer.param_groups:
                group["lr"] /= 2

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


class Pause(Callback):
    """Makes steps last, so that a signal finds the run at work, and tells when the first is done."""

    def __init__(self, seconds):
        self.seconds, self.told = seconds, False

    def on_step_end(self, trainer, loss):
        if not self.told:
            print("training", flush=True)
            self.told = True
        time.sleep(self.seconds)


def network():
    return nn.Sequential(
        nn.Conv1d(1, 6, 5, stride=2), nn.ReLU(), Noise(), nn.Conv1d(6, 6, 5, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(42, 10),
    )  # fmt: skip


def loaders(data, batch_size=20):
    x, y = data["x"], data["y"]
    train = DataLoader(TensorDataset(x[:200], y[:200]), batch_size=batch_size, shuffle=True, seed=3)
    return train, DataLoader(TensorDataset(x[200:], y[200:]), batch_size=50)


def trainer(out, seed=0, lr=0.05, callbacks=(), **options):
    pydl.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (a checkpoint holds the global generator's state too)
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    options = {
        "metrics": {"accuracy": Accuracy()}, "scheduler": Halving(optimizer), "progress": False, "plot": False,
        "early_stopping": EarlyStopping(patience=100), "seed": seed, **options,
    }
    return Trainer(model, optimizer, pydl.cross_entropy, callbacks=callbacks, out=out, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--every", type=int, default=None)
    args = parser.parse_args()
    train, valid = loaders(np.load(args.data))
    pydl.set_num_threads(1)
    run = trainer(args.out, checkpoint_every=args.every, callbacks=[Pause(args.pause)], progress=True)
    run.fit(train, valid, args.epochs, resume="auto")
    print("interrupted" if run.interrupted else "finished", flush=True)


if __name__ == "__main__":
    main()
