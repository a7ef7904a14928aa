"""The project's virtual environment: exactly the locked packages, and the project itself on top.

Where packages come from is the machine's own pip configuration: nothing here names an index.
"""

from __future__ import annotations

import json
import platform
import sys
import tomllib
from pathlib import Path

from tools.setup.command import CommandLog
from tools.setup.layout import Layout
from tools.setup.stamp import Stamp, fingerprint


class PythonEnvironment:
    """`.venv`, from requirements/dev.lock with hashes."""

    name = "python"
    title = "Python environment (.venv)"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # Inside the environment, so that removing the environment removes the mark too.
        self._stamp = Stamp(layout.venv / ".hami-dra-stamp")
        self._lock = layout.requirements / "dev.lock"

    def _fingerprint(self) -> str:
        words = [platform.python_version(), sys.base_prefix, str(self._layout.root), self._packaging()]
        return fingerprint([self._lock], words)

    def _packaging(self) -> str:
        """The part of pyproject.toml that an installation depends on; the rest configures tools."""
        project = tomllib.loads((self._layout.root / "pyproject.toml").read_text(encoding="utf-8"))
        setuptools = project.get("tool", {}).get("setuptools")
        return json.dumps([project.get("build-system"), project.get("project"), setuptools])

    def is_done(self) -> bool:
        return self._layout.venv_python.exists() and self._stamp.holds(self._fingerprint())

    def perform(self, log: CommandLog) -> None:
        self._stamp.clear()
        # The packages may be for another Python than the one that runs now: --clear starts afresh.
        fresh = [] if self._fits() else ["--clear"]
        log.run([sys.executable, "-m", "venv", *fresh, self._layout.venv])
        pip: list[str | Path] = [self._layout.venv_python, "-m", "pip", "--disable-pip-version-check"]
        log.run([*pip, "install", "--require-hashes", "--requirement", self._lock])
        log.run([*pip, "install", "--no-deps", "--no-build-isolation", "--editable", self._layout.root])
        self._stamp.write(self._fingerprint())

    def _fits(self) -> bool:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return (self._layout.venv / "lib" / version).is_dir() and self._layout.venv_python.exists()
