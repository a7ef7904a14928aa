"""The page on the controller names all that it measures of itself and of the cluster."""

from __future__ import annotations

import re
from pathlib import Path

from dra_driver.controller.capacity import _MEANINGS, ClusterCapacity
from dra_driver.controller.garbage import UnusedAllocations
from dra_driver.controller.metrics import Metrics
from dra_driver.kube.events import ApiEvents
from tests.support.leases import LeaseServer

PAGE = (Path(__file__).resolve().parents[3] / "docs/controller.md").read_text()
ROWS = set(re.findall(r"^\| `(vgpu_[a-z_]+)` \|", PAGE, re.MULTILINE))


async def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    metrics = Metrics()
    metrics.show(waiting=lambda: 0, existing=dict)
    ClusterCapacity(metrics.registry, driver="d", leads=lambda: True)
    connection = LeaseServer().for_replica()
    events = ApiEvents(connection, controller="d/controller", instance="pod-0")
    UnusedAllocations(connection, events, metrics.registry, driver="d", grace_seconds=1)
    families = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    assert families | set(_MEANINGS) == ROWS
