"""The device metadata files of claims on the host, and the CDI specs that bring them into containers.

They can be written again from the claim at any time, so nothing waits for the disk here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dra_driver.cdi.metadata import (
    DescribedDevice,
    Subject,
    is_metadata_device,
    metadata_device_id,
    metadata_document,
    metadata_spec,
)
from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import ClaimRef
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim
from dra_driver.kubeletplugin.plan import PlannedShare, base_request
from dra_driver.kubeletplugin.publish import device_attributes
from dra_driver.kubeletplugin.spares import NUMBER, Spares
from drivers.files import make_closed_folder, remove_whole, write_into, write_new, write_whole

_MODE = 0o644
_SPEC_PREFIX = "metadata-"
# Between UID and request in the name of a file; in neither of them.
_SEPARATOR = "_"


class MetadataFiles:
    """All metadata files below the plugin's state folder."""

    def __init__(self, state: Path, cdi: CdiStore, *, driver: str, spares: int = NUMBER) -> None:
        self._root = state / "metadata"
        self.spares = Spares(state / "spare" / "metadata", _make_spare, number=spares)
        self._cdi = cdi
        self._driver = driver

    def open(self) -> None:
        """Make the root folder, closed to other users: the mounts alone open the files. Raises OSError."""
        make_closed_folder(self._root)
        self.spares.open()

    def make(self, ref: ClaimRef, planned: Sequence[PlannedShare], *, pod_claim_name: str) -> None:
        """Write the files of a claim and their spec. Raises OSError."""
        subject = Subject(ref.namespace, ref.name, ref.uid, pod_claim_name)
        files: dict[str, str] = {}
        for request in dict.fromkeys(share.result.request for share in planned):
            devices = [_described(share) for share in planned if share.result.request == request]
            path = self._path(ref.uid, request)
            self._write(path, metadata_document(self._driver, subject, request, devices))
            files[base_request(request)] = str(path)
        self._cdi.write(f"{_SPEC_PREFIX}{ref.uid}", metadata_spec(self._driver, subject, files))

    def device_id(self, ref: ClaimRef, planned: PlannedShare) -> str:
        """Name the CDI device of the file that describes a share."""
        return metadata_device_id(self._driver, ref.uid, base_request(planned.result.request))

    def stand(self, claim: PreparedClaim) -> bool:
        """Tell whether what a record names is still there."""
        described = [share for share in claim.shares if any(self._is_ours(device) for device in share.cdi_devices)]
        return not described or (
            self._cdi.exists(f"{_SPEC_PREFIX}{claim.uid}")
            and all(self._path(claim.uid, share.request).is_file() for share in described)
        )

    def uids(self) -> set[str]:
        """List the claims that have files or a spec."""
        specs = (name.removeprefix(_SPEC_PREFIX) for name in self._cdi.names() if name.startswith(_SPEC_PREFIX))
        return {path.name.partition(_SEPARATOR)[0] for path in self._root.iterdir()} | set(specs)

    def remove(self, claim: PreparedClaim) -> None:
        """Remove a claim's files and spec; none is a success. Raises OSError."""
        self._cdi.remove(f"{_SPEC_PREFIX}{claim.uid}")
        removed = [remove_whole(self._path(claim.uid, request)) for request in {one.request for one in claim.shares}]
        if not all(removed):
            # Never made, removed before, or of requests that a record which was rebuilt does not know.
            self.sweep(claim.uid)

    def sweep(self, claim_uid: str) -> None:
        """Remove whatever there is of a claim. Raises OSError."""
        self._cdi.remove(f"{_SPEC_PREFIX}{claim_uid}")
        for path in self._root.glob(f"{claim_uid}{_SEPARATOR}*"):
            path.unlink()

    def _write(self, path: Path, content: bytes) -> None:
        """Put a file in place; one that is there already stays what it is for the containers that have it."""
        if self.spares.use(path, lambda spare: write_into(spare, content)):
            return
        try:
            write_new(path, content, mode=_MODE)
        except FileExistsError:
            write_whole(path, content, mode=_MODE, durable=False)

    def _path(self, claim_uid: str, request: str) -> Path:
        return self._root / f"{claim_uid}{_SEPARATOR}{base_request(request)}.json"

    def _is_ours(self, device: str) -> bool:
        return is_metadata_device(self._driver, device)


def _make_spare(path: Path) -> None:
    write_new(path, b"", mode=_MODE)


def _described(planned: PlannedShare) -> DescribedDevice:
    """The card as it is published, and what the share has of it: bytes and percent."""
    share, result = planned.share, planned.result
    granted = {"grantedMemory": {"int": share.memory}, "grantedCores": {"int": share.cores}}
    key = {"shareKey": {"string": share.key}}
    return DescribedDevice(result.pool, result.device, {**device_attributes(share.device), **granted, **key})
