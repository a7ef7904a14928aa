"""Finds and detaches every mount below a folder: pods' volumes, containers' roots, network namespaces."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.errors import ClusterError, CommandFailed


def below(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    """The mount points below a folder, the last mounted first; one that is mounted twice comes twice."""
    points = [_unescaped(line.split(" ")[4]) for line in mountinfo.read_text().splitlines()]
    return [Path(point) for point in reversed(points) if point.startswith(f"{folder}/")]


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def detach(folder: Path) -> None:
    """Unmounts all of them; raises ClusterError when some remain."""
    for _ in range(5):
        points = below(folder)
        if not points:
            return
        for point in points:
            with contextlib.suppress(CommandFailed):
                run(("umount", "--lazy", str(point)))
    raise ClusterError(f"still mounted: {', '.join(str(point) for point in below(folder))}")
