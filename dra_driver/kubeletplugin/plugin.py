"""The plugin's life: what starts in which order, and what ends in which.

Nothing is published before the library is in place and the checkpoint read; the kubelet hears of us only when
calls can be answered. On the way out the registration goes first, and calls in flight are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import structlog

from dra_driver.conditions import Conditions
from dra_driver.kube.claim_cache import ClaimCache
from dra_driver.kube.claims import ApiClaims, ClaimRef
from dra_driver.kube.connection import Connection
from dra_driver.kube.nodes import read_node
from dra_driver.kube.slices import ApiSlices
from dra_driver.kubeletplugin.afterwards import Afterwards
from dra_driver.kubeletplugin.checkpoint import Checkpoint, State
from dra_driver.kubeletplugin.health_stream import HealthStream
from dra_driver.kubeletplugin.health_stream import register as register_health
from dra_driver.kubeletplugin.metrics import Metrics
from dra_driver.kubeletplugin.node_cards import NodeCards
from dra_driver.kubeletplugin.overgrowth import Overgrowth
from dra_driver.kubeletplugin.pb.grpc_health.v1 import health_pb2_grpc
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2_grpc as registration_grpc
from dra_driver.kubeletplugin.planner import Planner
from dra_driver.kubeletplugin.prepare import Preparation
from dra_driver.kubeletplugin.publish import pool_name
from dra_driver.kubeletplugin.publisher import Publisher
from dra_driver.kubeletplugin.readiness import HealthPort, HealthService
from dra_driver.kubeletplugin.registration import Registration
from dra_driver.kubeletplugin.service import Batches, register
from dra_driver.kubeletplugin.shares import ShareFolders
from dra_driver.kubeletplugin.sockets import SocketServer
from dra_driver.kubeletplugin.state import NodeState, opened_state
from dra_driver.kubeletplugin.status_writer import StatusWriter
from dra_driver.loops import until_stopped
from dra_driver.settings import PluginSettings
from drivers.backend import DeviceBackend

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The kubelet gives a call 45 s; what is longer than this in flight at the end would be given up by it anyway.
_GRACE_SECONDS = 40.0
_NOTICED_SECONDS = 3.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def run(
    settings: PluginSettings, connection: Connection, backends: Mapping[str, DeviceBackend], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set. Raises HamiDraError or OSError when it cannot start."""
    boot_id = await asyncio.to_thread(_boot_id)
    metrics = Metrics(driver=settings.driver_name)
    cards = NodeCards(settings, backends, metrics=metrics, boot_id=boot_id)
    await asyncio.to_thread(cards.start)
    api = ApiClaims(connection)
    planner = Planner(driver=settings.driver_name, cards=cards.inventory.cards)
    async with opened_state(settings, backends, api, make_plan=planner.plan, boot_id=boot_id) as state:
        node = _Node(cards, planner, state, metrics, boot_id)
        await _run(settings, connection, node, stop, api=api, vendors=backends)


@dataclass(frozen=True)
class _Node:
    """What is known of this node: its cards, and what is prepared on them."""

    cards: NodeCards
    planner: Planner
    state: NodeState
    metrics: Metrics
    boot_id: str


async def _run(
    settings: PluginSettings,
    connection: Connection,
    node: _Node,
    stop: asyncio.Event,
    *,
    api: ApiClaims,
    vendors: Iterable[str],
) -> None:
    """Serve with all that is kept on the node at hand."""
    state, checkpoint, planner = node.state, node.state.checkpoint, node.planner
    cache = _claim_cache(settings, api, vendors, node.metrics)
    statuses = StatusWriter(
        driver=settings.driver_name, cache=cache, api=api, plan=planner.plan, recorded=checkpoint.get
    )
    cache.on_allocated_anew = statuses.allocated_anew
    cache.on_seen = lambda claim: planner.foresee(claim) if checkpoint.get(claim.ref.uid) is None else None
    state.presence.lead()
    await asyncio.to_thread(node.cards.holders, checkpoint.claims, cache.claims, leads=state.presence.leads)
    publisher = _publisher(settings, connection, node)
    _show(settings, node)
    afterwards = Afterwards({"checkpoint_not_synced": checkpoint.keep_up, "spares_not_made": state.effects.make_spares})
    afterwards.note()
    preparation = Preparation(
        claims=cache,
        allocated=cache,
        plan=planner.plan,
        checkpoint=checkpoint,
        effects=state.effects,
        turns=state.turns,
        boot_id=node.boot_id,
        on_recorded=afterwards.note,
    )
    await preparation.settle()
    batches = Batches(node.metrics.measured(preparation), (cache, statuses))
    alone = state.presence.alone
    async with _serving(settings, batches, publisher, node.cards.health, node.metrics, alone=alone):
        await until_stopped(
            stop,
            publisher.run(),
            afterwards.run(),
            *node.cards.loops([publisher.refresh]),
            cache.run(),
            Overgrowth(ShareFolders(settings.state_folder)).run(),
            statuses.run(lambda: _completed(checkpoint)),
        )


def _publisher(settings: PluginSettings, connection: Connection, node: _Node) -> Publisher:
    return Publisher(
        slices=ApiSlices(connection, driver=settings.driver_name, node=settings.node_name),
        node=functools.partial(read_node, connection, settings.node_name),
        pools=node.cards.inventory.pools,
        leads=node.state.presence.leads,
        progress=node.metrics,
    )


def _show(settings: PluginSettings, node: _Node) -> None:
    node.metrics.show(
        node=settings.node_name,
        pools=node.cards.inventory.pools,
        cards=node.cards.inventory.devices,
        claims=node.state.checkpoint.claims,
        shares=ShareFolders(settings.state_folder).path,
    )


def _completed(checkpoint: Checkpoint) -> list[ClaimRef]:
    return [claim.ref for claim in checkpoint.claims() if claim.state is State.COMPLETED]


def _claim_cache(settings: PluginSettings, api: ApiClaims, vendors: Iterable[str], metrics: Metrics) -> ClaimCache:
    pools = frozenset(pool_name(settings.node_name, vendor) for vendor in vendors)
    return ClaimCache(
        api,
        ours=lambda result: result.driver == settings.driver_name and result.pool in pools,
        on_miss=metrics.claim_read,
    )


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


@asynccontextmanager
async def _serving(
    settings: PluginSettings,
    batches: Batches,
    publisher: Publisher,
    stream: HealthStream,
    metrics: Metrics,
    *,
    alone: Callable[[], bool],
) -> AsyncIterator[None]:
    endpoint = settings.dra_socket
    registration = Registration(driver=settings.driver_name, endpoint=endpoint, on_registered=publisher.relist)
    readiness = Conditions({"published": publisher.published.is_set, "registered": registration.registered.is_set})
    probes = HealthService(readiness)

    def register_dra(server: grpc.aio.Server) -> None:
        register(server, batches)
        register_health(server, stream)
        health_pb2_grpc.add_HealthServicer_to_server(probes, server)

    def register_registrar(server: grpc.aio.Server) -> None:
        registration_grpc.add_RegistrationServicer_to_server(registration, server)
        health_pb2_grpc.add_HealthServicer_to_server(probes, server)

    dra = SocketServer(endpoint, register=register_dra)
    registrar = SocketServer(settings.registration_socket, register=register_registrar)
    async with contextlib.AsyncExitStack() as stack:
        if settings.http_address:
            # Loaded only where it is wanted: it costs 2 MiB.
            from dra_driver.probes import HttpServer

            http = HttpServer(settings.http_address, readiness=readiness, metrics=metrics.text)
            stack.push_async_callback(http.stop)
            log.info("http_serving", address=await http.start())
        if settings.grpc_health_address:
            port = HealthPort(settings.grpc_health_address, probes)
            stack.push_async_callback(port.stop)
            log.info("grpc_health_serving", address=await port.start())
        stack.push_async_callback(batches.drain)
        await dra.start()
        stack.push_async_callback(dra.stop, _GRACE_SECONDS)
        stack.push_async_callback(_stay_for_the_kubelet, alone)
        await registrar.start()
        stack.push_async_callback(registrar.stop, _GRACE_SECONDS)
        stack.push_async_callback(_finish_first, alone, batches)
        # Streams have no end of their own, and would be waited for.
        stack.callback(stream.close)
        stack.callback(probes.close)
        log.info("serving", endpoint=str(endpoint), registration=str(settings.registration_socket))
        yield
        log.info("stopping")


async def _finish_first(alone: Callable[[], bool], batches: Batches) -> None:
    """Finish the calls in flight while still registered, where a successor gets the new ones.

    The kubelet closes the connection to a plugin whose registration goes, and with it fails what is in flight there.
    """
    if not alone():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(batches.drain(), _GRACE_SECONDS / 2)


async def _stay_for_the_kubelet(alone: Callable[[], bool]) -> None:
    """Go on answering, after the registration is gone, until the kubelet has noticed that and calls the successor.

    It looks at its plugins once a second, and a call on a connection that is being closed fails.
    """
    if not alone():
        await asyncio.sleep(_NOTICED_SECONDS)
