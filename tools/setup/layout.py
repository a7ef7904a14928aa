"""Where things lie: the only place that knows the folders of the checkout and of the machine's cache.

What depends on this checkout lies in it (.venv, build/); what is slow to make and the same for every
checkout (Go, the cluster's programs) lies in the user's cache, so that a fresh clone finds it there.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Layout:
    """Absolute folders of one checkout."""

    root: Path
    cache: Path

    @classmethod
    def of(cls, root: Path, environment: Mapping[str, str]) -> Layout:
        """Find the cache as the XDG base-directory rules say: a relative or empty value counts as unset."""
        configured = Path(environment.get("XDG_CACHE_HOME", ""))
        base = configured if configured.is_absolute() else Path.home() / ".cache"
        return cls(root=root, cache=base / "hami-dra")

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def venv_python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def logs(self) -> Path:
        return self.build / "logs"

    @property
    def requirements(self) -> Path:
        return self.root / "requirements"

    @property
    def cluster_go_mod(self) -> Path:
        return self.root / "tests" / "cluster" / "tools" / "go.mod"

    def native(self, architecture: str) -> Path:
        return self.build / "native" / architecture


def machine_architecture() -> str:
    """This machine's architecture, spelled as compilers spell it."""
    machine = platform.machine()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
