"""What preparing a claim changes on the node, and how each change is taken back.

The only place where a plan turns into calls of a vendor's library, share folders and CDI files. Blocking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from dra_driver.cdi.render import ShareEdits, ShimFiles, share_device_ids, share_spec
from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import ClaimRef
from dra_driver.kubeletplugin.checkpoint import PreparedClaim, PreparedShare
from dra_driver.kubeletplugin.plan import PlannedShare
from dra_driver.kubeletplugin.shares import ShareFolders
from drivers.backend import DeviceBackend
from drivers.errors import DeviceNotFound
from drivers.shim_contract import environment_name, environment_value, share_limits

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Effects:
    """Does and undoes; every method may be repeated."""

    def __init__(
        self,
        *,
        driver: str,
        backends: Mapping[str, DeviceBackend],
        folders: ShareFolders,
        cdi: CdiStore,
        shim: ShimFiles,
    ) -> None:
        self._driver = driver
        self._backends = backends
        self._folders = folders
        self._cdi = cdi
        self._shim = shim

    def do(
        self, ref: ClaimRef, planned: Sequence[PlannedShare], *, fresh: bool, now_ns: int
    ) -> tuple[PreparedShare, ...]:
        """Make the shares of a claim usable; returns them as they are to be recorded.

        `fresh` starts their accounting anew; `now_ns` is CLOCK_MONOTONIC. Raises DriverError, OSError.
        """
        edits = [self._make(share, fresh=fresh, now_ns=now_ns) for share in planned]
        self._cdi.write(_spec_name(ref.uid), share_spec(self._driver, edits))
        return tuple(
            prepared_share(share, share_device_ids(self._driver, edit, self._shim))
            for share, edit in zip(planned, edits, strict=True)
        )

    def undo(self, claim: PreparedClaim) -> None:
        """Take back all of a claim. Raises DriverError, OSError."""
        self._cdi.remove(_spec_name(claim.uid))
        for share in reversed(claim.shares):
            self._folders.remove(share.key)
            self._release(share)

    def stand(self, claim: PreparedClaim) -> bool:
        """Tell whether what was made for a claim is still there."""
        limited = [share for share in claim.shares if _has_folder(share, self._driver)]
        return self._cdi.exists(_spec_name(claim.uid)) and all(self._folders.exists(share.key) for share in limited)

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
        whole=result.consumed is None,
        cdi_devices=cdi_devices,
    )


def _spec_name(claim_uid: str) -> str:
    return f"claim-{claim_uid}"


def _has_folder(share: PreparedShare, driver: str) -> bool:
    return any(device.startswith(f"{driver}/shim=") for device in share.cdi_devices)
