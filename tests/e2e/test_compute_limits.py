"""Compute limits as the card itself sees them, while its tenants want more than they have."""

from __future__ import annotations

from tests.e2e.tenant import Tenant, pod, template

SECONDS = 15


def test_two_busy_tenants_get_their_shares_of_the_card(tenant: Tenant) -> None:
    shares = {"thirty": 30, "sixty": 60}
    for name, cores in shares.items():
        tenant.apply(template(name, {"slice": {"memory": "4Gi", "cores": str(cores)}}))
        tenant.apply(pod(name, f"vgpu-probe spin --seconds {SECONDS}; sleep 3600", claim_template=name))
    for name in shares:
        tenant.wait_running(name)
    told = {name: tenant.told(name) for name in shares}
    for name, cores in shares.items():
        assert abs(told[name]["percent"] - cores) <= 0.2 * cores, told


def test_a_tenant_alone_stays_at_its_limit(tenant: Tenant) -> None:
    tenant.apply(template("quarter", {"slice": {"memory": "4Gi", "cores": "25"}}))
    tenant.apply(pod("alone", f"vgpu-probe spin --seconds {SECONDS}; sleep 3600", claim_template="quarter"))
    tenant.wait_running("alone")
    told = tenant.told("alone")
    assert abs(told["percent"] - 25) <= 5, told


def test_memory_alone_leaves_compute_unlimited(tenant: Tenant) -> None:
    tenant.apply(template("memory", {"slice": {"memory": "4Gi"}}))
    tenant.apply(pod("free", "vgpu-probe spin --seconds 5; sleep 3600", claim_template="memory"))
    tenant.wait_running("free")
    assert tenant.told("free")["percent"] >= 90
