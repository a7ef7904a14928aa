"""What the scheduler makes of a request, in the slices that we publish.

The vectors are those of Kubernetes' own rule: absent means the default; below the minimum becomes the minimum; else
up to the next step; beyond the maximum fits nowhere. Steps here: memory 1Mi from 1Mi to the card's 16Gi, cores 1
from 0 to 100.
"""

from __future__ import annotations

import pytest

from dra_driver.kube.quantities import whole
from tests.cluster.node import PAUSE_IMAGE
from tests.e2e.tenant import Tenant, grants, template
from tests.waiting import eventually

MIB = 1 << 20

GRANTED = {
    "nothing-asked": ({}, 16384 * MIB, 0),
    "zero-memory": ({"memory": "0"}, 1 * MIB, 0),
    "one-byte": ({"memory": "1"}, 1 * MIB, 0),
    "below-a-step": ({"memory": "1100Ki"}, 2 * MIB, 0),
    "on-a-step": ({"memory": "4Gi"}, 4096 * MIB, 0),
    "decimal": ({"memory": "1G"}, 954 * MIB, 0),
    "fraction": ({"memory": "15.5Gi"}, 15872 * MIB, 0),
    "fraction-of-a-step": ({"memory": "0.5Mi"}, 1 * MIB, 0),
    "all": ({"memory": "16Gi", "cores": "100"}, 16384 * MIB, 100),
    "cores-of-one": ({"memory": "1Mi", "cores": "1"}, 1 * MIB, 1),
    "cores-rounded-up": ({"memory": "1Mi", "cores": "12.1"}, 1 * MIB, 13),
    "cores-in-milli": ({"memory": "1Mi", "cores": "5500m"}, 1 * MIB, 6),
}
REFUSED = {
    "memory-beyond-the-card": {"memory": "16.1Gi"},
    "one-byte-beyond-the-card": {"memory": str(16384 * MIB + 1)},
    "cores-beyond-the-card": {"memory": "1Mi", "cores": "101"},
    "a-capacity-that-no-card-has": {"memory": "1Mi", "bandwidth": "1"},
}


@pytest.mark.parametrize("name", GRANTED)
def test_a_request_is_rounded_as_published(tenant: Tenant, name: str) -> None:
    capacity, memory, cores = GRANTED[name]
    place(tenant, name, capacity)
    (claim,) = eventually(
        lambda: [claim for claim in tenant.every("resourceclaims") if claim.get("status", {}).get("allocation")],
        what=f"{name} is allocated",
    )
    (grant,) = grants(claim)
    assert grant.consumed is not None
    assert {key: whole(value) for key, value in grant.consumed.items()} == {
        "memory": memory,
        "cores": cores,
        "shares": 1,
    }
    assert grant.share_id


@pytest.mark.parametrize("name", REFUSED)
def test_an_impossible_request_stays_pending_with_an_event(tenant: Tenant, name: str) -> None:
    place(tenant, name, REFUSED[name])
    events = eventually(lambda: tenant.events(name), what="an event on the pod")
    assert any("FailedScheduling" in event and "cannot allocate all claims" in event for event in events), events
    assert tenant.get("pod", name)["status"]["phase"] == "Pending"
    (claim,) = tenant.every("resourceclaims")
    assert not claim.get("status", {}).get("allocation")


def place(tenant: Tenant, name: str, capacity: dict[str, str]) -> None:
    """A pod with a claim that asks for this; its container does nothing."""
    request = {"deviceClassName": "vgpu.hami.io", **({"capacity": {"requests": capacity}} if capacity else {})}
    wanted = template(name, {})
    wanted["spec"]["spec"]["devices"]["requests"] = [{"name": "slice", "exactly": request}]
    container = {"name": "main", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}
    container_with_claim = {**container, "resources": {"claims": [{"name": "gpu"}]}}
    wire = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": name}],
            "containers": [container_with_claim],
        },
    }
    tenant.apply(wanted, wire)
