"""The next word of Shakespeare by an LSTM over learnt word vectors, against counting; and which words are alike to it.

One table of vectors serves at both ends (Press and Wolf 2017, arXiv:1608.05859), with dropout as Zaremba, Sutskever and Vinyals
(2014, arXiv:1409.2329) place it. The measure is perplexity, among how many equally likely words the model hesitates, on Macbeth,
which is not read in training; words beyond the most frequent 3000 are one word, <unk>. The baseline are interpolated Kneser-Ney
trigrams on the same words. An LSTM is better than n-grams (on as much of the Penn Treebank 115, Zaremba et al., beside 141 of
5-grams, Mikolov and Zweig 2012).

Measured (seed 0), perplexity: frequencies alone 205, bigrams 88, trigrams 78, the LSTM 67.
"""

import math

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl.data import Shakespeare
from pydl.generation import generate
from pydl.models import RNNLanguageModel
from pydl.optim import Adam
from pydl.optim.lr_scheduler import WarmupCosine
from pydl.text import BPTTBatches, LanguageModelTrainer, NGramModel, Perplexity, WordTokenizer

WORDS = """king queen lord lady prince duke father mother son daughter brother sister love hate fear joy grief sword blood war
peace night day morning sun moon sea earth heaven hell god devil heart eye hand tongue head i thou he she we they come go speak
say tell hear see good ill fair foul sweet rome france england""".split()
OPENINGS = ["my lord, i", "i pray", "what is the", "god save the", "the king of", "to be or not to"]


def nearest(table: np.ndarray, vocabulary, word: str, count: int = 6) -> list[str]:
    """The words whose vectors point the same way."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    order = np.argsort(-unit @ unit[vocabulary[word]])
    return [vocabulary.token(int(i)) for i in order[1 : count + 1]]


def plane(table: np.ndarray) -> np.ndarray:
    """Two dimensions that keep most of the differences between the rows (principal components of their directions)."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    unit = unit - unit.mean(0)
    return unit @ np.linalg.svd(unit, full_matrices=False)[2][:2].T


def main() -> None:
    download = {"action": "store_true", "help": "fetch the plays if they are not here"}
    args = options(__doc__, epochs=8, quick_epochs=4, download=download)
    plays = Shakespeare(download=args.download, names=["hamlet", "twelfth_night", "macbeth"] if args.quick else None)
    train, valid, test = plays.split()
    tokenizer = WordTokenizer.train([train], max_size=800 if args.quick else 3000, specials=("<unk>",))
    ids, valid_ids, test_ids = (tokenizer.encode(text) for text in (train, valid, test))
    print(f"{len(ids):,} words to learn from, {len(tokenizer)} different ones; <unk> are {(test_ids == 0).mean():.1%} of Macbeth")
    counted = {n: math.exp(NGramModel(n, len(tokenizer)).fit(ids).negative_log_likelihood(test_ids)) for n in (1, 2, 3)}
    size = 48 if args.quick else 128
    model = RNNLanguageModel(len(tokenizer), size, size, cell="lstm", dropout=0.2, tied=True)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    loader = BPTTBatches(ids, 20, 35, pieces=4)  # an epoch is a quarter of the text
    steps = args.epochs * len(loader)
    optimizer = Adam(model.parameters(), lr=4e-3)
    trainer = LanguageModelTrainer(
        model, optimizer, {"perplexity": Perplexity()}, grad_clip=1.0, seed=args.seed, out=args.out, scheduler_per_step=True,
        scheduler=WarmupCosine(optimizer, steps // 20, steps),
    )  # fmt: skip
    history = fit(trainer, loader, BPTTBatches(valid_ids, 20, 35), args)
    perplexity = trainer.evaluate(BPTTBatches(test_ids, 4, 35))["perplexity"]

    lines = ["What follows, by the model's opinion:"]
    for opening in OPENINGS:
        with pydl.no_grad():
            scores, _ = model.eval().step(pydl.from_numpy(tokenizer.encode(opening)[None]), None)
        p = pydl.softmax(scores, -1).numpy()[0]
        best = np.argsort(-p)[:5]
        lines.append(f"  {opening} ... " + ", ".join(f"{tokenizer.vocabulary.token(int(i))} {p[i]:.0%}" for i in best))
    table = model.embedding.weight.detach().numpy()
    lines.append("Nearest words:")
    known = [w for w in WORDS if w in tokenizer.vocabulary]
    lines += [f"  {word}: {', '.join(nearest(table, tokenizer.vocabulary, word))}" for word in known[::5]]
    text = generate(model, tokenizer.encode("macbeth."), 60, temperature=0.8, top_p=0.9, forbidden=[0],
                    generator=pydl.Generator(args.seed))
    lines.append(f"A text: {tokenizer.decode(text.tokens[0])}")
    print("\n".join(lines))
    (args.out / "texts.txt").write_text("\n".join(lines) + "\n")

    with picture(args.out / "words.png", 1, 2, figsize=(13, 5.5), width_ratios=[2, 3]) as (left, right):
        million = (np.arange(len(history)) + 1) * len(ids) / loader.pieces / 1e6
        left.plot(million, history["train_perplexity"], "o:", markersize=3, label="LSTM, what it reads")
        left.plot(million, history["valid_perplexity"], "o-", markersize=3, label="LSTM, Twelfth Night")
        left.plot(million[-1], perplexity, "*", markersize=12, label="LSTM, Macbeth")
        for n, name, side in ((2, "bigrams", "bottom"), (3, "trigrams", "top")):
            left.axhline(counted[n], color="grey", linestyle=":")
            left.annotate(f"{name}, Macbeth", (1, counted[n]), xycoords=("axes fraction", "data"), ha="right", va=side,
                          color="grey")
        left.set(xlabel="million words read", ylabel="perplexity", title="The next word", ylim=(50, 250), xlim=(0, None))
        left.legend()
        points = plane(table[[tokenizer.vocabulary[w] for w in known]])
        right.scatter(*points.T, s=4, color="tab:blue")
        for word, point in zip(known, points, strict=True):
            right.annotate(word, point, fontsize=8, xytext=(2, 2), textcoords="offset points")
        right.set(title="Word vectors, two principal components", xticks=[], yticks=[])
    holds = None if args.quick else perplexity < counted[3]
    names = {1: "frequencies", 2: "bigrams", 3: "trigrams"}
    results = [Result(f"perplexity of {name}", counted[n], "baseline") for n, name in names.items()]
    finish(args, [*results, Result("perplexity of the LSTM", perplexity, "below the trigrams", holds)])


if __name__ == "__main__":
    main()
