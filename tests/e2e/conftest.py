"""One stack for the session, one namespace for each test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.e2e.tenant import Tenant
from tests.stack.stack import Stack

# Two cards of 16 GiB. As with real drivers, what NVML says of processes in a container are the host's ids.
CARDS = {"count": 2, "foreign_pids": True}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a node."""
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Cluster, cards and driver; what was up before the session stays up after it."""
    was_up = _is_up()
    cards = tmp_path_factory.mktemp("cards") / "cards.json"
    cards.write_text(json.dumps(CARDS))
    stack = Stack.up(cards=cards)
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
