"""The controller's life: what its parts are, what starts in which order, and what ends in which.

A replica watches first and competes for the Lease once it knows everything, so that whoever takes over knows what it
does. On the way out the Lease goes first: another replica acts while this one still takes leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from dra_driver.conditions import Conditions
from dra_driver.controller.admission.admission import Admission
from dra_driver.controller.admission.features import Feature
from dra_driver.controller.capacity import ClusterCapacity
from dra_driver.controller.counting import CountedConnection
from dra_driver.controller.fencing import FencedConnection
from dra_driver.controller.garbage import UnusedAllocations
from dra_driver.controller.lease import Leadership
from dra_driver.controller.metrics import Metrics
from dra_driver.controller.migrating.review import PodMigration
from dra_driver.controller.migrating.templates import MigratedPods
from dra_driver.controller.observing import Observer
from dra_driver.controller.operator import adopt_logs
from dra_driver.controller.replica import Replica
from dra_driver.controller.settings import ControllerSettings
from dra_driver.controller.waiting.claims import WaitingClaims
from dra_driver.kube.connection import Connection, ServerConnection
from dra_driver.kube.credentials import Credentials
from dra_driver.kube.events import ApiEvents
from dra_driver.kube.leases import ApiLease
from dra_driver.kube.templates import ApiTemplates
from dra_driver.loops import until_stopped
from dra_driver.migration.conventions import DEFAULT
from dra_driver.migration.device_config import read_device_config
from dra_driver.probes import HttpServer

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LEASE = "hami-dra-controller"


async def run(settings: ControllerSettings, credentials: Credentials, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises HamiDraError or OSError when it cannot start."""
    adopt_logs()
    metrics = Metrics()
    async with ServerConnection(credentials) as server:
        connection = CountedConnection(server, metrics)
        leadership = Leadership(
            ApiLease(connection, namespace=settings.namespace, name=LEASE),
            # The pod's name alone would be the same after a crash, and the dead holder's Lease taken for one's own.
            identity=f"{settings.pod_name}_{uuid.uuid4().hex[:8]}",
            seconds=settings.lease_seconds,
            on_change=metrics.led,
        )
        fenced = FencedConnection(connection, leadership)
        migration = make_migration(settings, connection)
        admission = make_admission(settings, connection, fenced, metrics, migration)
        observers = [*make_observers(settings, fenced, metrics), *migration, *admission]
        replica = Replica(connection, credentials, leadership, observers, metrics)
        conditions = {
            "synced": replica.synced,
            "serving_admission": lambda: all(one.serving.is_set() for one in admission),
        }
        async with _probed(settings, replica, conditions, metrics):
            await until_stopped(stop, replica.work(), *(one.run() for one in admission))
            log.info("stopped")


def make_observers(settings: ControllerSettings, connection: Connection, metrics: Metrics) -> Sequence[Observer]:
    """Make the parts of the controller. What they write goes through `connection`, which only the leader may do."""
    events = ApiEvents(connection, controller=f"{settings.driver_name}/controller", instance=settings.pod_name)
    return (
        ClusterCapacity(metrics.registry, driver=settings.driver_name, leads=metrics.leads),
        UnusedAllocations(
            connection,
            events,
            metrics.registry,
            driver=settings.driver_name,
            grace_seconds=settings.garbage_grace_seconds,
        ),
        WaitingClaims(connection, events, metrics.registry, driver=settings.driver_name),
        *(
            (
                MigratedPods(
                    ApiTemplates(connection),
                    events,
                    metrics.registry,
                    driver=settings.driver_name,
                    grace_seconds=settings.garbage_grace_seconds,
                ),
            )
            if settings.migration
            else ()
        ),
    )


def make_migration(settings: ControllerSettings, connection: Connection) -> Sequence[PodMigration]:
    """Make the part that maps pods in admission; none where there is none. Raises SettingsRejected."""
    if not settings.migration or not settings.admission_address:
        return ()
    file = settings.migration_device_config
    conventions = read_device_config(Path(file)) if file else DEFAULT
    restricted = frozenset(map(Feature, settings.restricted))
    return (PodMigration(connection, driver=settings.driver_name, conventions=conventions, restricted=restricted),)


def make_admission(
    settings: ControllerSettings,
    connection: Connection,
    fenced: Connection,
    metrics: Metrics,
    migration: Sequence[PodMigration],
) -> Sequence[Admission]:
    """Make the part that answers the API server, on both replicas; none where the settings want none."""
    if not settings.admission_address:
        return ()
    return (Admission(settings, connection, fenced, metrics.registry, mutation=next(iter(migration), None)),)


@asynccontextmanager
async def _probed(
    settings: ControllerSettings, replica: Replica, conditions: Mapping[str, Callable[[], bool]], metrics: Metrics
) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        if settings.http_address:
            http = HttpServer(
                settings.http_address,
                readiness=Conditions(conditions),
                liveness=Conditions({"watching": replica.watching}),
                metrics=lambda: [metrics.text()],
            )
            stack.push_async_callback(http.stop)
            log.info("http_serving", address=await http.start())
        yield
