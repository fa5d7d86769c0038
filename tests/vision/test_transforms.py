"""What every transform promises: annotations follow the pixels, the number of workers does not matter, errors are clear."""

import pickle

import numpy as np
import pytest

import pydl
from pydl.data import DataLoader, Dataset
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.vision import transforms as T
from pydl.vision.transforms import functional as F

GEOMETRIC = {
    "pad": T.Pad((5, 3, 2, 7)),
    "pad edge": T.Pad(4, padding_mode="edge"),
    "center crop": T.CenterCrop((40, 52)),
    "center crop larger": T.CenterCrop(90),
    "random crop": T.RandomCrop((45, 50)),
    "random crop padded": T.RandomCrop(64, padding=6),
    "random crop if needed": T.RandomCrop((70, 100), pad_if_needed=True),
    "resize": T.Resize((90, 45)),
    "resize short edge": T.Resize(32),
    "resize nearest": T.Resize((31, 120), "nearest"),
    "random resized crop": T.RandomResizedCrop(48, scale=(0.5, 1)),
    "horizontal flip": T.RandomHorizontalFlip(1.0),
    "vertical flip": T.RandomVerticalFlip(1.0),
    "rotation": T.RandomRotation(30),
    "rotation quarter": T.RandomRotation((90, 90), "bilinear", expand=True),
    "rotation expanded": T.RandomRotation((20, 40), expand=True),
    "affine": T.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 10, "bilinear"),
    "affine four shears": T.RandomAffine(0, shear=(-9, 9, 5, 12)),
    "perspective": T.RandomPerspective(0.4, 1.0),
}
COLOUR = {
    "jitter": T.ColorJitter(0.4, 0.4, 0.4, 0.2),
    "grey": T.Grayscale(3),
    "random grey": T.RandomGrayscale(0.5),
    "noise": T.GaussianNoise(0, 0.1),
    "blur": T.GaussianBlur(5, (0.5, 2)),
    "normalize": T.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    "erasing": T.RandomErasing(1.0),
    "erasing random": T.RandomErasing(1.0, value="random"),
    "cutout": T.Cutout(9, 2),
}
TOGETHER = T.Compose([
    T.RandomResizedCrop(56, (0.5, 1)), T.RandomHorizontalFlip(), T.RandomApply([T.RandomRotation(20)], 0.7),
    T.RandomChoice([T.ColorJitter(0.3), T.GaussianNoise()]), T.RandomOrder([T.GaussianBlur(3), T.Cutout(6)]),
])  # fmt: skip


def scene(seed, dtype=np.uint8, size=(64, 80)):
    """A bright rectangle on black, with its box, its mask and its middle."""
    rng = np.random.default_rng(seed)
    h, w = size
    x1, y1 = rng.integers(12, w // 2), rng.integers(12, h // 2)
    x2, y2 = x1 + rng.integers(8, 20), y1 + rng.integers(8, 20)
    image = np.zeros((3, h, w), dtype)
    image[:, y1:y2, x1:x2] = 255 if dtype == np.uint8 else 1
    middle = [[(x1 + x2) / 2, (y1 + y2) / 2, 1]]
    return T.Sample(image, [[x1, y1, x2, y2]], (image[:1] > 0).astype(np.uint8), [middle], ["thing"])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_annotations_follow_the_pixels(name, dtype):
    """The box around the moved rectangle's pixels is the moved box, for turns the box around it: both to within a pixel."""
    pydl.manual_seed(1)
    for seed in range(6):
        before = scene(seed, dtype)
        after = GEOMETRIC[name](before)
        assert after.image.dtype == dtype
        assert after.image.shape[0] == 3
        assert after.masks.shape == (1, *after.image.shape[1:])
        assert after.labels == ["thing"]
        bright = after.image[0] > after.image.max() / 2
        if bright.sum() < 30:
            continue
        assert (bright != (after.masks[0] > 0)).sum() <= 0.9 * (bright.any(0).sum() + bright.any(1).sum())
        ys, xs = np.nonzero(bright)
        if name != "pad edge":
            np.testing.assert_allclose(after.boxes[0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.6)
        x, y, seen = after.keypoints[0, 0]
        if seen and not (xs.min() == 0 or ys.min() == 0 or xs.max() + 1 == bright.shape[1] or ys.max() + 1 == bright.shape[0]):
            np.testing.assert_allclose([x, y], [xs.mean() + 0.5, ys.mean() + 0.5], atol=2.5)
        assert np.array_equal(before.image, scene(seed, dtype).image)  # the input is left alone


@pytest.mark.parametrize("name", COLOUR)
def test_colours_leave_places_alone(name):
    pydl.manual_seed(2)
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.float32, np.float64):
        image = rng.integers(0, 256, (3, 30, 40)).astype(np.uint8)
        before = scene(0).replace(image=image if dtype == np.uint8 else (image / 255).astype(dtype), masks=None)
        copy = before.image.copy()
        after = COLOUR[name](before)
        assert after.boxes is before.boxes
        assert np.array_equal(before.image, copy)
        assert after.image.shape == before.image.shape
        assert after.image.dtype == (np.float32 if name == "normalize" and dtype == np.uint8 else dtype)
        if name not in ("normalize", "erasing random"):
            assert after.image.min() >= 0
            assert after.image.max() <= (255 if dtype == np.uint8 else 1)


class Scenes(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        sample = TOGETHER(scene(index, np.float32))
        return sample.image, sample.boxes


def epochs(**options):
    loader = DataLoader(Scenes(), batch_size=5, shuffle=True, seed=3, **options)
    return [np.concatenate([f.numpy() for f in fields]) for _ in range(2) for fields in zip(*loader, strict=True)]


def test_any_number_of_workers_gives_the_same_samples():
    alone = epochs()
    for options in ({"num_workers": 1}, {"num_workers": 3}):
        for a, b in zip(alone, epochs(**options), strict=True):
            assert np.array_equal(a, b)
    assert not np.array_equal(np.sort(alone[0].sum((1, 2, 3))), np.sort(alone[2].sum((1, 2, 3))))  # another epoch differs


@pytest.mark.parametrize("transform", [*GEOMETRIC.values(), *COLOUR.values(), TOGETHER], ids=[*GEOMETRIC, *COLOUR, "together"])
def test_seed_decides_and_pickling_keeps(transform):
    results = []
    for t in (transform, transform, pickle.loads(pickle.dumps(transform))):
        pydl.manual_seed(5)
        results.append(t(scene(1)))
    for other in results[1:]:
        assert np.array_equal(results[0].image, other.image)
        assert np.array_equal(results[0].boxes, other.boxes)
    assert repr(transform).startswith(type(transform).__name__)


def test_kinds_of_input():
    image = scene(0).image
    flipped = T.RandomHorizontalFlip(1.0)
    assert isinstance(flipped(image), np.ndarray)
    tensor = flipped(pydl.tensor(image))
    assert isinstance(tensor, pydl.Tensor)
    assert np.array_equal(tensor.numpy(), image[..., ::-1])
    pil = pytest.importorskip("PIL.Image").fromarray(image.transpose(1, 2, 0))
    assert np.array_equal(flipped(pil), image[..., ::-1])
    assert np.array_equal(T.ToArray()(pil), image)
    for same in (pil, image, image.transpose(1, 2, 0)):
        np.testing.assert_allclose(T.ToTensor()(same).numpy(), image / np.float32(255), rtol=1e-6)
    assert T.ToTensor()(np.zeros((5, 7), np.uint8)).shape == (1, 5, 7)
    assert T.ToTensor()(scene(0)).image.dtype == np.float32


def test_flip_keypoint_pairs_and_visibility():
    sample = T.Sample(np.zeros((1, 10, 20), np.uint8), keypoints=[[[2, 3, 1], [17, 3, 1], [9, 9, 1]]])
    after = T.RandomHorizontalFlip(1.0, keypoint_pairs=[(0, 1)])(sample)
    assert after.keypoints.tolist() == [[[3, 3, 1], [18, 3, 1], [11, 9, 1]]]
    assert T.CenterCrop(10)(sample).keypoints[0, :, 2].tolist() == [0, 0, 1]


def test_objects_that_leave_are_removed_with_all_that_belongs_to_them():
    masks = np.zeros((3, 40, 40), bool)
    masks[0, :4, :4], masks[1, 15:25, 15:25], masks[2, 30:, 30:] = True, True, True
    boxes = [[0, 0, 4, 4], [15, 15, 25, 25], [30, 30, 40, 40]]
    sample = T.Sample(np.zeros((3, 40, 40), np.uint8), boxes, masks, np.zeros((3, 2, 2)), np.array([7, 8, 9]), {"id": 4})
    after = T.Compose([T.CenterCrop(20), T.SanitizeBoundingBoxes()])(sample)
    assert after.boxes.tolist() == [[5, 5, 15, 15]]
    assert after.labels.tolist() == [8]
    assert after.masks.shape == (1, 20, 20)
    assert after.masks.sum() == 100
    assert len(after.keypoints) == 1
    assert after.extra == {"id": 4}
    assert dict(after)["labels"].tolist() == [8]
    assert sample.replace(labels=["a", "b", "c"]).keep(np.array([True, False, True])).labels == ["a", "c"]
    assert sample.replace(labels="street").keep(np.array([0])).labels == "street"


def test_class_maps_and_empty_boxes():
    classes = np.arange(24).reshape(4, 6)
    sample = T.Sample(np.zeros((3, 4, 6), np.uint8), boxes=[], masks=classes)
    after = T.RandomVerticalFlip(1.0)(T.RandomHorizontalFlip(1.0)(sample))
    assert np.array_equal(after.masks, classes[::-1, ::-1])
    assert after.masks.dtype == classes.dtype
    assert after.boxes.shape == (0, 4)
    assert T.RandomAffine(10)(sample).masks.dtype == classes.dtype


def test_lambda_adapts_any_callable():
    image = np.random.default_rng(0).integers(0, 256, (3, 6, 8)).astype(np.uint8)
    assert np.array_equal(T.Compose([lambda x: x[:, ::-1], T.CenterCrop(6)])(image), image[:, ::-1, 1:7])
    last = T.Lambda(lambda x: x[:, :, ::-1] if x.shape == (6, 8, 3) else None, layout="HWC")
    assert np.array_equal(last(image), image[::-1])
    pytest.importorskip("PIL.Image")
    from PIL import ImageOps

    assert np.array_equal(T.Lambda(ImageOps.mirror, layout="pillow")(image), image[..., ::-1])
    whole = T.Lambda(lambda s: s.replace(labels=["new"]), whole=True)
    assert whole(T.Sample(image)).labels == ["new"]


def test_warp_against_the_definition():
    """Bilinear look-up in float64, pixel by pixel."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 9, 11))
    matrix = F.homography([[0, 0], [11, 0], [11, 9], [0, 9]], [[1, -1], [12, 0.5], [9, 9.5], [-1, 7]])

    def value(c, i, j, border, fill=0.7):
        def at(n, size):
            if border == "edge":
                return min(max(n, 0), size - 1)
            if border == "reflect":
                n = abs(n) % (2 * (size - 1))
                return min(n, 2 * (size - 1) - n)
            return n if 0 <= n < size else None

        i, j = at(i, 9), at(j, 11)
        return fill if i is None or j is None else x[c, i, j]

    for border in ("constant", "edge", "reflect"):
        result = F.warp(x, matrix, (10, 12), "bilinear", 0.7, border)
        for i in range(10):
            for j in range(12):
                u, v, depth = matrix @ [j + 0.5, i + 0.5, 1]
                u, v = u / depth - 0.5, v / depth - 0.5
                a, b = int(np.floor(v)), int(np.floor(u))
                s, t = v - a, u - b
                for c in range(2):
                    expected = (1 - s) * ((1 - t) * value(c, a, b, border) + t * value(c, a, b + 1, border))
                    expected += s * ((1 - t) * value(c, a + 1, b, border) + t * value(c, a + 1, b + 1, border))
                    assert abs(result[c, i, j] - expected) < 1e-9, (border, i, j)


def test_warp_of_extreme_maps_stays_inside():
    image = np.full((1, 5, 6), 3, np.uint8)
    for number in (np.nan, np.inf, -np.inf, 1e300, -1e300):
        for place in range(9):
            matrix = np.eye(3)
            matrix.flat[place] = number
            for border in ("constant", "edge", "reflect"):
                for interpolation in ("bilinear", "nearest"):
                    with np.errstate(invalid="ignore"):
                        result = F.warp(image, matrix, (7, 4), interpolation, 9, border)
                    assert set(np.unique(result)) <= {3, 4, 5, 6, 7, 8, 9}
    assert np.array_equal(F.warp(image, np.eye(3)), image)
    assert F.warp(np.zeros((2, 1, 1), np.float32), np.eye(3), (3, 3), border="reflect").shape == (2, 3, 3)


def test_warp_does_not_depend_on_threads():
    x = np.random.default_rng(0).random((3, 200, 300), np.float32)
    matrix = F.affine_matrix(17, (3, -5), 1.1, (4, 2), (150, 100))
    threads = pydl.get_num_threads()
    try:
        results = []
        for n in (1, 3):
            pydl.set_num_threads(n)
            results.append(F.warp(x, matrix))
    finally:
        pydl.set_num_threads(threads)
    assert np.array_equal(*results)


def test_quarter_turns_move_pixels_exactly():
    image = np.random.default_rng(0).integers(0, 256, (3, 7, 12)).astype(np.uint8)
    for quarters in (1, 2, 3):
        turn = T.RandomRotation((90 * quarters, 90 * quarters), expand=True)
        assert np.array_equal(turn(image), np.rot90(image, quarters, (1, 2)))


@pytest.mark.parametrize("angle", [17, 45, 111])
def test_expanded_turns_keep_everything_in_sight(angle):
    after = T.RandomRotation((angle, angle), "bilinear", expand=True)(np.ones((1, 40, 70), np.float32))
    assert after.sum() == pytest.approx(40 * 70, rel=0.01)
    for side in (after[0, :2], after[0, -2:], after[0, :, :2], after[0, :, -2:]):
        assert side.any()


def test_mixup_and_cutmix():
    x = np.random.default_rng(0).random((6, 3, 8, 10)).astype(np.float32)
    y = np.arange(6) % 3
    for mixing in (T.MixUp(1.0, 3), T.CutMix(1.0, 3)):
        pydl.manual_seed(0)
        images, labels = mixing(pydl.tensor(x), pydl.tensor(y))
        assert images.shape == x.shape
        share = float(labels.numpy()[1, 1])
        assert 0 < share < 1
        np.testing.assert_allclose(labels.numpy().sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(labels.numpy()[1], [1 - share, share, 0], atol=1e-6)
        if isinstance(mixing, T.MixUp):
            np.testing.assert_allclose(images.numpy()[1], share * x[1] + (1 - share) * x[0], rtol=1e-5)
        else:
            own = (images.numpy()[1] == x[1]).all(0)
            assert own.mean() == pytest.approx(share, abs=1e-6)
            assert (images.numpy()[1][:, ~own] == x[0][:, ~own]).all()
        loss = pydl.cross_entropy(pydl.zeros(6, 3), labels)
        assert float(loss) == pytest.approx(np.log(3), rel=1e-5)


def test_mixing_as_collate_function_is_deterministic():
    data = [(np.full((1, 4, 4), i, np.float32), i % 2) for i in range(8)]
    batches = [
        [x.numpy() for x, _ in DataLoader(data, batch_size=4, collate_fn=T.MixUp(0.4, 2).collate, num_workers=n, seed=1)]
        for n in (0, 2)
    ]
    for a, b in zip(*batches, strict=True):
        assert np.array_equal(a, b)


class Counted(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        sample = scene(index, np.float32)
        return sample.replace(boxes=np.repeat(sample.boxes, index, 0), labels=np.arange(index), masks=None)


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_with_different_numbers_of_objects_make_a_batch(workers):
    (batch,) = DataLoader(Counted(), batch_size=4, collate_fn=T.collate_samples, num_workers=workers)
    assert batch["image"].shape == (4, 3, 64, 80)
    assert [tuple(b.shape) for b in batch["boxes"]] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [v.tolist() for v in batch["labels"]] == [[], [0], [0, 1], [0, 1, 2]]
    assert set(batch) == {"image", "boxes", "keypoints", "labels"}
    with pytest.raises(ShapeError, match="collate"):
        T.collate_samples([scene(0), T.CenterCrop(5)(scene(1))])


def test_distributions_of_random_crops():
    pydl.manual_seed(0)
    image = np.arange(6 * 6, dtype=np.uint8).reshape(1, 6, 6)
    corners = {int(T.RandomCrop(4)(image)[0, 0, 0]) for _ in range(300)}
    assert corners == {6 * i + j for i in range(3) for j in range(3)}
    parts = [T.RandomResizedCrop(8, (0.2, 0.5))._part((100, 140), np.random.default_rng(i)) for i in range(300)]
    areas = np.array([h * w for _, _, h, w in parts]) / 14000
    assert 0.19 < areas.min() < 0.23
    assert 0.47 < areas.max() < 0.51
    flips = sum(int(T.RandomHorizontalFlip()(image)[0, 0, 0] == 5) for _ in range(400))
    assert 160 < flips < 240


IMAGE = np.zeros((3, 20, 30), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: T.CenterCrop(5)(np.zeros((20, 30), np.uint8)), ShapeError,
         r"\[CenterCrop\] image must be \(C, H, W\).*image\[None\]"),
        (lambda: T.CenterCrop(5)(np.zeros((2, 3, 20, 30), np.uint8)), ShapeError, "not to a batch"),
        (lambda: T.CenterCrop(5)(np.zeros((3, 20, 30), np.int64)), DTypeError, "must be uint8, or float32.*int64"),
        (lambda: T.ColorJitter(0.2)(np.zeros((20, 30, 3), np.uint8)), ShapeError, r"1 or 3 channels, got 20.*ToArray"),
        (lambda: T.Grayscale()(np.zeros((2, 20, 30), np.uint8)), ShapeError, "1 or 3 channels, got 2"),
        (lambda: T.RandomCrop(25)(IMAGE), ArgumentError, r"larger than the image \(20, 30\).*pad_if_needed"),
        (lambda: T.Normalize((0, 0), (1, 1))(IMAGE), ArgumentError, "mean has 2 numbers for an image of 3 channels"),
        (lambda: T.Normalize(0, 0)(IMAGE), ArgumentError, "std"),
        (lambda: T.RandomRotation(10, fill=(1, 2))(IMAGE), ArgumentError, r"fill=\(1, 2\)"),
        (lambda: T.RandomRotation(10, fill=300)(IMAGE), ArgumentError, "0 to 255"),
        (lambda: T.RandomRotation(10, "bicubic")(IMAGE), ArgumentError, "bilinear or nearest"),
        (lambda: T.RandomRotation(-5), ArgumentError, "negative"),
        (lambda: T.RandomHorizontalFlip(1.5), ArgumentError, "probability"),
        (lambda: T.Resize(0), ArgumentError, "size=0"),
        (lambda: T.Resize((4, 4), max_size=9), ArgumentError, "max_size"),
        (lambda: T.ColorJitter(hue=0.7), ArgumentError, "hue"),
        (lambda: T.GaussianBlur(4), ArgumentError, "odd"),
        (lambda: T.RandomErasing(value="noise"), ArgumentError, "random"),
        (lambda: T.MixUp()(np.zeros((2, 3)), np.zeros(2, int)), ArgumentError, "num_classes"),
        (lambda: T.MixUp(num_classes=2)(np.zeros((2, 3)), np.array([0, 2])), ArgumentError, "from 0 to 1"),
        (lambda: T.Sample(IMAGE, boxes=[[1, 2, 3]]), ShapeError, r"boxes must be \(N, 4\)"),
        (lambda: T.Sample(IMAGE, masks=np.zeros((1, 20, 31))), ShapeError, "masks"),
        (lambda: T.Sample(IMAGE, keypoints=[[1, 2]]), ShapeError, "keypoints"),
        (lambda: T.Lambda(3), ArgumentError, "callable"),
        (lambda: T.ToTensor()(np.zeros((2, 2), object)), DTypeError, "uint8 or floats"),
        (lambda: F.homography([[0, 0], [1, 1], [2, 2], [0, 1]], [[0, 0], [1, 0], [1, 1], [0, 1]]), ArgumentError, "one line"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
