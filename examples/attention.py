"""Attention by hand: a soft look-up in a table, masks that hide entries, and positions made of sines (Vaswani et al. 2017).

A query is compared with every key; the softmax of the products, divided by the root of their length, says how much of each value
goes into the answer. What is shown with numbers and a picture: with a sharp query the look-up is that of a dictionary; a hidden
key gets weight 0 exactly; without the division by the root the weights harden as vectors get longer; and the product of two
positions depends on their distance alone, and fades with it.

No data and no training: the figures follow from the formulas. The words of the table are looked up by vectors of the letters
that they contain.
"""

import numpy as np
from common import Result, finish, options, picture

import pydl
from pydl import nn, ops

TABLE = {"dog": "Hund", "cat": "Katze", "mouse": "Maus", "horse": "Pferd", "house": "Haus", "goose": "Gans"}


def letters(word: str) -> np.ndarray:
    """How often each letter occurs, as a vector of length 1."""
    counts = np.array([word.count(chr(97 + i)) for i in range(26)], np.float32)
    return counts / np.linalg.norm(counts)


def look_up(query: str, sharpness: float, hidden: tuple[str, ...] = ()) -> np.ndarray:
    """The weight of each entry of the table, by `pydl.ops.scaled_dot_product_attention` with the unit vectors as values."""
    keys = pydl.tensor(np.stack([letters(w) for w in TABLE]))[None]
    values = pydl.tensor(np.eye(len(TABLE), dtype=np.float32))[None]
    seen = pydl.tensor(np.array([[w not in hidden for w in TABLE]]))
    q = pydl.tensor(sharpness * 26**0.5 * letters(query))[None, None]
    return ops.scaled_dot_product_attention(q, keys, values, attn_mask=seen).numpy()[0, 0]


def hardness(length: int, scaled: bool, seed: int) -> float:
    """The largest of 16 weights, in the mean over 200 random queries and keys of this length."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((200, 1, length)), rng.standard_normal((200, 16, length))
    scores = (q * k).sum(-1) / (length**0.5 if scaled else 1.0)
    return float(ops.softmax(pydl.tensor(scores), -1).numpy().max(-1).mean())


def main() -> None:
    args = options(__doc__, epochs=1, quick_epochs=1)
    soft = np.stack([look_up(w, 3.0) for w in TABLE])
    sharp = np.stack([look_up(w, 60.0) for w in TABLE])
    causal = np.stack([look_up(w, 3.0, tuple(TABLE)[i + 1 :]) for i, w in enumerate(TABLE)])
    found = [list(TABLE.values())[i] for i in sharp.argmax(1)]
    print("looked up:", ", ".join(f"{w} -> {f}" for w, f in zip(TABLE, found, strict=True)))
    print("half-known 'moose' is answered by", ", ".join(
        f"{100 * p:.0f} % {v}" for p, v in sorted(zip(look_up("moose", 8.0), TABLE.values(), strict=True), reverse=True)[:3]))

    lengths = [4, 16, 64, 256, 1024]
    hard = {s: [hardness(n, s, args.seed) for n in lengths] for s in (False, True)}
    positions = nn.PositionalEncoding(128, 200).pe.numpy()
    products = positions @ positions.T / 64  # 64 pairs of sine and cosine: 1 with itself

    with picture(args.out / "attention.png", 2, 3, figsize=(14, 8)) as axes:
        names, answers = list(TABLE), list(TABLE.values())
        for axis, weights, title in zip(axes[0], (soft, sharp, causal), ("soft look-up", "sharp look-up", "later entries hidden"),
                                        strict=True):
            axis.imshow(weights, cmap="Blues", vmin=0, vmax=1)
            axis.set(xticks=range(len(names)), yticks=range(len(names)), title=title)
            axis.set_xticklabels(answers, rotation=45, ha="right")
            axis.set_yticklabels(names)
            for i, j in np.ndindex(weights.shape):
                if weights[i, j] > 0.005:
                    axis.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", fontsize=7,
                              color="white" if weights[i, j] > 0.6 else "black")
        wide, line, near = axes[1]
        wide.imshow(positions[:100, ::2].T, cmap="RdBu_r", aspect="auto", interpolation="nearest")
        wide.set(xlabel="position", ylabel="frequency, from fast to slow", title="sines that tell positions apart")
        for place, color, dashes in ((50, "#26a", "-"), (100, "#c44", "--")):
            line.plot(np.arange(200) - place, products[place], dashes, color=color, label=f"position {place}")
        line.set(xlim=(-50, 99), xlabel="distance", ylabel="product of two positions", title="only the distance matters")
        line.legend()
        for scaled, values in hard.items():
            near.plot(lengths, values, "o-", color="#283" if scaled else "#c44", label="divided" if scaled else "as they are")
        near.set(xscale="log", ylim=(0, 1.02), xlabel="length of the vectors", ylabel="largest of 16 weights",
                 title="why products are divided")
        near.set_xticks(lengths, map(str, lengths))
        near.minorticks_off()
        near.legend()

    apart = max(float(np.ptp(np.diagonal(products, d))) for d in range(1, 50))
    finish(args, [
        Result("words looked up right, of 6", sum(f == a for f, a in zip(found, TABLE.values(), strict=True)), "6",
               found == list(TABLE.values())),
        Result("weight of hidden entries", float(np.triu(causal, 1).sum()), "0 exactly", not np.triu(causal, 1).any()),
        Result("products of positions at one distance differ by", apart, "0, but for rounding", apart < 1e-4),
        Result("largest weight, 1024 features, undivided", hard[False][-1], "near 1: hard", hard[False][-1] > 0.9),
        Result("the same, divided", hard[True][-1], "as with 4 features", abs(hard[True][-1] - hard[True][0]) < 0.1),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
