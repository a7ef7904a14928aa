"""What a claim's status says of our devices, for people who ask "what did I get": pure.

An entry of `status.devices` per share: the condition Ready, and in `data` what was granted on which card. The API
server drops the entries when the claim loses its allocation.
Source: AllocatedDeviceStatus in k8s.io/api/resource/v1/types.go (1.37): data up to 10 KiB, 8 conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dra_driver.api.vgpuconfig import API_VERSION
from dra_driver.kube.claims import READY, Claim, Reported, Result
from dra_driver.kube.connection import JsonObject
from dra_driver.kube.quantities import binary
from dra_driver.kubeletplugin.plan import Plan, PlannedShare

PREPARED = "Prepared"
# What a condition may hold, metav1.Condition; and no page of text where people look for a sentence.
_LONGEST_MESSAGE = 1024

_Key = tuple[str, str, str | None]


def ready_devices(plan: Plan, driver: str) -> tuple[Reported, ...]:
    """What is to be reported of a claim that is prepared."""
    return _unique(
        _entry(driver, planned.result, ready=True, reason=PREPARED, message="", data=_granted(planned))
        for planned in plan.shares
    )


def failed_devices(claim: Claim, driver: str, *, reason: str, message: str) -> tuple[Reported, ...]:
    """What is to be reported of a claim that could not be prepared: all its devices of ours wait for it."""
    message = message.encode()[:_LONGEST_MESSAGE].decode(errors="ignore")
    return _unique(
        _entry(driver, result, ready=False, reason=reason, message=message, data={})
        for result in claim.results or ()
        if result.driver == driver
    )


def wire_devices(wanted: Sequence[Reported], current: Sequence[Reported], *, now: str) -> list[JsonObject]:
    """Write entries of `status.devices`. `now` (RFC 3339) is the time of those whose readiness changes."""
    since = {_key(device): device.since for device in current if device.since}
    ready = {_key(device): device.ready for device in current}
    return [
        _wire(device, since.get(_key(device), now) if ready.get(_key(device)) is device.ready else now)
        for device in wanted
    ]


def says(current: Sequence[Reported], driver: str, wanted: Sequence[Reported]) -> bool:
    """Tell whether a claim's status says already what is wanted of this driver's devices."""
    ours = [device for device in current if device.driver == driver]
    return sorted(map(_meaning, ours)) == sorted(map(_meaning, wanted))


def _entry(driver: str, result: Result, *, ready: bool, reason: str, message: str, data: Mapping[str, Any]) -> Reported:
    return Reported(driver, result.pool, result.device, result.share_id, ready, "", reason, message, data)


def _granted(planned: PlannedShare) -> JsonObject:
    share = planned.share
    host_memory = share.settings.host_memory
    return {
        "apiVersion": API_VERSION,
        "kind": "GrantedShare",
        "uuid": share.device.uuid,
        "model": share.device.model,
        "memory": binary(share.memory),
        **({"hostMemory": binary(host_memory)} if host_memory else {}),
        "cores": share.cores,
        "computePolicy": share.settings.compute_policy.value,
        "priority": share.settings.priority.value,
    }


def _unique(devices: Iterable[Reported]) -> tuple[Reported, ...]:
    """One entry per key: two requests may hold the same whole device (adminAccess)."""
    return tuple({_key(device): device for device in devices}.values())


def _key(device: Reported) -> _Key:
    return (device.pool, device.device, device.share_id)


def _meaning(device: Reported) -> str:
    """Everything but the time, in a form that can be compared and sorted."""
    data = sorted((name, str(value)) for name, value in device.data.items())
    return repr((device.pool, device.device, device.share_id, device.ready, device.reason, device.message, data))


def _wire(device: Reported, since: str) -> JsonObject:
    condition = {
        "type": READY,
        "status": "True" if device.ready else "False",
        "reason": device.reason,
        "message": device.message,
        "lastTransitionTime": since,
    }
    wire: JsonObject = {"driver": device.driver, "pool": device.pool, "device": device.device}
    if device.share_id:
        wire["shareID"] = device.share_id
    return {**wire, "conditions": [condition], **({"data": dict(device.data)} if device.data else {})}
