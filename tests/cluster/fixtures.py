"""Pytest fixtures that any folder of tests may import into its conftest.py.

from tests.cluster.fixtures import cluster, cluster_options, probe_image  # noqa: F401
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.errors import NotSupported
from tests.cluster.images import probe
from tests.cluster.launching import Options


@pytest.fixture(scope="session")
def cluster_options() -> Options:
    """What the local cluster is to have; a conftest.py may say more."""
    return Options()


@pytest.fixture(scope="session")
def cluster(cluster_options: Options) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG, or the local one: started, and taken away after, unless it was up."""
    if os.environ.get("KUBECONFIG"):
        yield Cluster.existing(Path(os.environ["KUBECONFIG"]))
        return
    was_up = Cluster.is_up()
    one = Cluster.up(options=cluster_options)
    try:
        yield one
    finally:
        if not was_up:
            one.down()


@pytest.fixture(scope="session")
def probe_image(cluster: Cluster) -> str:
    """The name of the probe image, which the node has."""
    try:
        cluster.import_image(probe.archive())
    except NotSupported as reason:
        pytest.skip(str(reason))
    return probe.IMAGE
