"""Four language models write like Shakespeare, one character after the other: RNN, LSTM, GRU and Transformer side by side.

All have some 0.36 million parameters and read the 4.8 million characters of his plays and poems once. Twelfth Night is held out
to watch the training, Macbeth for the figures. The measure is bits per character, the size to which the model could compress the
play. Baselines are counts: how frequent each character is, and interpolated Kneser-Ney n-grams (Chen and Goodman 1998). Gates
must pay: LSTM and GRU beat the plain recurrent network (Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078), and the 5-grams;
6-grams are as good as one reading makes them. A Transformer of this size learns more slowly; it must beat the trigrams.

Measured (seed 0, some 15 minutes on one busy core), bits per character of Macbeth: 6-grams 2.28, 5-grams 2.34, trigrams 3.03; GRU
2.25, LSTM 2.29, RNN 2.37, Transformer 2.48.
"""

import time

from common import Result, finish, fit, options, picture

import pydl
from pydl.data import Shakespeare
from pydl.generation import generate
from pydl.models import RNNLanguageModel, TransformerLanguageModel
from pydl.optim import Adam
from pydl.optim.lr_scheduler import WarmupCosine
from pydl.text import BitsPerToken, BPTTBatches, CharTokenizer, LanguageModelTrainer, NGramModel
from pydl.train import Callback


class Speed(Callback):
    """Notes how many characters a second training reads."""

    def __init__(self, tokens):
        self.tokens = tokens  # in a batch
        self.rate = 0.0

    def on_epoch_start(self, trainer):
        self.started, self.first = time.perf_counter(), trainer.step

    def on_step_end(self, trainer, loss):
        self.rate = (trainer.step - self.first) * self.tokens / (time.perf_counter() - self.started)

    def on_epoch_end(self, trainer, row):
        row["characters_per_second"] = round(self.rate)


def networks(size: int, quick: bool) -> dict[str, pydl.nn.Module]:
    """As many parameters each: 0.36 million, or 0.03 to 0.07 million."""
    width = {"rnn": 96, "lstm": 64, "gru": 72} if quick else {"rnn": 496, "lstm": 256, "gru": 292}
    recurrent = {cell.upper(): RNNLanguageModel(size, 32 if quick else 64, hidden, cell=cell) for cell, hidden in width.items()}
    attention = TransformerLanguageModel(size, *((48, 2, 2) if quick else (96, 4, 3)), max_len=128, dropout=0.0)
    return recurrent | {"Transformer": attention}


def batches(kind: str, ids, **more) -> BPTTBatches:
    """1024 characters a batch; recurrent networks carry their state on, the Transformer gets longer windows instead."""
    steps = 128 if kind == "Transformer" else 64
    return BPTTBatches(ids, 1024 // steps, steps, **more)


def held_out(kind: str, ids) -> BPTTBatches:
    """The same, but the Transformer looks at 64 characters before the 64 that it predicts."""
    return BPTTBatches(ids, 16, 64, overlap=64 if kind == "Transformer" else 0)


def main() -> None:
    download = {"action": "store_true", "help": "fetch the plays if they are not here"}
    args = options(__doc__, epochs=10, quick_epochs=2, download=download)
    plays = Shakespeare(download=args.download, names=["hamlet", "twelfth_night", "macbeth"] if args.quick else None)
    train, valid, test = plays.split()
    tokenizer = CharTokenizer.train([train], specials=("<unk>",))
    pieces = 4 if args.quick else 10  # an epoch is a tenth of the text
    ids, valid_ids, test_ids = (tokenizer.encode(text) for text in (train, valid, test[:20000] if args.quick else test))
    print(f"{len(ids):,} characters to learn from, {len(tokenizer)} different ones")
    bits = {f"{n}-gram": NGramModel(n, len(tokenizer)).fit(ids).negative_log_likelihood(test_ids) / 0.6931471805599453
            for n in ((1, 3) if args.quick else (1, 3, 5, 6))}
    curves, speeds, texts = {}, {}, {}
    for kind, model in networks(len(tokenizer), args.quick).items():
        print(f"{kind}, {sum(p.numel() for p in model.parameters()):,} parameters")
        loader = batches(kind, ids, pieces=pieces)
        steps = args.epochs * len(loader)
        optimizer = Adam(model.parameters(), lr=1e-3 if kind == "RNN" else 3e-3)
        trainer = LanguageModelTrainer(
            model, optimizer, {"bits": BitsPerToken()}, carry=kind != "Transformer", grad_clip=1.0, seed=args.seed,
            scheduler=WarmupCosine(optimizer, steps // 20 + 1, steps), scheduler_per_step=True, callbacks=[Speed(1024)],
            out=args.out / kind.lower(),
        )  # fmt: skip
        history = fit(trainer, loader, held_out(kind, valid_ids), args)
        curves[kind], speeds[kind] = history["valid_bits"], history["characters_per_second"]
        bits[kind] = trainer.evaluate(held_out(kind, test_ids))["bits"]
        started, wanted = time.perf_counter(), 100 if args.quick else 600
        text = generate(model, tokenizer.encode("\n\nMACBETH.\n"), wanted, temperature=0.7, generator=pydl.Generator(args.seed))
        texts[kind] = tokenizer.decode(text.tokens[0])
        print(f"{texts[kind]}\n({wanted / (time.perf_counter() - started):.0f} characters written a second)\n")
    (args.out / "texts.txt").write_text("\n\n".join(f"==== {k} ====\n{v}" for k, v in texts.items()) + "\n")

    with picture(args.out / "bits.png", 1, 2, figsize=(11, 4.5), width_ratios=[2, 1]) as (left, right):
        for kind, colour in zip(curves, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=True):
            million = [(i + 1) * len(ids) / pieces / 1e6 for i in range(len(curves[kind]))]
            left.plot(million, curves[kind], "o-", color=colour, markersize=3, label=kind)
            point = sum(speeds[kind]) / len(speeds[kind]) / 1000, bits[kind]
            right.plot(*point, "o", color=colour)
            right.annotate(kind, point, xytext=(5, 4), textcoords="offset points")
        left.set(xlabel="million characters read", ylabel="bits per character", title="Twelfth Night while training")
        left.legend()
        right.set(xlabel="thousand characters read a second", title="Macbeth at the end")
        for name in [b for b in bits if b not in curves and b not in ("1-gram", "3-gram")]:
            right.axhline(bits[name], color="grey", linestyle=":", linewidth=1)
            right.annotate(name, (0.02, bits[name]), xycoords=("axes fraction", "data"), va="bottom", color="grey")
        right.set_xlim(0, 1.25 * right.get_xlim()[1])
    print("  ".join(f"{k}: {sum(s) / len(s):,.0f} characters/s" for k, s in speeds.items()))
    limits = {"RNN": bits["3-gram"], "Transformer": bits["3-gram"]}
    limits |= dict.fromkeys(("LSTM", "GRU"), min(bits["RNN"], bits.get("5-gram", bits["3-gram"])))
    results = [Result(f"{k}, bits per character", b, "baseline") for k, b in bits.items() if k not in curves]
    for kind, limit in limits.items():
        goal = "below the trigrams" if limit == bits["3-gram"] else "below the RNN and the 5-grams"
        results.append(Result(f"{kind}, bits per character", bits[kind], goal, None if args.quick else bits[kind] < limit))
    finish(args, results)


if __name__ == "__main__":
    main()
