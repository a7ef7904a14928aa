"""A rolling update: a second plugin starts beside the first, takes over, and no pod notices."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from tests.e2e.tenant import Tenant, pod, template
from tests.stack.plugin import NodePlugin
from tests.waiting import eventually


@pytest.fixture
def successor(tenant: Tenant) -> Iterator[NodePlugin]:
    """The plugin of the next version; afterwards the stack's own serves again."""
    other = tenant.stack.plugin.beside(str(uuid.uuid4()))
    yield other
    tenant.stack.plugin.start()
    other.stop()


class Stream:
    """Pods that come one after another, until told to stop."""

    def __init__(self, tenant: Tenant) -> None:
        self.started: list[str] = []
        self._tenant = tenant
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods")

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(120)

    def more(self, number: int) -> None:
        """Wait until so many further pods have started."""
        wanted = len(self.started) + number
        eventually(
            lambda: len(self.started) >= wanted or not self._thread.is_alive(), what=f"{wanted} pods", timeout=120
        )
        assert len(self.started) >= wanted

    def _run(self) -> None:
        for number in range(1000):
            if self._over.is_set():
                return
            name = f"pod-{number}"
            self._tenant.apply(pod(name, "exec sleep 3600", claim_template="sliver"))
            self._tenant.wait_running(name)
            self.started.append(name)
            if number >= 3:
                self._tenant.kubectl("delete", "pod", f"pod-{number - 3}", "--wait=false", "--grace-period=1")


def test_pods_start_all_the_while_one_plugin_follows_another(tenant: Tenant, successor: NodePlugin) -> None:
    tenant.apply(template("sliver", {"sliver": {"memory": "1Gi", "cores": "1"}}))
    first = tenant.stack.plugin
    with Stream(tenant) as pods:
        pods.more(2)
        successor.start()
        pods.more(2)
        first.stop()
        assert not first.dra_socket.exists()
        assert not first.registration_socket.exists()
        pods.more(3)
    assert "claim_prepared" in successor.log
    failed = [
        event["message"]
        for event in tenant.every("events")
        if event["reason"] in ("FailedPrepareDynamicResources", "FailedUnprepareDynamicResources")
    ]
    assert failed == []


def test_what_a_killed_plugin_left_does_not_hinder_its_successor(tenant: Tenant, successor: NodePlugin) -> None:
    tenant.apply(template("sliver", {"sliver": {"memory": "1Gi", "cores": "1"}}))
    first = tenant.stack.plugin
    first.kill()
    assert first.registration_socket.exists()
    successor.start()
    assert not first.registration_socket.exists()
    assert not first.dra_socket.exists()
    tenant.apply(pod("next", "exec sleep 3600", claim_template="sliver"))
    tenant.wait_running("next")
