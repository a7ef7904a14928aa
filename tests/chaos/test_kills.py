"""The plugin is killed every five seconds for two minutes while pods come and go."""

from __future__ import annotations

import time

from tests.chaos.stream import Stream
from tests.e2e.aftermath import check_room
from tests.e2e.tenant import Tenant

MINUTES = 2
EVERY_SECONDS = 5.0


def test_a_plugin_that_is_killed_every_five_seconds_loses_no_pod(tenant: Tenant, pods: Stream) -> None:
    plugin = tenant.stack.plugin
    end = time.monotonic() + MINUTES * 60
    kills = 0
    while time.monotonic() < end:
        time.sleep(EVERY_SECONDS)
        plugin.kill()
        plugin.start()
        kills += 1
    assert kills >= MINUTES * 60 / EVERY_SECONDS / 3, "the plugin is ready again soon after it was killed"
    assert pods.seen_running > 0, "pods have started in between"
    pods.more(3)
    pods.end()
    check_room(tenant)
    pods.check_prepared()
    assert len([one for card in tenant.stack.cards.state() for one in card.processes]) == pods.holders()
