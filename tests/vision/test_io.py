"""Image files and drawing."""

import numpy as np
import pytest

import pydl
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.vision import draw, draw_boxes, draw_keypoints, draw_masks, draw_text, read_image, write_image
from pydl.vision.io import ImageError, from_pillow, to_pillow

Image = pytest.importorskip("PIL.Image")
rng = np.random.default_rng(1)
PHOTO = rng.integers(0, 256, (3, 20, 30), np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_keeps_every_pixel(tmp_path, channels):
    image = rng.integers(0, 256, (channels, 20, 30), np.uint8)
    path = write_image(tmp_path / "new" / "a.png", image)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    assert np.array_equal(read_image(path, mode), image)
    assert read_image(path).shape == (3, 20, 30)


def test_floats_are_cut_off_and_rounded(tmp_path):
    path = write_image(tmp_path / "a.png", np.array([[-1, 0, 0.5, 1, 7, np.nan]], np.float32))
    assert read_image(path, "L").tolist() == [[[0, 0, 128, 255, 255, 0]]]
    tensor = pydl.tensor(np.array([[0.0, 1.0]], np.float32))
    assert np.asarray(to_pillow(tensor)).tolist() == [[0, 255]]


def test_camera_orientation_is_followed(tmp_path):
    image = to_pillow(PHOTO)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(PHOTO, -1, (1, 2)))


def test_palette_and_16_bit():
    assert from_pillow(to_pillow(PHOTO).quantize(16)).shape == (3, 20, 30)


def test_errors(tmp_path):
    with pytest.raises(ImageError, match=r"none.png cannot be read: No such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text.png cannot be read as an image: .*b'hello'"):
        read_image(tmp_path / "text.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty.png cannot be read as an image: .*empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_image(tmp_path)
    with pytest.raises(ArgumentError, match="RGBA"):
        read_image(tmp_path / "text.png", "BGR")
    with pytest.raises(ShapeError, match="1, 3 or 4 channels, got shape \\(2, 4, 4\\)"):
        write_image(tmp_path / "a.png", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DTypeError, match="int64"):
        write_image(tmp_path / "a.png", np.zeros((4, 4), np.int64))
    with pytest.raises(ImageError, match="no transparency"):
        write_image(tmp_path / "a.jpg", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "a.nonsense", PHOTO)


SUFFIXES = [".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"]
quietly = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it then cannot read


@quietly
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_cut_anywhere_give_one_kind_of_error_or_pixels(tmp_path, suffix):
    path = tmp_path / f"whole{suffix}"
    write_image(path, PHOTO)
    data = path.read_bytes()
    failures = 0
    for cut in range(1, len(data), max(len(data) // 25, 1)):
        part = tmp_path / f"part{suffix}"
        part.write_bytes(data[:cut])
        try:
            assert read_image(part).shape[0] == 3
        except ImageError as error:
            assert str(part) in str(error)  # noqa: PT017
            failures += 1
    assert failures > 10


@quietly
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bytes_give_one_kind_of_error_or_pixels(tmp_path, suffix):
    data = write_image(tmp_path / f"whole{suffix}", PHOTO).read_bytes()
    damaged = tmp_path / f"damaged{suffix}"
    for _ in range(60):
        bad = bytearray(data)
        for at in rng.integers(0, min(len(bad), 300), 4):
            bad[at] ^= int(rng.integers(1, 256))
        damaged.write_bytes(bytes(bad))
        try:
            assert read_image(damaged).dtype == np.uint8
        except ImageError as error:
            assert str(damaged) in str(error)  # noqa: PT017


def test_boxes_outline_their_pixels():
    drawn = draw_boxes(np.zeros((40, 40), np.uint8), [[5, 6, 15, 21]], colors=(255, 0, 0), width=1)
    assert drawn.shape == (3, 40, 40)
    ys, xs = np.nonzero(drawn[0])
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (5, 6, 15, 21)
    assert len(ys) == 2 * (10 + 15) - 4
    assert not drawn[1:].any()


def test_labels_scores_and_colours():
    boxes = np.array([[10, 20, 50, 60], [30, 40, 90, 95], [60, 5, 95, 30]])
    plain = draw_boxes(np.zeros((3, 100, 100), np.uint8), boxes, ["cat", "dog", "cat"])
    scored = draw_boxes(np.zeros((3, 100, 100), np.uint8), pydl.tensor(boxes), ["cat", "dog", "cat"], [0.9, 0.8, 0.7])
    shades = {tuple(int(v) for v in c) for c in plain.reshape(3, -1).T}
    assert {draw.PALETTE[0], draw.PALETTE[1]} <= shades
    assert draw.PALETTE[2] not in shades
    assert not np.array_equal(plain, scored)
    assert np.array_equal(draw_boxes(PHOTO, np.zeros((0, 4))), PHOTO)


def test_masks_tint_and_leave_the_rest():
    masks = np.zeros((2, 20, 30), bool)
    masks[0, :5], masks[1, 10:, :3] = True, True
    drawn = draw_masks(PHOTO, masks, alpha=1.0)
    assert (draw.PALETTE[0] == drawn[:, :5].reshape(3, -1).T).all()
    assert (draw.PALETTE[1] == drawn[:, 10:, :3].reshape(3, -1).T).all()
    assert np.array_equal(drawn[:, 5:10], PHOTO[:, 5:10])
    assert np.array_equal(drawn, draw_masks(PHOTO, masks[0] + 2 * masks[1].astype(np.int64), alpha=1.0))


def test_keypoints_and_text():
    black = np.zeros((3, 50, 50), np.uint8)
    drawn = draw_keypoints(black, [[[10, 10, 1], [40, 40, 0]]], radius=2)
    assert drawn[:, 8:13, 8:13].any()
    assert not drawn[:, 30:].any()
    assert draw_keypoints(black, [[10, 10], [40, 40]], connect=[(0, 1)])[:, 25, 25].any()
    texts = draw_text(PHOTO, ["one"])
    assert texts.shape == PHOTO.shape
    assert not np.array_equal(texts, PHOTO)


def test_drawing_errors():
    with pytest.raises(ShapeError, match=r"boxes must be \(N, 4\)"):
        draw_boxes(PHOTO, [[1, 2, 3]])
    with pytest.raises(ArgumentError, match="1 labels for 2 boxes"):
        draw_boxes(PHOTO, [[1, 2, 3, 4]] * 2, ["a"])
    with pytest.raises(ArgumentError, match="negative size"):
        draw_boxes(PHOTO, [[5, 2, 3, 4]])
    with pytest.raises(ShapeError, match=r"\(N, 20, 30\)"):
        draw_masks(PHOTO, np.ones((2, 20, 31), bool))
    with pytest.raises(ShapeError, match="keypoints"):
        draw_keypoints(PHOTO, np.ones((2, 4)))
