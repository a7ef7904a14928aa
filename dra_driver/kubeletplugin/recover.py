"""What becomes of a checkpoint that is damaged or gone: it is set aside, and told anew by those who still know.

Pods go on whatever happens to the plugin's file, so nothing may be lost over it: neither a share in use, nor the way
to take one back, nor the count of what is promised. Four witnesses remain, and each knows something the others do not:
the CDI specs, which carry the records of all claims that are ready; the file before the last change, which knows
them after a reboot too, when the specs are gone; the API, which knows what a claim was given whose preparation had
only begun; and the share folders, which show what is really there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Protocol

import structlog

from dra_driver.errors import CheckpointUnreadable, HamiDraError, ObjectRejected
from dra_driver.kube.claims import Claim, ClaimRef, parse_claim
from dra_driver.kube.connection import JsonObject
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim, PreparedShare, State, decode_record
from dra_driver.kubeletplugin.effects import Effects, Traces, prepared_claim, prepared_share
from dra_driver.kubeletplugin.plan import Plan
from drivers.errors import DriverError
from drivers.shim_contract import Limits

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Running pods do not wait for the API server; what it alone knows is of claims that no container uses yet.
_API_SECONDS = 10.0
_UNKNOWN = "unknown"


class ListsClaims(Protocol):
    """What the API server is needed for."""

    def pages(self) -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield all claims as they come. Raises KubeError."""
        ...


async def open_checkpoint(
    checkpoint: Checkpoint,
    effects: Effects,
    claims: ListsClaims,
    *,
    driver: str,
    make_plan: Callable[[Claim], Plan],
    boot_id: str,
) -> None:
    """Read the checkpoint, or rebuild it. Nobody else may be changing it. Raises OSError."""
    damage = _damage(checkpoint)
    known = () if damage else checkpoint.claims()
    if not damage:
        if checkpoint.written_in not in ("", boot_id):
            after_boot(effects, known, boot_id=boot_id)
        if not (strays := effects.strays(known)):
            return
        damage = f"it knows nothing of {', '.join(sorted(strays))}"
    previous = checkpoint.load_previous()
    traces = effects.traces()
    if not checkpoint.exists and not previous and not traces.specs and not traces.shares:
        return
    aside = checkpoint.set_aside()
    log.error("checkpoint_lost", error=damage, set_aside=str(aside) if aside else "")
    plans = await _plans(claims, make_plan)
    found = rebuilt(previous, traces, plans, driver=driver, boot_id=boot_id, known=known)
    checkpoint.rebuild(found)
    log.warning("checkpoint_rebuilt", claims=len(found), uids=[claim.uid for claim in found], api=plans is not None)
    _sweep(effects, traces, found, certain=plans is not None)


def rebuilt(
    previous: Iterable[PreparedClaim],
    traces: Traces,
    plans: Mapping[str, Plan] | None,
    *,
    driver: str,
    boot_id: str,
    known: Iterable[PreparedClaim] = (),
) -> tuple[PreparedClaim, ...]:
    """Tell the records anew: pure.

    `previous` is an earlier file, of a time before some of the last changes; `plans` by UID is what the API shows as
    allocated here, None where it did not answer; `known` is what is sure already.
    """
    found = {claim.uid: claim for claim in _readable(traces.records) if claim.uid in traces.specs}
    found.update((claim.uid, claim) for claim in known)
    for claim in previous:
        # What was done since may be its removal: then nothing is left of it, and nobody asks for it. But a reboot takes
        # the traces of what was ready too: that is kept as long as the API does not say that it is gone.
        rebooted = claim.boot_id != boot_id
        was_ready = rebooted and claim.may_be_in_use and (plans is None or claim.uid in plans)
        if claim.uid not in found and (was_ready or _has_trace(claim, traces)):
            found[claim.uid] = _maybe_ready(claim, driver)
    for uid, plan in (plans or {}).items():
        shares = [prepared_share(one, (f"{driver}/share={one.share.key}",)) for one in plan.shares]
        begun = prepared_claim(plan.ref, State.STARTED, boot_id, shares)
        if uid not in found and _has_trace(begun, traces):
            found[uid] = begun
    for uid, keys in traces.specs.items():
        if uid not in found:
            left = [_share_of(key, limits, driver) for key in keys if (limits := traces.shares.get(key)) is not None]
            found[uid] = prepared_claim(ClaimRef(_UNKNOWN, _UNKNOWN, uid), State.STARTED, boot_id, left)
    return tuple(found.values())


def after_boot(effects: Effects, claims: Collection[PreparedClaim], *, boot_id: str) -> None:
    """Take back what a boot has made void: nothing of it runs any more. Raises OSError.

    That is every spec and every metadata file of a claim that was not prepared since; and the shares without a record,
    which a power cut leaves that came between the making of a share and the disk's having its record.
    """
    current = {claim.uid for claim in claims if claim.boot_id == boot_id}
    effects.sweep_specs(current)
    effects.sweep_metadata(current)
    for key in effects.strays(claims):
        try:
            effects.sweep_void(key, None)
        except DriverError as error:
            log.error("unknown_share_left", share=key, error=str(error))
        else:
            log.warning("unknown_share_swept", share=key)


def _damage(checkpoint: Checkpoint) -> str:
    """Read the checkpoint; tells what is wrong with it, or nothing."""
    try:
        checkpoint.load()
    except CheckpointUnreadable as error:
        return str(error)
    return "" if checkpoint.exists else "there is no file"


def _sweep(effects: Effects, traces: Traces, found: Iterable[PreparedClaim], *, certain: bool) -> None:
    """Take back the shares that nobody knows of, where everybody who could know was asked."""
    known_claims = tuple(found)
    known = {share.key for claim in known_claims for share in claim.shares}
    for key, limits in traces.shares.items():
        if key in known:
            continue
        try:
            swept = certain and effects.sweep(key, limits)
        except (DriverError, OSError) as error:
            log.error("unknown_share_left", share=key, error=str(error))
            continue
        log.warning("unknown_share_swept" if swept else "unknown_share_left", share=key)
    if certain:
        effects.sweep_metadata([claim.uid for claim in known_claims])


async def _plans(claims: ListsClaims, make_plan: Callable[[Claim], Plan]) -> dict[str, Plan] | None:
    plans: dict[str, Plan] = {}
    try:
        async with asyncio.timeout(_API_SECONDS):
            async for page, _ in claims.pages():
                plans |= {plan.ref.uid: plan for wire in page if (plan := _plan(wire, make_plan)) is not None}
    except (HamiDraError, TimeoutError) as error:
        log.warning("claims_unknown", error=str(error) or type(error).__name__)
        return None
    return plans


def _plan(wire: JsonObject, make_plan: Callable[[Claim], Plan]) -> Plan | None:
    try:
        return make_plan(parse_claim(wire))
    except ObjectRejected as error:
        log.debug("claim_not_planned", error=str(error))
    except HamiDraError:
        # Not allocated, or nothing of ours: most claims of a cluster.
        pass
    return None


def _readable(records: Iterable[str]) -> Iterable[PreparedClaim]:
    for text in records:
        try:
            yield decode_record(text)
        except CheckpointUnreadable as error:
            log.warning("spec_record_unreadable", error=str(error))


def _maybe_ready(claim: PreparedClaim, driver: str) -> PreparedClaim:
    """The last change may have been its completion: what had begun is kept as what may be in use."""
    if claim.may_be_in_use:
        return claim
    shares = [share.model_copy(update={"cdi_devices": (f"{driver}/share={share.key}",)}) for share in claim.shares]
    return claim.model_copy(update={"shares": tuple(shares)})


def _has_trace(claim: PreparedClaim, traces: Traces) -> bool:
    return claim.uid in traces.specs or any(share.key in traces.shares for share in claim.shares)


def _share_of(key: str, limits: Limits, driver: str) -> PreparedShare:
    """A share of which only its files tell: enough to count it and to take it back."""
    return PreparedShare(
        key=key,
        request=_UNKNOWN,
        pool=_UNKNOWN,
        device=_UNKNOWN,
        share_id=None,
        vendor=_UNKNOWN,
        device_uuid=limits.device_uuid,
        memory=limits.memory_guaranteed_bytes,
        cores=limits.cores_guaranteed,
        whole=False,
        cdi_devices=(f"{driver}/share={key}",),
    )
