"""Updates of the plugin, forth and back, while pods come and go: no moment without a plugin."""

from __future__ import annotations

import uuid

from tests.chaos.stream import Stream
from tests.e2e.aftermath import check_room
from tests.e2e.tenant import Tenant

UPDATES = 6


def test_no_pod_fails_while_the_plugin_is_updated_forth_and_back(tenant: Tenant, pods: Stream) -> None:
    usual = tenant.stack.plugin
    serving = usual
    pods.more(2)
    try:
        for number in range(UPDATES):
            # The last one is the stack's own, which the other tests use.
            following = usual if number == UPDATES - 1 else usual.beside(str(uuid.uuid4()))
            following.start()
            pods.more(2)
            serving.stop()
            assert not serving.dra_socket.exists()
            serving = following
            pods.more(2)
    finally:
        usual.start()
        if serving is not usual:
            serving.stop()
    pods.end()
    failed = [
        event["message"]
        for event in tenant.every("events")
        if event["reason"] in ("FailedPrepareDynamicResources", "FailedUnprepareDynamicResources")
    ]
    assert failed == []
    check_room(tenant)
    pods.check_prepared()
