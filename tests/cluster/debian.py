"""Checks for the programs that come from Debian before anything is started, and names what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cluster.errors import MissingPackage

PACKAGES_FILE = Path(__file__).with_name("debian-packages.txt")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = {"runc": "runc", "openssl": "openssl", "ip": "iproute2", "mount": "mount"}


def packages() -> list[str]:
    """The Debian packages that the cluster needs, as set-up scripts install them."""
    lines = (line.partition("#")[0].strip() for line in PACKAGES_FILE.read_text().splitlines())
    return [line for line in lines if line]


def program(name: str) -> str:
    """The full path of a program of the system; raises MissingPackage with the package's name."""
    found = shutil.which(name, path=os.pathsep.join((SYSTEM_PATH, os.environ.get("PATH", ""))))
    if found is None:
        package = PROGRAMS.get(name, name)
        raise MissingPackage(f"{name} is missing: apt-get install {package}")
    return found


def cni_folder() -> Path:
    """Where the CNI plugins lie."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in ("bridge", "host-local", "loopback")):
            return folder
    raise MissingPackage("the CNI plugins are missing: apt-get install containernetworking-plugins")


def check() -> None:
    """Raises MissingPackage for the first thing that is missing."""
    for name in PROGRAMS:
        program(name)
    cni_folder()
