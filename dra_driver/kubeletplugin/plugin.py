"""The plugin's life: what starts in which order, and what ends in which.

Nothing is published before the library is in place and the checkpoint read; the kubelet hears of us only when
calls can be answered. On the way out the registration goes first, and calls in flight are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import ApiClaims
from dra_driver.kube.connection import Connection
from dra_driver.kube.nodes import read_node
from dra_driver.kube.slices import ApiSlices
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.effects import Effects
from dra_driver.kubeletplugin.inventory import Inventory
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2_grpc as registration_grpc
from dra_driver.kubeletplugin.prepare import Preparation
from dra_driver.kubeletplugin.publisher import Publisher
from dra_driver.kubeletplugin.registration import Registration
from dra_driver.kubeletplugin.service import Batches, register
from dra_driver.kubeletplugin.shares import ShareFolders
from dra_driver.kubeletplugin.shim import install_shim, remove_unused_shims
from dra_driver.kubeletplugin.sockets import SocketServer
from dra_driver.settings import PluginSettings
from drivers.backend import DeviceBackend

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The kubelet gives a call 45 s; what is longer than this in flight at the end would be given up by it anyway.
_GRACE_SECONDS = 40.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def run(
    settings: PluginSettings, connection: Connection, backends: Mapping[str, DeviceBackend], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set. Raises HamiDraError or OSError when it cannot start."""
    checkpoint = _open_checkpoint(settings)
    effects = _install(settings, backends, checkpoint)
    inventory = Inventory(driver=settings.driver_name, node=settings.node_name, backends=backends)
    await asyncio.to_thread(inventory.look)
    preparation = Preparation(
        driver=settings.driver_name,
        claims=ApiClaims(connection),
        cards=inventory.cards,
        checkpoint=checkpoint,
        effects=effects,
        boot_id=await asyncio.to_thread(_boot_id),
    )
    publisher = Publisher(
        slices=ApiSlices(connection, driver=settings.driver_name, node=settings.node_name),
        node=functools.partial(read_node, connection, settings.node_name),
        pools=inventory.pools,
    )
    async with _serving(settings, Batches(preparation), publisher):
        await _until_stopped(stop, publisher.run(), _scan(settings, inventory, publisher))


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _open_checkpoint(settings: PluginSettings) -> Checkpoint:
    settings.plugin_folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    checkpoint = Checkpoint(settings.plugin_folder)
    checkpoint.load()
    log.info("checkpoint_read", claims=len(checkpoint.claims()), folder=str(settings.plugin_folder))
    return checkpoint


def _install(settings: PluginSettings, backends: Mapping[str, DeviceBackend], checkpoint: Checkpoint) -> Effects:
    """Put the library and the folders in place."""
    cdi = CdiStore(settings.cdi_folder, driver=settings.driver_name)
    shim = install_shim(settings.shim_library, settings.state_folder, cdi, driver=settings.driver_name)
    log.info("shim_installed", version=shim.version, path=shim.library)
    prefix = f"{settings.driver_name}/shim="
    named = {
        device.removeprefix(prefix)
        for claim in checkpoint.claims()
        for share in claim.shares
        for device in share.cdi_devices
        if device.startswith(prefix)
    }
    remove_unused_shims(settings.state_folder, cdi, used=named | {shim.version})
    folders = ShareFolders(settings.state_folder)
    folders.open()
    return Effects(driver=settings.driver_name, backends=backends, folders=folders, cdi=cdi, shim=shim)


@asynccontextmanager
async def _serving(settings: PluginSettings, batches: Batches, publisher: Publisher) -> AsyncIterator[None]:
    endpoint = settings.plugin_folder / "dra.sock"
    registration = Registration(driver=settings.driver_name, endpoint=endpoint, on_registered=publisher.relist)
    dra = SocketServer(endpoint, register=lambda server: register(server, batches))
    registrar = SocketServer(
        settings.registration_socket,
        register=lambda server: registration_grpc.add_RegistrationServicer_to_server(registration, server),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(batches.drain)
        for server in (dra, registrar):
            await server.start()
            stack.push_async_callback(server.stop, _GRACE_SECONDS)
        log.info("serving", endpoint=str(endpoint), registration=str(settings.registration_socket))
        yield
        log.info("stopping")


async def _scan(settings: PluginSettings, inventory: Inventory, publisher: Publisher) -> None:
    """Look at the cards again and again."""
    while True:
        await asyncio.sleep(settings.scan_seconds)
        if await asyncio.to_thread(inventory.look):
            publisher.refresh()


async def _until_stopped(stop: asyncio.Event, *loops: Coroutine[Any, Any, None]) -> None:
    """Run the loops until `stop` is set; a loop that ends by itself is an error that ends the plugin."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)
