"""Takes the files of Debian packages without installing them, for an image's user land."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tests.cluster.commands import run
from tests.cluster.errors import CommandFailed, ImageError
from tests.cluster.images.archive import Entry, File, Folder, Link

# Debian keeps these as links into /usr; packages of bookworm still ship files below the old names.
MERGED = ("bin", "lib", "lib64", "sbin")
NOT_NEEDED = (
    *("usr/share/doc/", "usr/share/man/", "usr/share/lintian/", "usr/share/locale/", "usr/share/bug/"),
    *("usr/share/binfmts/", "usr/share/pixmaps/", "usr/share/applications/"),
)


def fetch(packages: Sequence[str], folder: Path) -> list[Path]:
    """Downloads packages and returns their files, sorted. Raises ImageError with what apt said."""
    try:
        _download(packages, folder)
    except CommandFailed:
        # A fresh machine has no lists of packages, an old one may have outdated lists.
        try:
            run(("apt-get", "update", "-q"), timeout=300)
            _download(packages, folder)
        except CommandFailed as failed:
            raise ImageError(f"the packages of the probe image could not be fetched: {failed}") from failed
    return sorted(folder.glob("*.deb"))


def _download(packages: Sequence[str], folder: Path) -> None:
    # As _apt, apt-get could not write into a folder of root's.
    run(("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *packages), cwd=str(folder), timeout=600)


def entries(packages: Sequence[str]) -> dict[str, Entry]:
    """The files of the packages as entries of one layer, on a merged /usr."""
    found: dict[str, Entry] = {name: Link(f"usr/{name}") for name in MERGED}
    found |= {f"usr/{name}": Folder() for name in MERGED}
    with tempfile.TemporaryDirectory() as folder:
        for package in fetch(packages, Path(folder)):
            found.update(_files(package))
    return found


def _files(package: Path) -> Iterator[tuple[str, Entry]]:
    unpacked = subprocess.run(("dpkg-deb", "--fsys-tarfile", str(package)), capture_output=True, check=False)
    if unpacked.returncode != 0:
        raise ImageError(f"{package.name}: {unpacked.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(unpacked.stdout)) as tar:
        for member in tar:
            path = merged(member.name)
            if path and not path.startswith(NOT_NEEDED):
                entry = _entry(tar, member)
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
