"""Vocabularies and tokenizers: numbering, special tokens, round trips, files, errors."""

import json

import numpy as np
import pytest

from pydl.errors import ArgumentError
from pydl.text import SPECIALS, CharTokenizer, SubwordTokenizer, Vocabulary, WordTokenizer, load_tokenizer, one_hot

LINES = ["To be, or not to be: that is the question:", "Whether 'tis nobler in the mind to suffer", "O, what a rogue am I!"]


def test_vocabulary_ranks_by_count_then_by_character():
    v = Vocabulary.build([list("bbaacccd")], specials=("<unk>",))
    assert list(v) == ["<unk>", "c", "a", "b", "d"]
    assert list(Vocabulary.build([list("bbaacccd")], min_count=2)) == [*SPECIALS, "c", "a", "b"]
    assert list(Vocabulary.build([list("bbaacccd")], max_size=6)) == [*SPECIALS, "c", "a"]
    assert (v.pad, v.unk, v.sos, v.eos) == (None, 0, None, None)


def test_vocabulary_encodes_and_decodes():
    v = Vocabulary(["x", "y"])
    numbers = v.encode(["y", "z", "x"], sos=True, eos=True)
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [2, 5, 1, 4, 3]
    assert v.decode(numbers) == ["y", "x"]
    assert v.decode([5, 3, 4]) == ["y"]
    assert v.decode([5, 3, 4], stop=False, skip_specials=False) == ["y", "<eos>", "x"]
    assert v.decode([5, 3, 4], skip_specials=False) == ["y", "<eos>"]
    assert v.coverage(["x", "q"]) == 0.5
    assert "x" in v
    assert "q" not in v


def test_vocabulary_errors():
    bare = Vocabulary(["x"], specials=())
    with pytest.raises(ArgumentError, match=r"'q' is not among the 1 tokens.*<unk>"):
        bare.encode(["q"])
    with pytest.raises(ArgumentError, match="<eos> is not among the special tokens"):
        bare.encode(["x"], eos=True)
    with pytest.raises(ArgumentError, match=r"'x'.* more than once"):
        Vocabulary(["x", "x"])
    with pytest.raises(ArgumentError, match="outside 0 to 0"):
        bare.decode([-1])
    with pytest.raises(ArgumentError, match="max_size=2"):
        Vocabulary.build([["a"]], max_size=2)
    with pytest.raises(ArgumentError, match="tokenize it first"):
        Vocabulary.build(["a text"])


def test_files(tmp_path):
    for tokenizer in (CharTokenizer.train(LINES, specials=()), WordTokenizer.train(LINES, lower=False, newlines=True)):
        tokenizer.save(tmp_path / "t.json")
        again = load_tokenizer(tmp_path / "t.json")
        assert type(again) is type(tokenizer)
        assert again.vocabulary == tokenizer.vocabulary
        assert again.options() == tokenizer.options()
    vocabulary = Vocabulary(["ä", "\n", '"'])
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ArgumentError, match="is not JSON"):
        Vocabulary.load(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text(json.dumps({"kind": "x", "options": {}, "specials": [], "tokens": []}))
    with pytest.raises(ArgumentError, match="kind 'x'"):
        load_tokenizer(tmp_path / "bad.json")
    with pytest.raises(ArgumentError, match="expected an object with kind"):
        load_tokenizer(tmp_path / "v.json")


def test_characters_round_trip():
    t = CharTokenizer.train(LINES)
    for line in LINES:
        assert t.decode(t.encode(line, sos=True, eos=True)) == line
    assert t.vocabulary.unk in t.encode("ß").tolist()


def test_words():
    t = WordTokenizer.train(LINES)
    assert t.tokenize("'Tis Café-goers' 3,000.5 l'été_x\nA") == ["'", "tis", "café-goers", "'", "3,000.5", "l'été", "_", "x", "a"]
    assert t.decode(t.encode("to be, or not to be: that is the question!")) == "to be, or not to be: that is the question!"
    verse = WordTokenizer.train(LINES, newlines=True)
    assert verse.join(verse.tokenize("a b\nc (d), e")) == "a b\nc (d), e"
    # nothing that is not white space gets lost
    text = "».²½ ٣ x̂ 日本 e_1"
    assert "".join(t.tokenize(text)) == "".join(text.split())


def test_training_on_one_text_is_an_error():
    with pytest.raises(ArgumentError, match="put it into a list"):
        CharTokenizer.train("text")


def test_one_hot_times_table_is_a_look_up():
    ids = np.array([[0, 2], [1, 1]])
    table = np.arange(12.0).reshape(3, 4)
    import pydl

    assert np.array_equal(one_hot(pydl.from_numpy(ids), 3).data @ table, table[ids])


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_subwords(kind, tmp_path):
    pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")
    words = [" ".join(f"{a}{b}" for b in ("ing", "ed", "er", "s", "")) for a in ("walk", "talk", "jump", "look", "help", "play")]
    t = SubwordTokenizer.train(words * 3, kind, vocab_size=300 if kind == "bpe" else 60)
    assert (t.pad, t.unk, t.sos, t.eos) == (0, 1, 2, 3)
    numbers = t.encode("walking helper", sos=True, eos=True)
    assert numbers.dtype == np.int64
    assert (numbers[0], numbers[-1]) == (2, 3)
    assert t.decode(numbers) == "walking helper"
    assert t.decode([*numbers, 5, 6]) == "walking helper"
    assert len(t.tokenize("walking")) < len("walking")
    t.save(tmp_path / "tokenizer.json")
    again = SubwordTokenizer.load(tmp_path / "tokenizer.json")
    assert len(again) == len(t) == len(t.vocabulary)
    assert np.array_equal(again.encode("talked"), t.encode("talked"))
    if kind == "bpe":
        assert t.decode(t.encode("Zürich 日本")) == "Zürich 日本"  # bytes: nothing is unknown


def test_subword_errors(tmp_path):
    pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")
    with pytest.raises(ArgumentError, match="kind='chars'"):
        SubwordTokenizer.train(["a"], "chars")
    with pytest.raises(ArgumentError, match="needs <unk>"):
        SubwordTokenizer.train(["a"], "unigram", specials=("<pad>",))
    with pytest.raises(ArgumentError, match="there is no file"):
        SubwordTokenizer.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ArgumentError, match=r"not a tokenizer\.json"):
        SubwordTokenizer.load(tmp_path / "bad.json")
    t = SubwordTokenizer.train(["a b"], "bpe", specials=("<pad>",))
    with pytest.raises(ArgumentError, match="no eos token"):
        t.encode("a", eos=True)
