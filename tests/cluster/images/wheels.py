"""Takes Python distributions out of the running environment, with what they depend on, for an image.

The clients in the image are those of the project's lock file, byte for byte; nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

from tests.cluster.errors import ImageError
from tools.image.entries import Entry, File

# Sources of compiled modules, and what the environment compiled for its own paths.
NOT_NEEDED = (".pxd", ".pyx", ".pyc")


def closure(names: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """The distributions and all that they require here, each once, sorted by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as absent:
            raise ImageError(
                f"{name} is not installed in {sys.prefix}: the probe image takes it from there"
            ) from absent
        pending += [one.name for one in map(Requirement, found[name].requires or []) if _applies(one)]
    return [found[name] for name in sorted(found)]


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def versions(names: Sequence[str]) -> str:
    """What the content depends on: names and versions."""
    return ",".join(f"{one.name}={one.version}" for one in closure(names))


def entries(names: Sequence[str], target: str) -> dict[str, Entry]:
    """The distributions' files below the folder `target` of a layer."""
    found: dict[str, Entry] = {}
    for distribution in closure(names):
        for path in distribution.files or ():
            source = Path(str(distribution.locate_file(path)))
            # Scripts lie outside the folder and name this environment's interpreter.
            if ".." in path.parts or path.suffix in NOT_NEEDED or not source.is_file():
                continue
            found[f"{target}/{path}"] = File(source.read_bytes())
    return found
