"""A node with eight cards that may be broken at will, and streams of pods over it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.stream import Stream
from tests.cluster.paths import FOLDER_VARIABLE, local_paths
from tests.e2e.aftermath import check_nothing_left
from tests.e2e.tenant import Tenant, template
from tests.stack.stack import Stack

HERE = Path(__file__).resolve().parent
CARDS = {"count": 8}
# Short, since a plugin's socket below it carries a pod's UID in its name, and such paths have 107 bytes at most.
FOLDER_NAME = "hami-chaos"
# A hundred shares on eight cards are more than the usual ten on each.
SETTINGS = {"shares_per_card": "16"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only who names this folder (make test-chaos) gets it."""
    named = any(HERE in (path := Path(arg.partition("::")[0]).resolve()).parents or path == HERE for arg in config.args)
    return None if named else True


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Cluster, eight cards and driver, taken away afterwards. Never a cluster that somebody else uses."""
    if os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is set: the API server and the kubelet of an existing cluster are not to be broken")
    usual = local_paths(None).folder
    description = tmp_path_factory.mktemp("cards") / "cards.json"
    description.write_text(json.dumps(CARDS))
    stack = Stack.up(
        usual.with_name(FOLDER_NAME),
        {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE},
        cards=description,
        settings=SETTINGS,
    )
    assert len(stack.cards.state()) == CARDS["count"], "another stack is up in this folder"
    yield stack
    stack.down()


@pytest.fixture
def tenant(stack: Stack) -> Iterator[Tenant]:
    """A namespace with a template for slivers. Afterwards all runs again, and nothing of the test is on the node."""
    tenant = Tenant(stack, f"chaos-{uuid.uuid4().hex[:8]}")
    tenant.create()
    tenant.apply(template("sliver", {"sliver": {"memory": "1Gi", "cores": "2"}}))
    yield tenant
    stack.plugin.start()
    tenant.remove()
    check_nothing_left(stack)


@pytest.fixture
def pods(tenant: Tenant) -> Iterator[Stream]:
    """Pods that come and go until the test has seen enough."""
    with Stream(tenant) as stream:
        yield stream
