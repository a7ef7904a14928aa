"""Each main reason of waiting, provoked once: what `kubectl vgpu explain` suggests is done, the scheduler agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.node import PAUSE_IMAGE
from tests.e2e.tenant import Tenant
from tests.stack.plugin import DRIVER
from tests.waiting import eventually

Wire = dict[str, Any]
CARDS = 2
SHARES = 10


def test_a_claim_short_of_memory_gets_its_card_when_the_named_claim_is_released(tenant: Tenant) -> None:
    hold(tenant, {"memory": "12Gi"}, {"memory": "12Gi"})
    ask(tenant, "wanted", exactly(memory="8Gi"))
    explained = refused(tenant, "wanted")
    (reason,) = explained["reasons"]
    assert reason["code"] == "CapacityShort"
    assert {name: reason["parameters"][name] for name in ("capacity", "asked", "free", "short")} == {
        "capacity": "memory",
        "asked": "8Gi",
        "free": "4Gi",
        "short": "4Gi",
    }
    (released,) = suggestion(explained, "Release")["releases"]
    namespace, _, name = released["claim"].partition("/")
    assert namespace == tenant.namespace
    tenant.delete("pod", name)
    assert scheduled(tenant, "wanted")


def test_a_claim_short_of_cores_gets_its_card_when_it_asks_for_the_suggested_amount(tenant: Tenant) -> None:
    hold(tenant, {"memory": "1Gi", "cores": "60"}, {"memory": "12Gi", "cores": "60"})
    ask(tenant, "wanted", exactly(memory="8Gi", cores="50"))
    explained = refused(tenant, "wanted")
    (reason,) = explained["reasons"]
    assert (reason["code"], reason["parameters"]["capacity"], reason["parameters"]["short"]) == (
        *("CapacityShort", "cores"),
        "10",
    )
    smaller = suggestion(explained, "Shrink")["parameters"]
    ask(tenant, "smaller", exactly(**{"memory": "8Gi", **smaller}))
    assert scheduled(tenant, "smaller")


def test_a_claim_that_finds_all_shares_taken_gets_one_when_they_are_released(tenant: Tenant) -> None:
    everything = [{"name": f"s{number}", "exactly": exactly(memory="1Mi")} for number in range(CARDS * SHARES)]
    make(tenant, "crowd", everything)
    assert scheduled(tenant, "crowd")
    ask(tenant, "wanted", exactly(memory="1Mi"))
    explained = refused(tenant, "wanted")
    assert [reason["code"] for reason in explained["reasons"]] == ["SharesUsedUp"]
    assert explained["funnel"][0]["refused"] == {"SharesUsedUp": CARDS}
    assert {held["claim"] for held in suggestion(explained, "Release")["releases"]} == {f"{tenant.namespace}/crowd"}
    tenant.delete("pod", "crowd")
    assert scheduled(tenant, "wanted")


def test_a_claim_whose_selector_matches_nothing_gets_a_card_without_it(tenant: Tenant) -> None:
    expression = f'device.attributes["{DRIVER}"].model == "No Such Card"'
    ask(tenant, "wanted", {**exactly(memory="1Gi"), "selectors": [{"cel": {"expression": expression}}]})
    explained = refused(tenant, "wanted")
    assert [reason["code"] for reason in explained["reasons"]] == ["RequestSelector"]
    assert suggestion(explained, "DropSelector")["parameters"] == {"expression": expression}
    ask(tenant, "freer", exactly(memory="1Gi"))
    assert scheduled(tenant, "freer")


def test_a_claim_kept_away_by_a_taint_gets_a_card_when_it_tolerates_it(tenant: Tenant, tainted: str) -> None:
    ask(tenant, "wanted", exactly(memory="1Gi"))
    explained = refused(tenant, "wanted")
    assert [reason["code"] for reason in explained["reasons"]] == ["Tainted"]
    assert suggestion(explained, "Tolerate")["parameters"]["taint"] == f"{tainted}:NoSchedule"
    ask(tenant, "tolerant", {**exactly(memory="1Gi"), "tolerations": [{"key": tainted, "operator": "Exists"}]})
    assert scheduled(tenant, "tolerant")


def test_fit_counts_as_many_claims_as_the_scheduler_then_places(tenant: Tenant) -> None:
    manifest = {"kind": "ResourceClaim", **claim("any", [{"name": "slice", "exactly": exactly(memory="7Gi")}])}
    told = vgpu(tenant, "fit", "-f", "-", stdin=json.dumps(manifest))
    assert told["room"] == {tenant.stack.cluster.node_name: 2 * CARDS}
    for number in range(2 * CARDS + 1):
        ask(tenant, f"one-{number}", exactly(memory="7Gi"))
    placed = eventually(
        lambda: len([one for one in tenant.every("resourceclaims") if one["status"].get("allocation")]) == 2 * CARDS,
        what="all that fit are placed",
    )
    assert placed
    assert sum(bool(tenant.get("resourceclaim", f"one-{n}")["status"].get("allocation")) for n in range(5)) == 4


@pytest.fixture
def tainted(tenant: Tenant) -> Iterator[str]:
    """All cards tainted by a rule; returns the taint's key."""
    key = f"{tenant.namespace}.example.com/worn"
    rule = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": tenant.namespace},
        "spec": {"deviceSelector": {"driver": DRIVER}, "taint": {"key": key, "effect": "NoSchedule"}},
    }
    tenant.apply(rule)
    yield key
    tenant.stack.cluster.kubectl("delete", "devicetaintrule", tenant.namespace)


def exactly(**capacity: str) -> Wire:
    """One request of our class."""
    return {"deviceClassName": DRIVER, "capacity": {"requests": capacity}}


def claim(name: str, requests: list[Wire]) -> Wire:
    """A claim."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": requests}},
    }


def make(tenant: Tenant, name: str, requests: list[Wire]) -> None:
    """A claim, and a pod of the same name that only waits for it."""
    container = {"name": "main", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
            "containers": [{**container, "resources": {"claims": [{"name": "gpu"}]}}],
        },
    }
    tenant.apply(claim(name, requests), pod)


def ask(tenant: Tenant, name: str, request: Wire) -> None:
    """A claim with one request, and its pod."""
    make(tenant, name, [{"name": "slice", "exactly": request}])


def hold(tenant: Tenant, *capacities: dict[str, str]) -> None:
    """Take this much of each card, one claim after the other."""
    for number, capacity in enumerate(capacities):
        ask(tenant, f"holder-{number}", exactly(**capacity))
        assert scheduled(tenant, f"holder-{number}")


def scheduled(tenant: Tenant, pod: str) -> Wire:
    """Wait until the scheduler has given the pod its node and its claim."""

    def placed() -> Wire | None:
        return tenant.get("pod", pod) if tenant.get("pod", pod)["spec"].get("nodeName") else None

    return eventually(placed, what=f"{pod} is scheduled")


def refused(tenant: Tenant, name: str) -> Wire:
    """Wait until the scheduler has refused the pod, and return why its claim waits."""
    eventually(
        lambda: any("FailedScheduling" in event for event in tenant.events(name)), what=f"the scheduler refuses {name}"
    )
    explained = vgpu(tenant, "explain", f"claim/{name}", code=2)
    assert explained["verdict"] == "DoesNotFit"
    return explained


def suggestion(explained: Wire, change: str) -> Wire:
    """The suggestion of that kind."""
    found = {one["change"]: one for one in explained["suggestions"]}
    assert change in found, found
    chosen: Wire = found[change]
    return chosen


def vgpu(tenant: Tenant, *arguments: str, code: int = 0, stdin: str = "") -> Wire:
    """Run the plugin as its user does."""
    place = ("--namespace", tenant.namespace, "--kubeconfig", str(tenant.stack.cluster.admin_kubeconfig), "-o", "json")
    command = (sys.executable, "-m", "dra_driver.kubectl", *arguments, *place)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done
    told: Wire = json.loads(done.stdout)
    return told
