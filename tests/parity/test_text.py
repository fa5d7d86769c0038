"""BLEU beside sacrebleu, perplexity beside PyTorch."""

import numpy as np
import pytest

from pydl.text import BLEU, Perplexity, bleu, sentence_bleu


def corpus(seed, references, size=5, sentences=30):
    rng = np.random.default_rng(seed)

    def sentence():
        return [f"w{t}" for t in rng.integers(0, size, rng.integers(1, 12))]

    hypotheses = [sentence() for _ in range(sentences)]
    refs = [[sentence() for _ in range(references)] for _ in range(sentences)]
    for h, several in zip(hypotheses[::2], refs[::2], strict=True):  # every other one is nearly right
        several[0] = h[:-1] + ["w0"]
    return hypotheses, refs


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize(("smoothing", "value"), [("exp", None), ("none", None), ("floor", None), ("floor", 0.5), ("add-k", None),
                                                  ("add-k", 2)])
def test_bleu_equals_sacrebleu(references, smoothing, value):
    sacrebleu = pytest.importorskip("sacrebleu")
    for seed in range(5):
        hypotheses, refs = corpus(seed, references)
        lines, streams = [" ".join(h) for h in hypotheses], [[" ".join(r[i]) for r in refs] for i in range(references)]
        theirs = sacrebleu.BLEU(smooth_method=smoothing, smooth_value=value, tokenize="none", force=True)
        wanted = theirs.corpus_score(lines, streams)
        mine = BLEU(smoothing=smoothing, value=value)
        mine.update(hypotheses, refs)
        assert mine.compute() == pytest.approx(wanted.score, abs=1e-9)
        assert mine.score().precisions == pytest.approx(wanted.precisions, abs=1e-9)
        assert mine.score().brevity_penalty == pytest.approx(wanted.bp)
        assert (mine.length, mine.reference) == (wanted.sys_len, wanted.ref_len)
        single = sacrebleu.BLEU(smooth_method=smoothing, smooth_value=value, tokenize="none", effective_order=True, force=True)
        for h, r in zip(hypotheses, refs, strict=True):
            wanted_one = single.sentence_score(" ".join(h), [" ".join(x) for x in r]).score
            assert sentence_bleu(h, r, smoothing=smoothing, value=value) == pytest.approx(wanted_one, abs=1e-9)


def test_bleu_of_short_orders():
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, refs = corpus(9, 1)
    theirs = sacrebleu.BLEU(max_ngram_order=2, tokenize="none", force=True)
    wanted = theirs.corpus_score([" ".join(h) for h in hypotheses], [[" ".join(r[0]) for r in refs]]).score
    assert bleu(hypotheses, [r[0] for r in refs], max_n=2) == pytest.approx(wanted)


def test_perplexity_equals_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(40, 11)).astype(np.float32), rng.integers(0, 11, 40)
    target[::7] = 5
    wanted = torch.nn.functional.cross_entropy(torch.tensor(scores), torch.tensor(target), ignore_index=5).exp().item()
    metric = Perplexity(ignore_index=5)
    metric.update(scores, target)
    assert metric.compute() == pytest.approx(wanted, rel=1e-5)
