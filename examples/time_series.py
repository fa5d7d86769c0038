"""Tomorrow's demand for electricity, half an hour by half an hour; and who is speaking, from series of unequal lengths.

Forecasting is sequence to sequence with numbers: a GRU reads the last week (336 values), a second one starts from its
state and writes the next day (48 values), feeding on its own forecasts and on the known hour and weekday. The lines to
beat repeat the last value, the same time yesterday or a week ago; and a linear regression on the same past week.

Classification: nine speakers by 12 features of their vowels, 7 to 29 steps (Kudo et al. 1999: 94.1 % of 370 right).

Data: half-hourly demand in England and Wales, June to August 2000 (Taylor 2003), from the package pmdarima;
JapaneseVowels from the package aeon.
"""

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader, Dataset, TimeSeries, load_electricity_demand
from pydl.metrics import Accuracy
from pydl.models import Forecaster, SequenceToVector
from pydl.train import EarlyStopping, Trainer

DAY, WEEK = 48, 336
TEST, VALID = 2 * WEEK, WEEK  # the last two weeks are held out, the week before chooses when to stop


class Windows(Dataset):
    """Samples (past week with calendar, calendar of the next day, demand of the next day) beginning at these half-hours."""

    def __init__(self, demand: np.ndarray, starts: np.ndarray) -> None:
        t = np.arange(len(demand))
        turns = [2 * np.pi * t * k / n for n, k in ((DAY, 1), (DAY, 2), (WEEK, 1), (WEEK, 2), (WEEK, 3))]
        calendar = np.stack([f(x) for x in turns for f in (np.sin, np.cos)], 1)
        self.rows = np.concatenate([demand[:, None], calendar], 1).astype(np.float32)
        self.starts = starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        now = int(self.starts[i])
        past, future = self.rows[now - WEEK : now], self.rows[now : now + DAY]
        return past, future[:, 1:], future[:, :1]


def forecast(args) -> tuple[list[Result], tuple]:
    demand = load_electricity_demand(download=args.download)
    end = len(demand)
    known = demand[: end - TEST - VALID]
    scaled = (demand - known.mean()) / known.std()
    cuts = [(WEEK, end - TEST - VALID - DAY, 2), (end - TEST - VALID, end - TEST - DAY, 4), (end - TEST, end - DAY, 1)]
    train, valid, test = (Windows(scaled, np.arange(a, b + 1, step * (12 if args.quick else 1))) for a, b, step in cuts)
    model = Forecaster(1, known=10, hidden_size=64, season=WEEK)
    print(f"forecaster: {sum(p.numel() for p in model.parameters()):,} parameters, {len(train):,} weeks to learn from")
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    steps = args.epochs * -(-len(train) // 32)
    trainer = Trainer(
        model, optimizer, pydl.l1_loss, out=args.out / "forecast", seed=args.seed, grad_clip=1.0,
        scheduler=optim.lr_scheduler.WarmupCosine(optimizer, steps // 20, steps), scheduler_per_step=True,
        early_stopping=EarlyStopping("valid_loss", patience=8, restore_best=True),
    )  # fmt: skip
    fit(trainer, DataLoader(train, 32, shuffle=True), DataLoader(valid, 64), args)
    y = trainer.predict(DataLoader(test, 64)).numpy()[:, :, 0] * known.std() + known.mean()
    true, day, week, last = (np.stack([demand[s + shift : s + shift + length] for s in test.starts])
                             for shift, length in ((0, DAY), (-DAY, DAY), (-WEEK, DAY), (-1, 1)))

    def past(data: Windows) -> np.ndarray:
        """The past week, relative to its last value, and the time of day and week: (N, 336 + 11)."""
        rows = [np.append(w[:, 0] - w[-1, 0], np.append(w[-1, 1:], 1)) for w, _, _ in data]
        return np.stack(rows).astype(np.float64)

    x = past(train)
    outputs = np.stack([scaled[s : s + DAY] - scaled[s - 1] for s in train.starts])
    weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(x.shape[1]), x.T @ outputs)
    linear = (past(test) @ weights + scaled[test.starts - 1][:, None]) * known.std() + known.mean()

    def error(guess: np.ndarray) -> np.ndarray:
        """Mean error in percent of the demand, by half-hours ahead."""
        return 100 * np.abs(guess / true - 1).mean(0)

    errors = {"GRU to GRU": error(y), "linear regression": error(linear), "same time a week ago": error(week),
              "same time yesterday": error(day), "last value": error(last)}
    network = errors["GRU to GRU"].mean()
    results = [Result(f"{name}: mean error up to a day ahead, %", v.mean(), "to beat") for name, v in errors.items()][1:]
    best = min(r.measured for r in results)
    results.append(Result("GRU to GRU: mean error up to a day ahead, %", network, "below all of them",
                          None if args.quick else bool(network < best)))
    return results, (errors, [(test.starts[k], true[k], y[k], week[k]) for k in (len(true) // 4, 3 * len(true) // 4)])


def pad(samples) -> tuple:
    """(series (N, T, 12), lengths, labels)."""
    lengths = pydl.tensor([len(s) for s, _ in samples])
    series = nn.utils.rnn.pad_sequence([pydl.from_numpy(s) for s, _ in samples], batch_first=True)
    return series, lengths, pydl.tensor([label for _, label in samples])


def speakers(args) -> tuple[list[Result], list[float]]:
    train, test = (TimeSeries("JapaneseVowels", train=part, download=args.download) for part in (True, False))
    model = SequenceToVector(9, input_size=12, hidden_size=64, cell="gru", bidirectional=True, pool="mean", dropout=0.3)
    trainer = Trainer(model, optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05), pydl.cross_entropy,
                      {"accuracy": Accuracy()}, out=args.out / "speakers", seed=args.seed)  # fmt: skip
    history = fit(trainer, DataLoader(train, 30, shuffle=True, collate_fn=pad), DataLoader(test, 128, collate_fn=pad), args)
    right = 100 * np.array(history["valid_accuracy"])
    holds = None if args.quick else bool(right[-1] >= 94.1)
    return [Result("speakers, % of 370 right", right[-1], "94.1 or more (Kudo et al. 1999)", holds)], right


def main() -> None:
    args = options(__doc__, epochs=30, quick_epochs=1,
                   download={"action": "store_true", "help": "fetch the data sets if they are not there"})
    ahead, (errors, days) = forecast(args)
    who, right = speakers(args)
    with picture(args.out / "time_series.png", 2, 2, figsize=(13, 7.5)) as axes:
        for axis, (start, true, y, week) in zip(axes[0], days, strict=True):
            hours = np.arange(DAY) / 2
            axis.plot(hours, week / 1000, color="gray", linestyle=":", label="the same time a week ago")
            axis.plot(hours, true / 1000, color="black", label="true")
            axis.plot(hours, y / 1000, color="tab:red", label="forecast")
            weekday = "Mon Tue Wed Thu Fri Sat Sun".split()[start // DAY % 7]
            axis.set(title=f"from {weekday}, {start % DAY / 2:g} h", xlabel="hours ahead", ylabel="demand, GW")
            axis.legend(fontsize=8)
        for name, values in errors.items():
            axes[1, 0].plot(np.arange(1, DAY + 1) / 2, values, label=f"{name}: {values.mean():.2f} %")
        axes[1, 0].set(xlabel="hours ahead", ylabel="mean error, %", title="electricity demand, two held-out weeks", ylim=(0, 12))
        axes[1, 0].legend(fontsize=8)
        axes[1, 1].plot(np.arange(1, len(right) + 1), right, label=f"both-ways GRU: {right[-1]:.1f} %")
        axes[1, 1].axhline(94.1, color="gray", linestyle=":", label="Kudo et al. 1999")
        axes[1, 1].set(xlabel="epoch", ylabel="right, % of 370", title="who speaks? (vowels of nine speakers)", ylim=(None, 101))
        axes[1, 1].legend(fontsize=8)
    finish(args, ahead + who)


if __name__ == "__main__":
    main()
