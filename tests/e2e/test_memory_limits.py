"""Memory limits as the card itself sees them."""

from __future__ import annotations

from tests.e2e.tenant import Tenant, pod, template
from tests.stack.cards import GIB, MIB

# What a CUDA context takes of its share on the simulated card, at most, with the loaded modules.
CONTEXT = 320 * MIB


def test_two_tenants_of_one_card_get_all_of_their_memory_and_not_one_byte_more(tenant: Tenant) -> None:
    tenant.apply(template("half", {"slice": {"memory": "4Gi", "cores": "50"}}))
    names = ("one", "two")
    for name in names:
        tenant.apply(pod(name, "exec vgpu-probe fill --seconds 3600", claim_template="half"))
    for name in names:
        tenant.wait_running(name)
    told = {name: tenant.told(name) for name in names}

    for name in names:
        assert told[name]["total"] == 4 * GIB
        assert told[name]["one_byte_more"] == "CUDA_ERROR_OUT_OF_MEMORY"
        assert told[name]["free_after"] == 0
        assert 4 * GIB - CONTEXT <= told[name]["allocated"] <= 4 * GIB

    # Both hold it at the same time: the card's own books are the witness.
    (busy,) = [card for card in tenant.stack.cards.state() if card.processes]
    assert len(busy.processes) == 2
    assert all(4 * GIB - MIB <= process.bytes <= 4 * GIB for process in busy.processes)
    assert busy.used == sum(process.bytes for process in busy.processes)


def test_nvml_agrees_with_cuda_about_a_share_in_use(tenant: Tenant) -> None:
    tenant.apply(template("slice", {"slice": {"memory": "4Gi", "cores": "30"}}))
    tenant.apply(pod("holder", "vgpu-probe hold --memory 1Gi --seconds 3600 & wait", claim_template="slice"))
    tenant.wait_running("holder")
    assert tenant.told("holder")["result"] == "CUDA_SUCCESS"
    seen = tenant.show("holder")
    (nvml,) = seen["nvml"]
    (cuda,) = seen["cuda"]
    assert nvml["total"] == cuda["total"] == 4 * GIB
    assert 1 * GIB <= nvml["used"] <= 1 * GIB + 2 * CONTEXT
    assert nvml["used"] + nvml["free"] == nvml["total"]


def test_a_killed_process_gives_its_memory_back_to_the_share(tenant: Tenant) -> None:
    tenant.apply(template("slice", {"slice": {"memory": "4Gi", "cores": "30"}}))
    command = "vgpu-probe hold --memory 3Gi --seconds 3600 & echo $! > /tmp/pid; wait; sleep 3600"
    tenant.apply(pod("holder", command, claim_template="slice"))
    tenant.wait_running("holder")
    assert tenant.told("holder")["result"] == "CUDA_SUCCESS"
    refused = tenant.run("holder", "vgpu-probe", "hold", "--memory", "3Gi")
    assert refused["result"] == "CUDA_ERROR_OUT_OF_MEMORY"
    tenant.kubectl("exec", "holder", "--", "sh", "-c", "kill -9 $(cat /tmp/pid)")
    granted = tenant.run("holder", "vgpu-probe", "hold", "--memory", "3Gi")
    assert granted["result"] == "CUDA_SUCCESS"
