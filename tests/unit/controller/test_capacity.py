"""The cluster's capacity as figures, from slices and claims that come and go."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from dra_driver.controller.capacity import ClusterCapacity
from dra_driver.controller.observing import Change, Kind

Wire = dict[str, Any]
DRIVER = "vgpu.hami.io"
GIB = 1 << 30
A100 = {"node": "node-a", "vendor": "nvidia", "model": "A100"}


class Cluster:
    """A collector, and what it has been shown."""

    def __init__(self) -> None:
        self.leads = True
        self.registry = CollectorRegistry()
        self.capacity = ClusterCapacity(self.registry, driver=DRIVER, leads=lambda: self.leads)

    def show(self, kind: Kind, wire: Wire, change: Change = Change.ADDED) -> None:
        self.capacity.saw(kind, change, wire)

    def figure(self, name: str, labels: dict[str, str] | None = None) -> float | None:
        return self.registry.get_sample_value(f"vgpu_node_{name}", labels or A100)


def device(name: str, *, tainted: bool = False, model: str = "A100") -> Wire:
    taints = [{"key": "vgpu.hami.io/unhealthy", "effect": "NoSchedule"}] if tainted else []
    return {
        "name": name,
        "attributes": {"vendor": {"string": "nvidia"}, "model": {"string": model}},
        "capacity": {"memory": {"value": "16Gi"}, "cores": {"value": "100"}, "shares": {"value": "10"}},
        "allowMultipleAllocations": True,
        "taints": taints,
    }


def published(*devices: Wire, name: str = "slice-1", generation: int = 1, driver: str = DRIVER) -> Wire:
    pool = {"name": "node-a-nvidia", "generation": generation, "resourceSliceCount": 1}
    spec = {"driver": driver, "pool": pool, "nodeName": "node-a", "devices": list(devices)}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}


def share(device_name: str, memory: str, cores: str) -> Wire:
    consumed = {"memory": memory, "cores": cores, "shares": "1"}
    result = {"request": "gpu", "driver": DRIVER, "pool": "node-a-nvidia", "device": device_name}
    return {**result, "shareID": "s", "consumedCapacity": consumed}


def whole(device_name: str) -> Wire:
    return {"request": "gpu", "driver": DRIVER, "pool": "node-a-nvidia", "device": device_name}


def claim(name: str, *results: Wire) -> Wire:
    metadata = {"namespace": "team-a", "name": name, "uid": f"uid-{name}"}
    return {"metadata": metadata, "status": {"allocation": {"devices": {"results": list(results)}}}}


def test_shares_and_whole_devices_are_added_up_by_node_and_model() -> None:
    cluster = Cluster()
    cluster.show(Kind.SLICES, published(device("gpu-0"), device("gpu-1"), device("gpu-2", model="L4")))
    cluster.show(Kind.CLAIMS, claim("a", share("gpu-0", "4Gi", "30"), share("gpu-0", "2Gi", "20")))
    cluster.show(Kind.CLAIMS, claim("b", whole("gpu-1")))
    assert cluster.figure("devices") == 2
    assert cluster.figure("memory_bytes") == 32 * GIB
    assert cluster.figure("memory_allocated_bytes") == 22 * GIB
    assert cluster.figure("memory_free_bytes") == 10 * GIB
    assert cluster.figure("cores_allocated_ratio") == 0.75
    assert cluster.figure("allocations") == 3
    assert cluster.figure("memory_allocated_bytes", {**A100, "model": "L4"}) == 0


def test_a_claim_that_goes_or_is_freed_holds_nothing() -> None:
    cluster = Cluster()
    cluster.show(Kind.SLICES, published(device("gpu-0")))
    for name in ("a", "b", "c"):
        cluster.show(Kind.CLAIMS, claim(name, share("gpu-0", "4Gi", "10")))
    cluster.show(Kind.CLAIMS, claim("a"), Change.DELETED)
    freed = claim("b")
    freed["status"] = {}
    cluster.show(Kind.CLAIMS, freed, Change.MODIFIED)
    assert cluster.figure("memory_allocated_bytes") == 4 * GIB


def test_memory_of_a_tainted_device_is_there_and_not_free() -> None:
    cluster = Cluster()
    cluster.show(Kind.SLICES, published(device("gpu-0", tainted=True), device("gpu-1")))
    assert (cluster.figure("devices_tainted"), cluster.figure("memory_bytes")) == (1, 32 * GIB)
    assert cluster.figure("memory_free_bytes") == 16 * GIB


def test_slices_of_an_older_generation_do_not_count_twice() -> None:
    cluster = Cluster()
    cluster.show(Kind.SLICES, published(device("gpu-0"), name="old", generation=1))
    cluster.show(Kind.SLICES, published(device("gpu-0"), name="new", generation=2))
    assert cluster.figure("devices") == 1
    cluster.show(Kind.SLICES, published(name="new"), Change.DELETED)
    assert cluster.figure("devices") == 1


def test_other_drivers_and_broken_objects_leave_no_trace() -> None:
    cluster = Cluster()
    cluster.show(Kind.SLICES, published(device("gpu-0"), driver="other.example.com"))
    broken = published(device("gpu-0"), name="broken")
    broken["spec"]["devices"][0]["capacity"]["memory"] = {"value": "a lot"}
    cluster.show(Kind.SLICES, broken)
    assert cluster.figure("devices") is None


def test_a_replica_that_does_not_lead_tells_nothing_of_the_cluster() -> None:
    cluster = Cluster()
    cluster.show(Kind.SLICES, published(device("gpu-0")))
    cluster.leads = False
    assert cluster.figure("devices") is None
    cluster.leads = True
    assert cluster.figure("devices") == 1
