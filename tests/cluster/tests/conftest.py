"""Names shared by the cluster's own tests."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.cluster.fixtures import cluster, probe_image
from tests.cluster.launching import Options
from tests.stack import stack

__all__ = ["cluster", "namespace", "probe_image"]


@pytest.fixture(scope="session")
def cluster_options() -> Options:
    """One cluster serves all tests of a session: also those of the driver, which come later and need more of it."""
    return stack.cluster_options()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test, deleted after it with all that is in it."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).removeprefix("test-")
    # A namespace of an earlier run may still be on its way out.
    name = f"{words[:48].strip('-')}-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")
