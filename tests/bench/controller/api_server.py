"""etcd and the API server of the local cluster, without anything that would act on the objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import launching, removal
from tests.cluster.control_plane import Blueprint
from tests.cluster.paths import local_paths
from tests.cluster.progress import Progress, Silent


@contextmanager
def api_server(folder: Path) -> Iterator[Blueprint]:
    """Start both, and remove everything afterwards."""
    paths = local_paths(folder)
    plan = launching.bring_up_api(paths, launching.Options(), Progress())
    try:
        yield plan
    finally:
        removal.remove(paths, Silent())
