"""Words as one-hot vectors or as rows of a table: the same function, the same learning, but not the same work.

A one-hot vector times a weight matrix picks a row of it. An embedding layer picks the row without the multiplication by zeros:
both networks here start from the same weights, predict the next word of Hamlet from the two before (as Bengio et al. 2003), and
their losses agree but for rounding. The work of the one-hot product grows with the vocabulary, that of the look-up does not. And
one-hot vectors are all at right angles: only what is learnt, the rows, can say that words are alike.
"""

import time

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl import nn
from pydl.data import DataLoader, Shakespeare, TensorDataset
from pydl.optim import Adam
from pydl.text import WordTokenizer, one_hot
from pydl.train import Trainer

ALIKE = "my thy his her our your thou you i he she we king queen lord father mother".split()


class NextWord(nn.Module):
    """Two words -> scores of the next. The first layer is a matrix for one-hot vectors, or a table."""

    def __init__(self, words: int, features: int, hot: bool) -> None:
        super().__init__()
        self.hot, self.words = hot, words
        self.first = nn.Linear(words, features, bias=False) if hot else nn.Embedding(words, features)
        self.hidden, self.last = nn.Linear(2 * features, 64), nn.Linear(64, words)

    def vectors(self, ids):
        return self.first(one_hot(ids, self.words).to(pydl.float32) if self.hot else ids)

    def forward(self, ids):
        return self.last(pydl.tanh(self.hidden(pydl.flatten(self.vectors(ids), 1))))


def milliseconds(layer: NextWord, repeats: int = 5) -> float:
    """Of the first layer, forward and backward, for 256 pairs of words; the best of several."""
    ids = pydl.randint(layer.words, size=(256, 2), generator=pydl.Generator(0))
    best = np.inf
    for _ in range(repeats):
        started = time.perf_counter()
        layer.vectors(ids).sum().backward()
        best = min(best, time.perf_counter() - started)
        layer.zero_grad()
    return 1000 * best


def main() -> None:
    download = {"action": "store_true", "help": "fetch the plays if they are not here"}
    args = options(__doc__, epochs=10, quick_epochs=1, download=download)
    text = Shakespeare(download=args.download, names=["hamlet"])[0]
    tokenizer = WordTokenizer.train([text], min_count=2 if not args.quick else 8, specials=("<unk>",))
    ids = tokenizer.encode(text)
    windows = np.lib.stride_tricks.sliding_window_view(ids, 3)
    data = TensorDataset(np.ascontiguousarray(windows[:, :2]), np.ascontiguousarray(windows[:, 2]))
    models = {"look-up": NextWord(len(tokenizer), 32, False), "one-hot": NextWord(len(tokenizer), 32, True)}
    state = models["look-up"].state_dict()
    state["first.weight"] = pydl.from_numpy(np.ascontiguousarray(state["first.weight"].numpy().T))  # a matrix is a table, turned
    models["one-hot"].load_state_dict(state)
    losses = {}
    for name, model in models.items():
        print(f"{name}: {len(tokenizer)} words, {sum(p.numel() for p in model.parameters()):,} parameters")
        loader = DataLoader(data, batch_size=256, shuffle=True, seed=args.seed)
        trainer = Trainer(model, Adam(model.parameters(), 3e-3), pydl.cross_entropy, out=args.out / name, seed=args.seed)
        losses[name] = fit(trainer, loader, None, args)["train_loss"]
    sizes = [2**k for k in range(8, 12 if args.quick else 15)]
    times = {name: [milliseconds(NextWord(v, 32, name == "one-hot")) for v in sizes] for name in models}

    table = models["look-up"].first.weight.detach().numpy()
    known = [w for w in ALIKE if w in tokenizer.vocabulary]
    unit = table[[tokenizer.vocabulary[w] for w in known]]
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    with picture(args.out / "one_hot.png", 1, 3, figsize=(14, 4.5)) as (left, middle, right):
        epochs = np.arange(1, args.epochs + 1)
        left.plot(epochs, losses["look-up"], color="tab:blue", label="look-up")
        left.plot(epochs, losses["one-hot"], "o", color="tab:orange", markerfacecolor="none", label="one-hot")
        left.set(xlabel="epoch", ylabel="loss", title="The same learning")
        left.legend()
        for name, colour in (("look-up", "tab:blue"), ("one-hot", "tab:orange")):
            middle.loglog(sizes, times[name], "o-", color=colour, label=name)
        middle.set(xlabel="words in the vocabulary", ylabel="milliseconds for 512 words", title="Not the same work")
        middle.legend()
        shown = right.imshow(unit @ unit.T, cmap="RdBu_r", vmin=-1, vmax=1)
        right.set_xticks(range(len(known)), known, rotation=90)
        right.set_yticks(range(len(known)), known)
        right.set_title("Cosine of learnt rows (one-hot: 0 off the diagonal)")
        right.figure.colorbar(shown)
    apart = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    slower = times["one-hot"][-1] / times["look-up"][-1]
    finish(args, [
        Result("largest difference of the losses", apart, "0 but for rounding", apart < 1e-3),
        Result(f"one-hot takes times as long with {sizes[-1]} words", slower, "grows with the vocabulary", slower > 3),
    ])


if __name__ == "__main__":
    main()
