"""The DRA service that the kubelet calls: gRPC in, Preparation, gRPC out.

Errors are told claim by claim, so that a bad claim in a batch does not keep the others waiting. A call that the
kubelet gives up goes on to its end here: half a preparation is worse than one that nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
import structlog

from dra_driver.errors import HamiDraError
from dra_driver.kube.claims import ClaimRef
from dra_driver.kubeletplugin.checkpoint import PreparedShare
from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2, api_pb2_grpc
from dra_driver.kubeletplugin.plan import base_request
from drivers.errors import DriverError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")

_BETA_SERVICE = "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin"


class WireClaim(Protocol):
    """A claim of either protocol version."""

    namespace: str
    uid: str
    name: str


class Prepares(Protocol):
    """What the service needs of Preparation."""

    async def prepare(self, ref: ClaimRef) -> tuple[PreparedShare, ...]:
        """Make a claim ready."""
        ...

    async def unprepare(self, ref: ClaimRef) -> None:
        """Take it back."""
        ...


class Outcomes(Protocol):
    """Who wants to know what became of a claim. Called on the event loop; must neither block nor raise."""

    def prepared(self, ref: ClaimRef) -> None:
        """The claim is ready."""
        ...

    def failed(self, ref: ClaimRef, reason: str, message: str, /) -> None:
        """The claim could not be made ready; `reason` is one word in CamelCase."""
        ...

    def unprepared(self, ref: ClaimRef) -> None:
        """The claim was taken back."""
        ...


class Batches:
    """Calls for several claims, each with an outcome of its own."""

    def __init__(self, preparation: Prepares, outcomes: Sequence[Outcomes] = ()) -> None:
        self._preparation = preparation
        self._outcomes = outcomes
        self._running: set[asyncio.Task[Any]] = set()

    async def prepare(self, claims: Iterable[WireClaim]) -> dict[str, tuple[PreparedShare, ...] | str]:
        """Prepare side by side; by UID the shares, or the error in words."""
        refs = {claim.uid: ClaimRef(claim.namespace, claim.name, claim.uid) for claim in claims}
        outcomes = await self._finish([self._prepare_one(ref) for ref in refs.values()])
        return dict(zip(refs, outcomes, strict=True))

    async def unprepare(self, claims: Iterable[WireClaim]) -> dict[str, str]:
        """Unprepare side by side; by UID nothing, or the error in words."""
        refs = {claim.uid: ClaimRef(claim.namespace, claim.name, claim.uid) for claim in claims}
        outcomes = await self._finish([self._unprepare_one(ref) for ref in refs.values()])
        return dict(zip(refs, outcomes, strict=True))

    async def drain(self) -> None:
        """Wait until everything that was begun is done."""
        while self._running:
            await asyncio.wait(self._running)

    async def _finish(self, works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Do all of it side by side, to its end even where nobody waits for that any more."""
        tasks = [asyncio.create_task(work) for work in works]
        for task in tasks:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await asyncio.shield(asyncio.gather(*tasks))

    async def _prepare_one(self, ref: ClaimRef) -> tuple[PreparedShare, ...] | str:
        try:
            shares = await self._preparation.prepare(ref)
        except Exception as error:  # noqa: BLE001 - the edge: every error becomes this claim's, none the batch's
            message = _told("prepare", ref, error)
            for outcome in self._outcomes:
                outcome.failed(ref, reason_of(error), message)
            return message
        for outcome in self._outcomes:
            outcome.prepared(ref)
        return shares

    async def _unprepare_one(self, ref: ClaimRef) -> str:
        try:
            await self._preparation.unprepare(ref)
        except Exception as error:  # noqa: BLE001 - the edge: every error becomes this claim's, none the batch's
            return _told("unprepare", ref, error)
        for outcome in self._outcomes:
            outcome.unprepared(ref)
        return ""


def _told(call: str, ref: ClaimRef, error: Exception) -> str:
    """Log an error and put it in words for the kubelet, which shows them in an event of the pod."""
    if isinstance(error, HamiDraError | DriverError | OSError):
        log.warning("call_failed", call=call, claim=str(ref), uid=ref.uid, error=str(error), kind=type(error).__name__)
        return str(error)
    log.error("call_crashed", call=call, claim=str(ref), uid=ref.uid, exc_info=error)
    return f"{ref}: internal error: {type(error).__name__}: {error}"


def reason_of(error: Exception) -> str:
    """Name an error in one word, for a condition."""
    if isinstance(error, HamiDraError | DriverError):
        return type(error).__name__
    return "NodeError" if isinstance(error, OSError) else "InternalError"


class DraService(api_pb2_grpc.DRAPluginServicer):
    """k8s.io.kubelet.pkg.apis.dra.v1."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def NodePrepareResources(
        self,
        request: api_pb2.NodePrepareResourcesRequest,
        _context: grpc.aio.ServicerContext[Any, Any],
    ) -> api_pb2.NodePrepareResourcesResponse:
        """Prepare the claims of a pod."""
        response = api_pb2.NodePrepareResourcesResponse()
        for uid, outcome in (await self._batches.prepare(request.claims)).items():
            entry = response.claims[uid]
            if isinstance(outcome, str):
                entry.error = outcome
            else:
                entry.devices.extend(_device(share) for share in outcome)
        return response

    async def NodeUnprepareResources(
        self,
        request: api_pb2.NodeUnprepareResourcesRequest,
        _context: grpc.aio.ServicerContext[Any, Any],
    ) -> api_pb2.NodeUnprepareResourcesResponse:
        """Unprepare the claims of a pod that has ended."""
        response = api_pb2.NodeUnprepareResourcesResponse()
        for uid, error in (await self._batches.unprepare(request.claims)).items():
            response.claims[uid].error = error
        return response


def register(server: grpc.aio.Server, batches: Batches) -> None:
    """Serve both versions of the protocol.

    v1beta1 is v1 without Device.share_id; a kubelet that does not know the field passes over it, so one set of
    messages serves both.
    """
    service = DraService(batches)
    api_pb2_grpc.add_DRAPluginServicer_to_server(service, server)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "NodePrepareResources": grpc.unary_unary_rpc_method_handler(
            service.NodePrepareResources,
            request_deserializer=api_pb2.NodePrepareResourcesRequest.FromString,
            response_serializer=api_pb2.NodePrepareResourcesResponse.SerializeToString,
        ),
        "NodeUnprepareResources": grpc.unary_unary_rpc_method_handler(
            service.NodeUnprepareResources,
            request_deserializer=api_pb2.NodeUnprepareResourcesRequest.FromString,
            response_serializer=api_pb2.NodeUnprepareResourcesResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_BETA_SERVICE, handlers),))


def _device(share: PreparedShare) -> api_pb2.Device:
    return api_pb2.Device(
        request_names=[base_request(share.request)],
        pool_name=share.pool,
        device_name=share.device,
        cdi_device_ids=share.cdi_devices,
        share_id=share.share_id,
    )
