"""Taking everything of the driver's off a node: what stays there when the plugin itself is gone for good.

A plugin that ends leaves its record, the library and the CDI spec of it behind, since running pods need them and the
next plugin goes on from there. Only an administrator knows that there will be no next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
from pathlib import Path

import structlog

from dra_driver.cdi.store import CdiStore
from dra_driver.errors import CheckpointUnreadable, NodeInUse
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.presence import Presence
from dra_driver.kubeletplugin.turns import Turns
from dra_driver.settings import PluginSettings
from drivers.files import remove_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_INSTANCE = "cleanup"
# A plugin that was told to end finishes its calls first.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5
# Not the folder as a whole: whoever set it to one that others use must not lose theirs.
_OWN_PARTS = ("lib", "shares", "metadata", "spare")
# A mount point cannot be removed, nor anything of a container's read-only root.
_MOUNTED = (errno.EBUSY, errno.EROFS)


async def clean_node(settings: PluginSettings, *, force: bool, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Remove all that the plugin with these settings has left. Idempotent.

    Folders that are mounted here, as in a container that sees no more of the host, are emptied and stay.

    `force`: even while claims are recorded as prepared; their pods run on, but their containers cannot start again.

    Raises:
        NodeInUse: a plugin lives here and goes on living, or claims are prepared; nothing was removed.
        SettingsRejected: another cleanup is under way and does not end.
        OSError: something cannot be removed.
    """
    folder = settings.plugin_folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    with contextlib.ExitStack() as stack:
        presence = await Presence.take(folder, _INSTANCE, ())
        stack.callback(presence.leave)
        turns = Turns(folder)
        stack.callback(turns.close)
        await _plugins_gone(settings, presence, turns, patience_seconds)
        async with turns.turn():
            if not force:
                _refuse_prepared(settings)
            removed = [*_remove_specs(settings), *_remove_state(settings.state_folder)]
            _remove_plugin_folder(folder)
    log.info("node_cleaned", node=settings.node_name, removed=[*removed, str(folder)])


async def _plugins_gone(settings: PluginSettings, presence: Presence, turns: Turns, patience_seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + patience_seconds
    while True:
        async with turns.turn():
            if presence.bury_the_dead():
                return
        if asyncio.get_running_loop().time() > deadline:
            where = settings.plugin_folder
            raise NodeInUse(f"node {settings.node_name}: a node plugin runs on {where}: end it first")
        await asyncio.sleep(_PAUSE_SECONDS)


def _refuse_prepared(settings: PluginSettings) -> None:
    checkpoint = Checkpoint(settings.plugin_folder)
    try:
        checkpoint.load()
    except CheckpointUnreadable as error:
        raise NodeInUse(f"node {settings.node_name}: who holds shares cannot be told: {error}") from error
    if checkpoint.claims():
        names = ", ".join(sorted(str(claim.ref) for claim in checkpoint.claims()))
        raise NodeInUse(f"node {settings.node_name}: still prepared, delete their pods first: {names}")


def _remove_specs(settings: PluginSettings) -> list[str]:
    if not settings.cdi_folder.is_dir():
        return []
    cdi = CdiStore(settings.cdi_folder, driver=settings.driver_name)
    names = sorted(cdi.names())
    for name in names:
        cdi.remove(name)
    cdi.sweep_unfinished()
    return [str(cdi.path(name)) for name in names]


def _remove_plugin_folder(folder: Path) -> None:
    for entry in list(folder.iterdir()):
        remove_any(entry)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in _MOUNTED:
            raise


def _remove_state(state: Path) -> list[str]:
    there = [state / part for part in _OWN_PARTS if (state / part).is_dir()]
    for part in there:
        shutil.rmtree(part)
    with contextlib.suppress(OSError):
        # Not there, mounted here, or something of others in it: that is theirs.
        state.rmdir()
    return list(map(str, there))
