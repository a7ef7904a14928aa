"""Debian packages: what neither a Python package nor our own build can bring."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tools.setup.command import CommandLog
from tools.setup.errors import SetupError


def listed_packages(file: Path) -> list[str]:
    """One package a line; `#` begins a comment."""
    lines = (line.split("#", 1)[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those that dpkg does not know as installed; all of them where there is no dpkg."""
    wanted = list(names)
    try:
        answer = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return wanted
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


class DebianPackages:
    """Installs the packages of some list files, and only those that are missing."""

    name = "debian"
    title = "Debian packages"

    def __init__(self, lists: Iterable[Path]) -> None:
        self._lists = tuple(lists)

    def _missing(self) -> list[str]:
        wanted = [name for file in self._lists for name in listed_packages(file)]
        if importlib.util.find_spec("ensurepip") is None:
            wanted.append("python3-venv")
        return missing_packages(dict.fromkeys(wanted))

    def is_done(self) -> bool:
        return not self._missing()

    def perform(self, log: CommandLog) -> None:
        missing = self._missing()
        command = f"apt-get install --no-install-recommends {' '.join(missing)}"
        if os.geteuid() != 0:
            raise SetupError(f"not root: run this as root, or have root do '{command}'")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        log.run(["apt-get", "update"], env=quiet)
        log.run(["apt-get", "install", "--yes", "--no-install-recommends", *missing], env=quiet)
        still = self._missing()
        if still:
            raise SetupError(f"apt-get succeeded, but these packages are still missing: {', '.join(still)}")
