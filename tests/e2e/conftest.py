"""One stack for the session, one namespace for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.e2e.tenant import Tenant
from tests.stack.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a node."""
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Cluster, cards and driver; what was up before the session stays up after it."""
    was_up = _is_up()
    stack = Stack.up()
    yield stack
    if not was_up:
        stack.down()


def _is_up() -> bool:
    try:
        return not any(Cluster.attach().health().values())
    except ClusterError:
        return False


@pytest.fixture
def tenant(stack: Stack) -> Iterator[Tenant]:
    """A namespace of the test's own; afterwards nothing of it is left on the node."""
    tenant = Tenant(stack, f"e2e-{uuid.uuid4().hex[:8]}")
    tenant.create()
    yield tenant
    tenant.remove()
