"""Whatever comes over the wire or from the API server is answered with an error, and never stops the plugin."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import grpc.aio
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2
from dra_driver.kubeletplugin.service import Batches
from tests.kubelet.plugin import V1, V1BETA1, Plugin, short_folder
from tests.scenario.cutting import fresh_node
from tests.support.backend import card
from tests.support.claims import JsonObject, allocated, foreign, opaque, share, vgpu_config, whole_device
from tests.support.node import EMPTY, MemoryNode, ready, ref_of

GOOD = allocated("good", share("gpu", "gpu-1", share_id="g1"))
SUBJECT = allocated(
    "subject",
    share("a", "gpu-0", memory="4Gi", cores="30", share_id="p1"),
    share("b/first", "gpu-0", memory="8Gi", cores="60", share_id="p2"),
    whole_device("c", "gpu-2"),
    foreign("nic"),
    config=[opaque(vgpu_config(computePolicy="burst"), "a"), opaque(vgpu_config(), source="FromClass")],
)

words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", ".", "..", "../../etc/passwd", "a/b", "gpu-0", "vgpu.hami.io", "1e9999", "-1"]),
    st.integers(0, 4).map(lambda power: "x" * 10**power),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
# More for those who have the time: it is a minute for each ten thousand.
TRIES = int(os.environ.get("HAMI_DRA_TEST_TRIES", "300"))
MANY = settings(
    max_examples=TRIES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """So many refusals say much."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in an object, its own first."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*path, key))


PLACES = [path for path in places(SUBJECT) if path]


def changed(path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> JsonObject:
    wire = copy.deepcopy(SUBJECT)
    parent: Any = wire
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return wire


@st.composite
def distorted(draw: st.DrawFn) -> JsonObject:
    """The subject with one place gone, replaced, or with something new beside it."""
    path = draw(st.sampled_from(PLACES))
    value = draw(values)
    name = draw(words)

    def remove(parent: Any, key: Any) -> None:
        del parent[key]

    def replace(parent: Any, key: Any) -> None:
        parent[key] = value

    def add(parent: Any, _key: Any) -> None:
        parent.append(value) if isinstance(parent, list) else parent.update({name: value})

    return changed(path, draw(st.sampled_from([remove, replace, add])))


def asked(wire: JsonObject) -> api_pb2.Claim:
    ref = ref_of(wire)
    return api_pb2.Claim(namespace=ref.namespace, name=ref.name, uid=ref.uid)


def serve(node: MemoryNode, wire: JsonObject) -> None:
    """Let the API server answer with this object, whatever it is."""
    request = node.api.request

    async def answered(method: str, path: str, **named: Any) -> JsonObject:
        return copy.deepcopy(wire) if path.endswith("/subject") else await request(method, path, **named)

    node.api.request = answered  # type: ignore[method-assign]


@MANY
@given(wire=distorted())
def test_a_distorted_claim_is_an_error_of_that_claim_and_leaves_nothing(
    runner: asyncio.Runner, wire: JsonObject
) -> None:
    async def call() -> None:
        with fresh_node() as node:
            node.backend.devices = (card(0), card(1), card(2))
            node.start()
            node.given(GOOD)
            serve(node, wire)
            batches = Batches(node.preparation)
            answers = await batches.prepare([asked(GOOD), asked(SUBJECT)])
            answer = answers[ref_of(SUBJECT).uid]
            if isinstance(answer, str):
                assert answer
                assert "internal error" not in answer, answer
                assert node.state() == ready(GOOD)
            assert not isinstance(answers[ref_of(GOOD).uid], str)
            await batches.unprepare([asked(GOOD), asked(SUBJECT)])
            assert node.state() == EMPTY

    runner.run(call())


@MANY
@given(refs=st.lists(st.tuples(words, words, words), max_size=4))
def test_names_that_cannot_be_are_refused_for_their_claims_alone(
    runner: asyncio.Runner, refs: list[tuple[str, str, str]]
) -> None:
    claims = [api_pb2.Claim(namespace=namespace, name=name, uid=uid) for namespace, name, uid in refs]

    async def call() -> None:
        with fresh_node() as node:
            node.given(GOOD)
            batches = Batches(node.preparation)
            for calls in (batches.prepare, batches.unprepare):
                answers: dict[str, Any] = await calls([*claims, asked(GOOD)])
                assert set(answers) == {claim.uid for claim in claims} | {ref_of(GOOD).uid}
                told = [answers[claim.uid] for claim in claims if claim.uid != ref_of(GOOD).uid]
                assert not any("internal error" in str(answer) for answer in told)
            assert node.state() == EMPTY

    runner.run(call())


@settings(parent=MANY, max_examples=TRIES // 3)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([V1, V1BETA1]),
            st.sampled_from(["NodePrepareResources", "NodeUnprepareResources", "NoSuchCall"]),
            st.binary(max_size=200),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_bytes_that_are_no_request_are_refused_and_the_next_call_is_answered(
    served: tuple[asyncio.Runner, Plugin], requests: list[tuple[str, str, bytes]]
) -> None:
    runner, plugin = served

    async def call() -> None:
        async with grpc.aio.insecure_channel(f"unix://{plugin.dra_socket}") as channel:
            for service, method, content in requests:
                name = f"/{service}/{method}"
                bare: Any = channel.unary_unary(name, request_serializer=None, response_deserializer=None)
                try:
                    await bare(content, timeout=30)
                except grpc.aio.AioRpcError as error:
                    refused = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED)
                    if error.code() not in refused:
                        raise
        assert (await plugin.kubelet.prepare(GOOD))["good"].error == ""
        assert (await plugin.kubelet.unprepare(GOOD))["good"].error == ""

    runner.run(call())


@pytest.fixture(scope="module")
def served(runner: asyncio.Runner) -> Iterator[tuple[asyncio.Runner, Plugin]]:
    """A plugin that serves between the calls of one runner."""
    with short_folder() as folder:
        plugin = Plugin(folder)
        plugin.api.put_claim(GOOD)
        running = plugin.running()
        runner.run(running.__aenter__())
        yield runner, plugin
        runner.run(running.__aexit__(None, None, None))
