"""A node whose configuration file may be changed, on a server that lacks what sharing needs."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.releases import VERSION_VARIABLE
from tests.e2e.tenant import Tenant
from tests.matrix.node import Node
from tests.stack.stack import Stack

HERE = Path(__file__).resolve().parent
CARDS = {"count": 2, "foreign_pids": True}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only who names this folder's tests (make test-matrix) gets them."""
    named = any(HERE in (path := Path(arg.partition("::")[0]).resolve()).parents or path == HERE for arg in config.args)
    return None if named else True


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Cluster, cards and driver, taken away afterwards. Never a cluster that somebody else uses."""
    if VERSION_VARIABLE not in os.environ:
        pytest.skip(f"{VERSION_VARIABLE} names no version: make test-matrix runs this")
    folder = tmp_path_factory.mktemp("node")
    cards, file = folder / "cards.json", folder / "node.yaml"
    cards.write_text(json.dumps(CARDS))
    Node.write(file, {})
    stack = Stack.up(cards=cards, settings={"config_file": str(file)})
    yield Node(stack, file)
    stack.down()


@pytest.fixture
def tenant(node: Node) -> Iterator[Tenant]:
    """A namespace of the test's own; afterwards nothing of it is left on the node."""
    tenant = Tenant(node.stack, f"matrix-{uuid.uuid4().hex[:8]}")
    tenant.create()
    yield tenant
    tenant.remove()
