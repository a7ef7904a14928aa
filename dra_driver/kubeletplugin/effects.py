"""What preparing a claim changes on the node, and how each change is taken back.

The only place where a plan turns into calls of a vendor's library, share folders and CDI files. Blocking.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from dra_driver.cdi.render import ShareEdits, ShimFiles, record_annotation, share_device_ids, share_spec
from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import ClaimRef
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim, PreparedShare, State, encode_record
from dra_driver.kubeletplugin.metadata_files import MetadataFiles
from dra_driver.kubeletplugin.plan import Plan, PlannedShare
from dra_driver.kubeletplugin.shares import ShareFolders
from drivers.backend import DeviceBackend, OutlivesReboot
from drivers.errors import DeviceNotFound
from drivers.shim_contract import Limits, environment_name, environment_value, share_limits

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


_SPEC_PREFIX = "claim-"


@dataclass(frozen=True)
class Traces:
    """What the folders tell of claims.

    `specs`: by claim UID the keys of the shares in its CDI spec; `records`: the plugin's records in those specs;
    `shares`: by share key the limits in its folder, None where they cannot be read.
    """

    specs: Mapping[str, tuple[str, ...]]
    records: tuple[str, ...]
    shares: Mapping[str, Limits | None]


class Effects:
    """Does and undoes; every method may be repeated."""

    def __init__(
        self,
        *,
        driver: str,
        backends: Mapping[str, DeviceBackend],
        folders: ShareFolders,
        metadata: MetadataFiles,
        cdi: CdiStore,
        shim: ShimFiles,
    ) -> None:
        self._driver = driver
        self._backends = backends
        self._folders = folders
        self._metadata = metadata
        self._cdi = cdi
        self._shim = shim

    def do(self, plan: Plan, *, boot_id: str, fresh: bool, now_ns: int) -> PreparedClaim:
        """Make the shares of a claim usable; returns the record of it, which the spec carries too.

        `fresh` starts their accounting anew; `now_ns` is CLOCK_MONOTONIC. Raises DriverError, OSError.
        """
        ref = plan.ref
        edits = [self._make(share, fresh=fresh, now_ns=now_ns) for share in plan.shares]
        self._metadata.make(ref, plan.shares, pod_claim_name=plan.pod_claim_name)
        shares = (
            prepared_share(
                share, (*share_device_ids(self._driver, edit, self._shim), self._metadata.device_id(ref, share))
            )
            for share, edit in zip(plan.shares, edits, strict=True)
        )
        claim = prepared_claim(ref, State.COMPLETED, boot_id, shares)
        # The spec is the last effect: who finds it knows that all others are there.
        self._cdi.write(_spec_name(ref.uid), share_spec(self._driver, edits, record=encode_record(claim)))
        return claim

    def make_spares(self) -> None:
        """Make beforehand what the next claims need. Raises OSError."""
        self._folders.spares.fill()
        self._metadata.spares.fill()

    def outlive_reboot(self, plan: Plan) -> bool:
        """Tell whether a vendor makes something for these shares that is still there after a reboot."""
        vendors = {share.share.device.vendor for share in plan.shares}
        return any(_outlives_reboot(backend) for vendor, backend in self._backends.items() if vendor in vendors)

    def undo(self, claim: PreparedClaim) -> None:
        """Take back all of a claim. Raises DriverError, OSError."""
        self._cdi.remove(_spec_name(claim.uid))
        self._metadata.remove(claim)
        for share in reversed(claim.shares):
            self._folders.remove(share.key)
            self._release(share)

    def stand(self, claim: PreparedClaim) -> bool:
        """Tell whether what was made for a claim is still there."""
        limited = [share for share in claim.shares if _has_folder(share, self._driver)]
        described = self._cdi.exists(_spec_name(claim.uid)) and self._metadata.stand(claim)
        return described and all(self._folders.exists(share.key) for share in limited)

    def traces(self) -> Traces:
        """Tell what is there of whatever was made, by the folders alone. Raises OSError."""
        annotation = record_annotation(self._driver)
        specs = {name for name in self._cdi.names() if name.startswith(_SPEC_PREFIX)}
        return Traces(
            specs={name.removeprefix(_SPEC_PREFIX): self._cdi.devices(name) for name in sorted(specs)},
            records=tuple(text for name in sorted(specs) if (text := self._cdi.annotation(name, annotation))),
            shares={key: self._folders.limits(key) for key in sorted(self._folders.keys())},
        )

    def strays(self, claims: Collection[PreparedClaim]) -> frozenset[str]:
        """Name the shares and specs that are there of none of these claims. Raises OSError."""
        specs = {_spec_name(claim.uid) for claim in claims}
        shares = {share.key for claim in claims for share in claim.shares}
        there = {name for name in self._cdi.names() if name.startswith(_SPEC_PREFIX)}
        return frozenset((there - specs) | (self._folders.keys() - shares))

    def sweep(self, key: str, limits: Limits | None) -> bool:
        """Take back a share that no claim is known for; tells whether it could, which it can not while in use.

        Raises DriverError, OSError.
        """
        if self._folders.in_use(key):
            return False
        self.sweep_void(key, limits)
        return True

    def sweep_void(self, key: str, limits: Limits | None) -> None:
        """Take back a share that no claim is known for, and that no process uses. Raises DriverError, OSError."""
        self._folders.remove(key)
        for backend in self._backends.values():
            backend.unprepare(key, limits.device_uuid if limits else "")

    def sweep_specs(self, known: Collection[str]) -> None:
        """Remove the specs of claims that are not among these UIDs, and unfinished ones. Raises OSError."""
        self._cdi.sweep_unfinished()
        for name in self._cdi.names():
            if name.startswith(_SPEC_PREFIX) and name.removeprefix(_SPEC_PREFIX) not in known:
                self._cdi.remove(name)

    def sweep_metadata(self, known: Collection[str]) -> None:
        """Remove the metadata of claims that are not among these UIDs. Raises OSError."""
        for uid in self._metadata.uids() - set(known):
            self._metadata.sweep(uid)

    def _make(self, planned: PlannedShare, *, fresh: bool, now_ns: int) -> ShareEdits:
        share = planned.share
        injection = self._backend(share.device.vendor).prepare(share)
        if not injection.shim:
            return ShareEdits(share.key, injection)
        limits = share_limits(share, now_ns=now_ns)
        folder = self._folders.make(limits, fresh=fresh)
        words = ((environment_name(share.key), environment_value(limits)),)
        return ShareEdits(share.key, injection, str(folder), words)

    def _release(self, share: PreparedShare) -> None:
        backend = self._backends.get(share.vendor)
        if backend is None:
            # Switched off since: its pods must still be able to end, and nobody else could release the share.
            log.error("share_left_with_vendor", share=share.key, vendor=share.vendor, device_uuid=share.device_uuid)
            return
        backend.unprepare(share.key, share.device_uuid)

    def _backend(self, vendor: str) -> DeviceBackend:
        backend = self._backends.get(vendor)
        if backend is None:
            raise DeviceNotFound(f"vendor {vendor} is not switched on at this node")
        return backend


def prepared_share(planned: PlannedShare, cdi_devices: tuple[str, ...] = ()) -> PreparedShare:
    """Record a planned share; without CDI devices while it is not ready."""
    result, share = planned.result, planned.share
    return PreparedShare(
        key=share.key,
        request=result.request,
        pool=result.pool,
        device=result.device,
        share_id=result.share_id,
        vendor=share.device.vendor,
        device_uuid=share.device.uuid,
        memory=share.memory,
        cores=share.cores,
        whole=planned.whole,
        cdi_devices=cdi_devices,
    )


def prepared_claim(ref: ClaimRef, state: State, boot_id: str, shares: Iterable[PreparedShare]) -> PreparedClaim:
    """Record a claim."""
    return PreparedClaim(
        uid=ref.uid, namespace=ref.namespace, name=ref.name, state=state, boot_id=boot_id, shares=tuple(shares)
    )


def _outlives_reboot(backend: object) -> bool:
    return isinstance(backend, OutlivesReboot) and backend.outlives_reboot


def _spec_name(claim_uid: str) -> str:
    return f"{_SPEC_PREFIX}{claim_uid}"


def _has_folder(share: PreparedShare, driver: str) -> bool:
    return any(device.startswith(f"{driver}/shim=") for device in share.cdi_devices)
