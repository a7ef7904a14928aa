"""Takes the files of Debian packages of any architecture without installing them, for an image's user land."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools.image.entries import Entry, File, Folder, Link
from tools.image.errors import ImageError
from tools.image.oci import ARCHITECTURES

# Debian keeps these as links into /usr; packages of bookworm still ship files below the old names.
MERGED = ("bin", "lib", "lib64", "sbin")
NOT_NEEDED = (
    *("usr/share/man/", "usr/share/lintian/", "usr/share/locale/", "usr/share/bug/", "usr/share/info/"),
    *("usr/share/binfmts/", "usr/share/pixmaps/", "usr/share/applications/"),
)
# After this long the lists of packages are fetched again, so that an image gets security updates.
LISTS_AGE_SECONDS = 86_400


@dataclass(frozen=True)
class Package:
    """A package's file, and what its own control file says."""

    path: Path
    name: str
    version: str
    source: str
    """The source package, by which security trackers know it."""

    def control(self) -> bytes:
        """The whole control file."""
        return _run("dpkg-deb", "--field", str(self.path))


class PackageIndex:
    """The packages of one architecture, by this machine's apt sources, with lists and files of its own.

    The machine's own lists, and the packages that it has installed, are neither used nor changed.
    """

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder / ARCHITECTURES[architecture]
        self._architecture = ARCHITECTURES[architecture]

    def fetch(self, names: Sequence[str]) -> list[Package]:
        """Download packages, sorted by name. Raises ImageError with what apt said."""
        self._refresh()
        for name in names:
            if not list(self._folder.glob(f"debs/{name}_*.deb")):
                self._apt("download", "-q", name, cwd=self._folder / "debs")
        return [_package(path) for name in sorted(names) for path in self._folder.glob(f"debs/{name}_*.deb")]

    def _refresh(self) -> None:
        stamp = self._folder / "refreshed"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_AGE_SECONDS:
            return
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        self._apt("update", "-q", cwd=self._folder)
        for old in self._folder.glob("debs/*.deb"):
            old.unlink()
        stamp.touch()

    def _apt(self, *words: str, cwd: Path) -> None:
        options = {
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            # As _apt, apt-get could not write into a folder of root's.
            "APT::Sandbox::User": "root",
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::Cache": self._folder / "cache",
        }
        _run(
            "apt-get", *(word for pair in options.items() for word in ("-o", "=".join(map(str, pair)))), *words, cwd=cwd
        )


def _package(path: Path) -> Package:
    fields = dict(
        line.split(": ", 1)
        for line in _run("dpkg-deb", "--field", str(path), "Package", "Version", "Source").decode().splitlines()
    )
    source = fields.get("Source", fields["Package"]).partition(" ")[0]
    return Package(path, fields["Package"], fields["Version"], source)


def _run(*words: str, cwd: Path | None = None) -> bytes:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(words, capture_output=True, check=False, cwd=cwd, env=environment, timeout=600)
    if done.returncode != 0:
        raise ImageError(f"{words[0]} failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")
    return done.stdout


def entries(packages: Sequence[Package], *, without: Sequence[str] = NOT_NEEDED) -> dict[str, Entry]:
    """The files of the packages as entries of one layer, on a merged /usr."""
    found: dict[str, Entry] = {name: Link(f"usr/{name}") for name in MERGED}
    found |= {f"usr/{name}": Folder() for name in MERGED}
    for package in packages:
        found.update((path, entry) for path, entry in _files(package) if not path.startswith(tuple(without)))
    return found


def _files(package: Package) -> Iterator[tuple[str, Entry]]:
    with tarfile.open(fileobj=io.BytesIO(_run("dpkg-deb", "--fsys-tarfile", str(package.path)))) as tar:
        for member in tar:
            path = merged(member.name)
            entry = _entry(tar, member) if path else None
            if entry is not None:
                yield path, entry


def merged(name: str) -> str:
    """A package's path as it is on a system whose /bin, /lib, /lib64 and /sbin are links."""
    path = PurePosixPath(name.removeprefix("./").lstrip("/"))
    if path.parts and path.parts[0] in MERGED:
        # The folder itself is a link already.
        return str(PurePosixPath("usr") / path) if len(path.parts) > 1 else ""
    return "" if str(path) == "." else str(path)


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry | None:
    if member.isdir():
        return Folder(member.mode)
    if member.issym():
        return Link(member.linkname)
    content = tar.extractfile(member)
    # A hard link is extracted as the file that it names.
    return None if content is None else File(content.read(), member.mode)
