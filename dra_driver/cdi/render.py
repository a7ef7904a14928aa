"""From shares to CDI specs: pure, so that what a container will get can be read and compared in a test.

Two kinds are written. `<driver>/share` has one device for each allocated share, with that share's limits and
nothing of any other, so that a container which names one request of a claim gets that request alone.
`<driver>/shim` has the preloaded library, the same for all; a container with several shares names it
several times, and the runtime applies it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dra_driver.cdi.spec import BindMount, CdiDevice, Edits, Node, Spec, device_id
from drivers.model import Injection

CONTAINER_SHARES = "/run/vgpu/shares"
CONTAINER_LIBRARY = "/usr/local/vgpu/libvgpu.so"
CONTAINER_PRELOAD = "/etc/ld.so.preload"


@dataclass(frozen=True)
class ShimFiles:
    """An installed version of the library: its name (by content) and its two files on the host."""

    version: str
    library: str
    preload: str


@dataclass(frozen=True)
class ShareEdits:
    """What one share brings into a container. `directory` is the share's folder on the host, if it has one."""

    key: str
    injection: Injection
    directory: str = ""
    environment: tuple[tuple[str, str], ...] = ()


def share_spec(driver: str, shares: Sequence[ShareEdits], *, record: str = "") -> Spec:
    """Describe the shares of one claim.

    `record` is the plugin's own record of the claim, which can so be found again from the spec.
    """
    devices = tuple(CdiDevice(share.key, _share_edits(share)) for share in shares)
    return Spec(f"{driver}/share", devices, ((record_annotation(driver), record),) if record else ())


def record_annotation(driver: str) -> str:
    """Name the annotation under which a spec carries the plugin's record of the claim."""
    return f"{driver}/record"


def shim_spec(driver: str, shim: ShimFiles) -> Spec:
    """Describe one installed version of the library."""
    mounts = (
        BindMount(shim.library, CONTAINER_LIBRARY, read_only=True),
        BindMount(shim.preload, CONTAINER_PRELOAD, read_only=True),
    )
    return Spec(f"{driver}/shim", (CdiDevice(shim.version, Edits(mounts=mounts)),))


def share_device_ids(driver: str, share: ShareEdits, shim: ShimFiles) -> tuple[str, ...]:
    """List the CDI devices of one share, the vendor's own first, since ours are laid over them."""
    own = (device_id(f"{driver}/share", share.key),)
    library = (device_id(f"{driver}/shim", shim.version),) if share.injection.shim else ()
    return share.injection.vendor_cdi_devices + library + own


def _share_edits(share: ShareEdits) -> Edits:
    injection = share.injection
    environment = (*injection.environment, *share.environment)
    return Edits(
        environment=tuple(f"{name}={value}" for name, value in environment),
        mounts=_vendor_mounts(injection) + _share_mounts(share),
        device_nodes=tuple(Node(node.path, node.host_path or node.path) for node in injection.device_nodes),
    )


def _vendor_mounts(injection: Injection) -> tuple[BindMount, ...]:
    return tuple(BindMount(mount.host_path, mount.container_path, mount.read_only) for mount in injection.mounts)


def _share_mounts(share: ShareEdits) -> tuple[BindMount, ...]:
    if not share.directory:
        return ()
    inside = f"{CONTAINER_SHARES}/{share.key}"
    return (
        BindMount(f"{share.directory}/limits", f"{inside}/limits", read_only=True),
        BindMount(f"{share.directory}/usage", f"{inside}/usage", read_only=False),
    )
