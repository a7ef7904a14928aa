"""What the plugin keeps on the node, opened in the order that keeps it whole.

Another plugin may live on the same folders during an update, so all of it happens within one turn: the library is
installed before anything could name it, the checkpoint is read or rebuilt, and only then is taken away what neither a
recorded claim nor a living plugin needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import Claim
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.effects import Effects
from dra_driver.kubeletplugin.metadata_files import MetadataFiles
from dra_driver.kubeletplugin.plan import Plan
from dra_driver.kubeletplugin.presence import Presence
from dra_driver.kubeletplugin.recover import ListsClaims, open_checkpoint
from dra_driver.kubeletplugin.shares import ShareFolders
from dra_driver.kubeletplugin.shim import install_shim, remove_unused_shims
from dra_driver.kubeletplugin.turns import Turns
from dra_driver.settings import PluginSettings
from drivers.backend import DeviceBackend

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NodeState:
    """The opened state."""

    checkpoint: Checkpoint
    effects: Effects
    turns: Turns
    presence: Presence


@asynccontextmanager
async def opened_state(
    settings: PluginSettings,
    backends: Mapping[str, DeviceBackend],
    claims: ListsClaims,
    *,
    make_plan: Callable[[Claim], Plan],
    boot_id: str,
) -> AsyncIterator[NodeState]:
    """Open the state for as long as the plugin lives. Raises HamiDraError, OSError."""
    folder = settings.plugin_folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    sockets = (settings.registration_socket, settings.dra_socket)
    with contextlib.ExitStack() as stack:
        presence = await Presence.take(folder, settings.pod_uid, sockets)
        stack.callback(presence.leave)
        turns = Turns(folder)
        stack.callback(turns.close)
        checkpoint = Checkpoint(folder, boot_id=boot_id, alone=presence.alone)
        async with turns.turn():
            alone = presence.bury_the_dead()
            cdi = CdiStore(settings.cdi_folder, driver=settings.driver_name)
            shim = install_shim(settings.shim_library, settings.state_folder, cdi, driver=settings.driver_name)
            log.info("shim_installed", version=shim.version, path=shim.library)
            folders = ShareFolders(settings.state_folder)
            folders.open()
            metadata = MetadataFiles(settings.state_folder, cdi, driver=settings.driver_name)
            metadata.open()
            effects = Effects(
                driver=settings.driver_name,
                backends=backends,
                folders=folders,
                metadata=metadata,
                cdi=cdi,
                shim=shim,
            )
            await open_checkpoint(
                checkpoint, effects, claims, driver=settings.driver_name, make_plan=make_plan, boot_id=boot_id
            )
            log.info("checkpoint_read", claims=len(checkpoint.claims()), folder=str(folder), alone=alone)
            if alone:
                checkpoint.begin()
                used = _named_shims(checkpoint, settings.driver_name) | {shim.version}
                remove_unused_shims(settings.state_folder, cdi, used=used)
        turns.on_gained = checkpoint.refresh
        yield NodeState(checkpoint, effects, turns, presence)
        async with turns.turn():
            checkpoint.fold()


def _named_shims(checkpoint: Checkpoint, driver: str) -> set[str]:
    """List the versions of the library that containers of recorded claims may have mounted."""
    prefix = f"{driver}/shim="
    return {
        device.removeprefix(prefix)
        for claim in checkpoint.claims()
        for share in claim.shares
        for device in share.cdi_devices
        if device.startswith(prefix)
    }
