"""How far back can a recurrent network learn to look? The first symbol of a row must be named at its end, after many others that
mean nothing (the long-time-lag problems of Hochreiter and Schmidhuber 1997, section 5.2).

What is known: in a simple network the gradient dies out on its way back, so from about 100 steps on it learns nothing and names
one of the eight symbols at random; LSTM and GRU bridge hundreds of steps (1000 in the paper). Backpropagation that is cut off
after 20 steps (truncated, the state carried on) cannot teach even an LSTM what lies further back.

The rows are random by nature: a task without data from outside.

Measured (seed 0, 14 minutes on one busy core): after 100 and 400 steps LSTM and GRU name all symbols, the RNN 12 and 13 % of
them; the truncated LSTM 14 % after 100. Of the RNN's gradient less than 1e-10 is left after 99 steps.
"""

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import nn, ops, optim

CELLS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
COLORS = {"RNN": "#c44", "LSTM": "#26a", "GRU": "#283", "LSTM, truncated": "#88b"}
STYLES = {"RNN": "o-", "LSTM": "s-", "GRU": "^-", "LSTM, truncated": "s--"}
SYMBOLS = 8  # that may come first, and as many that may follow


class Rememberer(nn.Module):
    """A recurrent network and a linear layer on its last output. Shapes: (N, T, 16) -> (N, 8).

    The gate that keeps (LSTM: forget, GRU: update) starts with biases from log 1 to log T, so that some units remember for a few
    steps and some for the whole row (Tallec and Ollivier 2018).
    """

    def __init__(self, cell: str, steps: int, hidden: int = 64) -> None:
        super().__init__()
        self.rnn, self.head = CELLS[cell](2 * SYMBOLS, hidden, batch_first=True), nn.Linear(hidden, SYMBOLS)
        if cell != "RNN":
            keep = np.log(np.linspace(1, steps - 1, hidden))
            self.rnn.bias_hh_l0.data[hidden : 2 * hidden] = keep
            if cell == "LSTM":
                self.rnn.bias_hh_l0.data[:hidden] = -keep

    def forward(self, x, state=None):
        out, state = self.rnn(x, state)
        return self.head(out[:, -1]), state


def rows(rng, n: int, steps: int):
    """One-hot symbols (N, T, 16), the first of the first eight, the others of the last eight; and which was the first (N)."""
    symbols = rng.integers(SYMBOLS, 2 * SYMBOLS, (n, steps))
    symbols[:, 0] = rng.integers(0, SYMBOLS, n)
    return pydl.tensor(np.eye(2 * SYMBOLS, dtype=np.float32)[symbols]), pydl.tensor(symbols[:, 0])


def train(cell: str, steps: int, args, updates: int, window: int | None = None) -> float:
    """Trains on ever new rows; per cent right of 1000 others. A solved task ends early."""
    pydl.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed + 1)
    model = Rememberer(cell, steps)
    optimizer = optim.Adam(model.parameters(), lr=1e-3 if cell == "RNN" else 3e-3)  # it diverges with the larger one
    x_test, y_test = rows(np.random.default_rng(99), 1000, steps)
    for update in range(1, updates + 1):
        x, y = rows(rng, 32, steps)
        state = None
        if window:  # what comes before the last window only carries the state: no gradient reaches it
            with pydl.no_grad():
                for start in range(0, steps - window, window):
                    _, state = model(x[:, start : min(start + window, steps - window)], state)
        scores, _ = model(x[:, steps - window :] if window else x, state)
        optimizer.zero_grad()
        loss = ops.cross_entropy(scores, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if update % 50 == 0 or update == updates:
            with pydl.no_grad():
                right = 100 * float((model(x_test)[0].data.argmax(1) == y_test.data).mean())
            if right > 99.9:
                break
    name = f"{cell}, truncated" if window else cell
    print(f"{name:16} {steps:4} steps: {right:5.1f} % right after {update} updates", flush=True)
    return right


def gradients(cell: str, steps: int, seed: int) -> np.ndarray:
    """Norm of the loss's gradient by the input at each step, of a network before training, relative to the last step."""
    pydl.manual_seed(seed)
    model = Rememberer(cell, steps)
    x, y = rows(np.random.default_rng(5), 64, steps)
    x.requires_grad = True
    ops.cross_entropy(model(x)[0], y).backward()
    norm = np.sqrt((x.grad.data.astype(np.float64) ** 2).sum((0, 2)))
    return norm / norm[-1]


def main() -> None:
    args = options(__doc__, epochs=1, quick_epochs=1)
    lags = [10] if args.quick else [10, 30, 60, 100, 200, 400]
    updates = 100 if args.quick else 1000 * args.epochs
    right = {cell: {lag: train(cell, lag, args, updates) for lag in lags} for cell in CELLS}
    right["LSTM, truncated"] = {lag: train("LSTM", lag, args, updates // 2, window=20) for lag in lags if lag > 20}
    flow = {cell: gradients(cell, 100, args.seed) for cell in CELLS}
    draw(right, flow, lags, args.out)
    results = [Result("share of the RNN's gradient that is left 99 steps back", flow["RNN"][0], "vanishes: below 1e-10",
                      bool(flow["RNN"][0] < 1e-10))]  # fmt: skip
    if not args.quick:
        for cell in ("LSTM", "GRU"):
            results += [Result(f"{cell}: % right after {lag} steps", right[cell][lag], "solved: above 99", right[cell][lag] > 99)
                        for lag in (100, 400)]  # fmt: skip
        for name, lag in (("RNN", 100), ("RNN", 400), ("LSTM, truncated", 100)):
            share = right[name][lag]
            results.append(Result(f"{name}: % right after {lag} steps", share, "12.5, a guess", share < 30))
    finish(args, results)


def draw(right, flow, lags, out) -> None:
    with picture(out / "long_lag.png", 1, 2, figsize=(11, 4)) as (left, side):
        for name, by_lag in right.items():
            left.plot(list(by_lag), list(by_lag.values()), STYLES[name], color=COLORS[name], label=name, markerfacecolor="none",
                      markersize=9 if name == "LSTM" else 6)
        left.axhline(100 / SYMBOLS, color="0.6", linewidth=1, zorder=0)
        left.text(lags[-1], 100 / SYMBOLS + 2, "guess", color="0.4", fontsize=8, ha="right")
        left.set(xscale="log", ylim=(0, 104), xlabel="steps from the symbol to the answer", ylabel="% right of 1000 new rows",
                 title="Naming the first symbol of a row")
        left.set_xticks(lags, map(str, lags))
        left.minorticks_off()
        left.legend()
        for cell, norm in flow.items():
            side.plot(np.arange(len(norm)) - len(norm) + 1, norm, color=COLORS[cell], label=cell)
        side.set(yscale="log", xlabel="step, counted back from the answer", ylabel="norm of the gradient (last step = 1)",
                 title="How much of the gradient arrives, before training")
        side.legend()


if __name__ == "__main__":
    main()
