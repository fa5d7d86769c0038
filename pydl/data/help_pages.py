"""Sentences in two languages from the help pages of LibreOffice (`OfficeHelp`)."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pydl.data.fetch import cache_folder, fetch_package_folder
from pydl.data.images import DatasetNotFoundError
from pydl.data.pairs import PairSet, split_pairs
from pydl.errors import ArgumentError

__all__ = ["OfficeHelp"]

_BLOCK = re.compile(r'<(p|h\d)\b[^>]*\bid="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
_END = re.compile(r'(?<=[.!?:])\s+(?=[A-ZÀ-Þ¿¡"„«])')

_PROGRAM = re.compile(r"[<>$%|{}\[\]=_&\\^~@#*]|--|[A-Za-z]\.[A-Za-z]|\w\(")  # operators, options, names with dots, calls


class OfficeHelp(PairSet):
    """Sentences of LibreOffice's help in another language and English (MPL-2.0: read, never shipped).

    A pair is (other language, English). Both versions of a page mark each paragraph with the same sign; paragraphs of equally
    many sentences are taken, sentence by sentence (headings and names of settings among them), those of at most 25 words and
    without signs of program text. Pages are divided, not sentences: 5 % of the pages are "test", 2 % "valid".

    Parameters
    ----------
    part : "train", "valid", "test" or "all"
    language : str
        As the package names it: de, es, fr, it, ...
    root : path, optional
        Folder with the folders of both languages, such as ``de`` and ``en-US``, each with help pages in folders below it.
        Default: the folder ``libreoffice-help`` below the environment variable PYDL_DATA, the installed pages, the cache.
    download : bool
        If they are not there, fetch them out of the Debian packages libreoffice-help-en-us and libreoffice-help-LANGUAGE (2 and
        3 MB), in the version of Debian 12 (7.4.7); de, es, fr.
    """

    content = {  # SHA-256 of the pages of version 4:7.4.7-1+deb12u13 and u14, by language
        "en-US": "c3facd77137dfddeff50740842104cdc173ce399bb9b22e273806ddf2b8bf964",
        "de": "24572dea0595f4c195cf5452306d3692f392ce339efce8b7fbe2e0fb1fcd40da",
        "es": "bc0f99d5718ef03b822d7bce228a6aed880ea2d6246a4f3efe8317fbbc9a4eeb",
        "fr": "fab20811ecfa3793c21de71025c82004738bf946e14ab6f159a84cf1600eab51",
    }

    def __init__(
        self, part: str = "train", language: str = "de", root: str | os.PathLike[str] | None = None, download: bool = False
    ) -> None:
        if not re.fullmatch(r"[A-Za-z-]+", language) or language.lower().startswith("en"):
            raise ArgumentError(f"OfficeHelp: language={language!r}; expected a code such as 'de', other than English")
        if download and language not in self.content:
            raise ArgumentError(f"OfficeHelp: language={language!r} cannot be fetched, no checksum is known; expected one of "
                                f"{', '.join(sorted(set(self.content) - {'en-US'}))}, or an installed package and download=False")
        theirs, ours = (self._folder(code, root, download) for code in (language, "en-US"))
        super().__init__(split_pairs(_aligned(theirs, ours), part))

    def _folder(self, code: str, root: str | os.PathLike[str] | None, download: bool) -> Path:
        """Where the pages of a language are."""
        inside, data = f"usr/share/libreoffice/help/{code}/text", os.environ.get("PYDL_DATA")
        cached = cache_folder() / "libreoffice-help" / code
        places = [Path(data) / "libreoffice-help" / code] if data else []
        places = [Path(root) / code] if root is not None else [*places, Path("/") / inside, cached]
        for place in places:
            if place.is_dir():
                return place
        package = f"libreoffice-help-{code.lower()}"
        if not download:
            raise DatasetNotFoundError(f"OfficeHelp: none of the folders {', '.join(map(str, places))} is there. What provides "
                                       f"it: OfficeHelp(download=True); or `apt-get install {package}` (Debian 12)")
        return fetch_package_folder("apt", package, "", inside, self.content[code], places[-1], (".html",))


def _aligned(theirs: Path, ours: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """(page, (sentence, its English)) of all pages that both folders have."""
    for page in sorted(ours.rglob("*.html")):
        name = page.relative_to(ours)
        if not (theirs / name).is_file():
            continue
        english = _paragraphs(page)
        for sign, text in _paragraphs(theirs / name).items():
            sides = _END.split(text), _END.split(english.get(sign, ""))
            if len(sides[0]) == len(sides[1]):
                yield from ((name.as_posix(), p) for p in zip(*sides, strict=True) if p[0] != p[1] and all(map(_is_clean, p)))


def _paragraphs(page: Path) -> dict[str, str]:
    """The texts of a page by their signs."""
    found: dict[str, str] = {}
    for _, sign, text in _BLOCK.findall(page.read_text("utf-8")):
        found.setdefault(sign, " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split()))
    return found


def _is_clean(text: str) -> bool:
    return len(text.split()) <= 25 and not _PROGRAM.search(text) and bool(re.search(r"\w\w\w", text))
