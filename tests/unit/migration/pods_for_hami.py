"""Pods as people write them for HAMi, and short ways to look at what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dra_driver.migration.claiming import Context
from dra_driver.migration.pods import Migrated, migrate

Wire = dict[str, Any]
GIB = 1 << 30
SIXTEEN = Context(card_sizes={"nvidia": frozenset({16 * GIB})})


def container(name: str = "main", /, *, also: Any = None, **limits: int | str) -> Wire:
    """A container with these limits; `nvidia_gpu` stands for `nvidia.com/gpu`, and so on."""
    return {"name": name, "resources": {"limits": resources(limits)}, **(also or {})}


def resources(limits: Mapping[str, int | str]) -> dict[str, int | str]:
    return {spelled(name): amount for name, amount in limits.items()}


def spelled(name: str) -> str:
    vendor, _, rest = name.partition("_")
    domains = {"nvidia": "nvidia.com", "hygon": "hygon.com", "huawei": "huawei.com", "kunlunxin": "kunlunxin.com"}
    return f"{domains[vendor]}/{rest.replace('_', '-')}" if vendor in domains else name


def pod(
    *containers: Wire, init: Sequence[Wire] = (), annotations: Mapping[str, str] | None = None, **spec: Any
) -> Wire:
    """A pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train", **({"annotations": dict(annotations)} if annotations else {})},
        "spec": {"containers": list(containers), **({"initContainers": list(init)} if init else {}), **spec},
    }


def migrated(wire: Wire, context: Context = SIXTEEN) -> Migrated:
    """What becomes of a pod that is mapped."""
    found = migrate(wire, context, subject="Pod team/train")
    assert found is not None
    return found


def requests_of(found: Migrated, name: str = "main") -> list[Wire]:
    """The requests of the claim that a container uses."""
    claim = uses(found, name)[0]["name"]
    (template,) = [
        entry["resourceClaimTemplateName"] for entry in found.pod["spec"]["resourceClaims"] if entry["name"] == claim
    ]
    requests: list[Wire] = found.templates[template].wire()["devices"]["requests"]
    return requests


def devices_of(found: Migrated) -> Wire:
    """All of the only claim."""
    (spec,) = found.templates.values()
    devices: Wire = spec.wire()["devices"]
    return devices


def uses(found: Migrated, name: str = "main") -> list[Wire]:
    """What a container refers to."""
    spec = found.pod["spec"]
    (wire,) = [one for one in (*spec.get("initContainers", ()), *spec["containers"]) if one["name"] == name]
    claims: list[Wire] = wire["resources"].get("claims", [])
    return claims


def amounts(request: Wire) -> dict[str, str]:
    """The capacity that a request asks for."""
    found: dict[str, str] = request["exactly"].get("capacity", {}).get("requests", {})
    return found


def conditions(request: Wire) -> list[str]:
    """The selectors of a request."""
    return [one["cel"]["expression"] for one in request["exactly"].get("selectors", [])]
