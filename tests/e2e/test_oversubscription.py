"""A share that may use the host's memory: what the program gets, and that the card never holds more than its part."""

from __future__ import annotations

import pytest

from dra_driver.kube.quantities import binary
from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant, Wire, pod, template
from tests.stack.cards import GIB, MIB
from tests.stack.plugin import DRIVER
from tests.waiting import eventually

# What a CUDA context takes of its share on the simulated card, at most, with the loaded modules.
CONTEXT = 320 * MIB


@pytest.fixture(autouse=True)
def _allowed(tenant: Tenant) -> None:
    """The namespace may oversubscribe, where a webhook asks for that."""
    tenant.kubectl("label", "namespace", tenant.namespace, "vgpu.hami.io/allow-oversubscribe=true")


def config(host_memory: object, *requests: str) -> Wire:
    """A claim's config that lets a share use so much of the host's memory."""
    parameters = {
        "apiVersion": "vgpu.hami.io/v1alpha1",
        "kind": "VgpuConfig",
        "memory": {"oversubscribe": {"hostMemory": host_memory}},
    }
    return {"requests": list(requests), "opaque": {"driver": DRIVER, "parameters": parameters}}


def test_a_pod_gets_its_part_of_the_card_and_of_the_host_and_not_one_byte_more(tenant: Tenant) -> None:
    tenant.apply(template("more", {"slice": {"memory": "1Gi", "cores": "30"}}, config=[config("2Gi", "slice")]))
    tenant.apply(pod("filler", "exec vgpu-probe fill --seconds 3600", claim_template="more"))
    tenant.wait_running("filler")

    told = tenant.told("filler")
    assert told["total"] == 3 * GIB
    assert told["one_byte_more"] == "CUDA_ERROR_OUT_OF_MEMORY"
    assert told["free_after"] == 0
    assert 3 * GIB - CONTEXT <= told["allocated"] <= 3 * GIB

    # The card's own books: what lives in the host is not on it.
    (busy,) = [card for card in tenant.stack.cards.state() if card.processes]
    assert [process.bytes <= GIB for process in busy.processes] == [True]
    assert busy.used <= GIB

    (claim,) = tenant.claims_of("filler").values()
    (granted,) = told_of_devices(tenant, claim["metadata"]["name"])
    assert (granted["memory"], granted["hostMemory"]) == ("1Gi", binary(2 * GIB))


def told_of_devices(tenant: Tenant, claim: str) -> list[Wire]:
    """What the claim's status says was granted."""

    def data() -> list[Wire] | None:
        devices = tenant.get("resourceclaim", claim)["status"].get("devices") or []
        return [device["data"] for device in devices if "data" in device] or None

    return eventually(data, what=f"the status of {claim} tells what was granted")


def test_a_claim_that_takes_back_what_its_class_allows_has_the_cards_memory_alone(tenant: Tenant) -> None:
    configs = [config("2Gi"), config("0", "slice")]
    tenant.apply(template("less", {"slice": {"memory": "1Gi", "cores": "30"}}, config=configs))
    tenant.apply(pod("plain", "exec vgpu-probe fill --seconds 3600", claim_template="less"))
    tenant.wait_running("plain")
    assert tenant.told("plain")["total"] == GIB


def test_a_wrong_amount_is_refused_with_its_field_wherever_it_is_noticed(tenant: Tenant) -> None:
    """At once, where a webhook judges claims; otherwise when the claim is prepared."""
    field = "parameters.memory.oversubscribe.hostMemory: Input should be an amount of memory, such as 8Gi"
    assert field in refusal(tenant, template("wrong", {"slice": {"memory": "1Gi"}}, config=[config("lots", "slice")]))


def refusal(tenant: Tenant, wrong: Wire) -> str:
    """What is said of a wrong claim template: by the API server, or to a pod that uses it."""
    try:
        tenant.apply(wrong)
    except CommandFailed as error:
        return str(error)
    tenant.apply(pod("waits", "exec sleep 3600", claim_template=wrong["metadata"]["name"]))

    def event() -> str | None:
        return next((event for event in tenant.events("waits") if "VgpuConfig" in event or "memory" in event), None)

    return eventually(event, what="an event of the pod says what is wrong")
