"""From spelling to sound: an encoder-decoder writes the phonemes of English words, without attention and with it.

Data: the pronouncing dictionary of Carnegie Mellon University, 117 thousand words, a tenth of them held out; stress is left out
and any of a word's pronunciations counts as right, as is the custom. Documented on this dictionary (each paper cleans and divides
it in its own way): 5.45 % of the phonemes and 23.55 % of the words wrong for LSTMs that read both ways and were given the
alignment (Yao and Zweig 2015, arXiv:1506.00196), 4.69 % and 20.24 % for several networks with attention together (Toshniwal and
Livescu 2016, arXiv:1610.06540). Those are large; here are 128 units and minutes, on every third held-out word, so more errors
are to be expected: below 12 % and 45 %, with attention fewer. Measured (seed 0, 51 minutes
on one busy core): 10.8 % and 39.4 % without attention, 9.0 % and 35.7 % with it.
"""

import numpy as np
from common import Result, finish, fit, options, picture

import pydl
from pydl import optim
from pydl.data import CMUDict, DataLoader
from pydl.models import Seq2Seq
from pydl.text import BucketSampler, PadCollate, Seq2SeqTrainer, TokenErrorRate, Vocabulary, transduce

MODELS = {
    "without attention": {"attention": None, "feed_context": True},
    "with attention": {"attention": "general"},
}  # fmt: skip


def loader(words: CMUDict, letters: Vocabulary, phonemes: Vocabulary, limit: int, batch: int, shuffle: bool) -> DataLoader:
    """Batches of (letters, lengths, phonemes), words of similar length together."""
    pairs = words.pairs[:: -(-len(words) // limit)]
    data = [(letters.encode(word), phonemes.encode(spoken, sos=True, eos=True)) for word, spoken in pairs]
    order = BucketSampler([len(source) for source, _ in data], batch, shuffle=shuffle)
    return DataLoader(data, batch_sampler=order, collate_fn=PadCollate(letters.pad, lengths=[0]))


def main() -> None:
    args = options(
        __doc__, epochs=4, quick_epochs=1,
        download={"action": "store_true", "help": "fetch the dictionary if it is not there"},
        units={"type": int, "default": 128, "help": "of each recurrent layer and direction (default 128)"},
        beam={"type": int, "default": 4, "help": "width of the beam search (default 4)"},
    )  # fmt: skip
    train, valid, test = (CMUDict(part, download=args.download) for part in ("train", "valid", "test"))
    letters, phonemes = Vocabulary.build(map(list, train.sources)), Vocabulary.build(train.targets)
    sizes = (3000, 500, 300) if args.quick else (len(train), len(valid), len(test.pronunciations))
    batches = loader(train, letters, phonemes, sizes[0], 64, True), loader(valid, letters, phonemes, sizes[1], 256, False)
    words = list(test.pronunciations)[::3][: sizes[2]]
    print(f"{len(train):,} pronunciations, {len(words):,} words held out; {len(letters)} letters, {len(phonemes)} phonemes")

    results, models = [], {}
    for name, design in MODELS.items():
        pydl.manual_seed(args.seed)
        model = Seq2Seq(len(letters), len(phonemes), 64, args.units, cell="gru", dropout=0.1, **design)
        optimizer = optim.Adam(model.parameters(), lr=2e-3)
        steps = args.epochs * len(batches[0])
        trainer = Seq2SeqTrainer(
            model, optimizer, pad=phonemes.pad, grad_clip=1.0,
            scheduler=optim.lr_scheduler.WarmupCosine(optimizer, steps // 20, steps), scheduler_per_step=True,
            out=args.out / name.replace(" ", "_"), seed=args.seed,
        )  # fmt: skip
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")
        fit(trainer, *batches, args)
        rate = errors(model, words, test, letters, phonemes, args.beam)
        models[name] = model
        results.append((name, rate))
        print(f"{name}: {100 * rate.compute():.2f} % of phonemes, {100 * rate.sequence_error_rate:.1f} % of words wrong")
    report(models["with attention"], words, test, letters, phonemes, args.out)
    (_, plain), (_, attentive) = results
    published = {"without attention": "", "with attention": "{} (several large); "}
    figures = []
    for name, rate in results:
        each, whole = 100 * rate.compute(), 100 * rate.sequence_error_rate
        figures.append(Result(f"{name}: wrong phonemes, %", each, published[name].format(4.69) + "here below 12",
                              None if args.quick else each < 12))
        figures.append(Result(f"{name}: wrong words, %", whole, published[name].format(20.24) + "here below 45",
                              None if args.quick else whole < 45))
    figures.append(Result("phoneme errors, with attention / without", attentive.compute() / plain.compute(), "below 1",
                          None if args.quick else attentive.compute() < plain.compute()))
    finish(args, figures)


def errors(model, words: list[str], test: CMUDict, letters: Vocabulary, phonemes: Vocabulary, beam: int) -> TokenErrorRate:
    """Phoneme and word error rates of the best of a beam search; of several pronunciations the nearest counts."""
    found = transduce(model, [letters.encode(w) for w in words], phonemes.sos, phonemes.eos, 30, width=beam, batch_size=256)
    rate = TokenErrorRate()
    rate.update([phonemes.decode(f) for f in found], [[list(p) for p in test.pronunciations[w]] for w in words])
    return rate


def report(model: Seq2Seq, words: list[str], test: CMUDict, letters: Vocabulary, phonemes: Vocabulary, out) -> None:
    """Which letters the decoder looks at while it writes each phoneme, for six long words."""
    chosen = sorted((w for w in words if 8 <= len(w) <= 11), key=lambda w: (-len(set(w)), w))[:6]
    model.eval()
    with picture(out / "alignment.png", 2, 3, figsize=(12, 7)) as axes:
        for axis, word in zip(axes.ravel(), chosen, strict=True):
            source = letters.encode(word)[None]
            spoken = transduce(model, [source[0]], phonemes.sos, phonemes.eos, 30)[0]
            target = np.concatenate([[phonemes.sos], spoken])[None]
            with pydl.no_grad():
                _, weights = model(source, [len(word)], target, need_weights=True)
            names = [*phonemes.decode(spoken), "end"]
            axis.imshow(weights.numpy()[0], cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axis.set_xticks(range(len(word)), list(word))
            axis.set_yticks(range(len(names)), names)
            axis.xaxis.tick_top()
            right = tuple(phonemes.decode(spoken)) in test.pronunciations[word]
            expected = " ".join(test.pronunciations[word][0])
            axis.set_xlabel(" ".join(names[:-1]) + ("" if right else f"\nthe dictionary: {expected}"),
                            color="#283" if right else "#c44", fontsize=9)
            print(f"{word:14}{' '.join(names[:-1]):40}{'' if right else f'dictionary: {expected}'}")


if __name__ == "__main__":
    main()
