"""Makes a Service's address reachable on a local cluster, which has no kube-proxy.

The address is put on the cluster's bridge, and what connects there is passed on to the Service's ready endpoints in
turn, as kube-proxy would pass it; so the API server calls webhooks by their Service, as in any cluster.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.cluster.cluster import Cluster
from tests.cluster.commands import run
from tests.cluster.errors import CommandFailed

Endpoint = tuple[str, int]
_CONNECT_SECONDS = 1.0
_LOOK_SECONDS = 1.0


@contextmanager
def reachable(cluster: Cluster, namespace: str, name: str, bridge: str) -> Iterator[None]:
    """Within it, the Service's first port answers on its address."""
    spec = cluster.get("service", name, "--namespace", namespace)["spec"]
    address, port = spec["clusterIP"], spec["ports"][0]["port"]
    run(("ip", "address", "add", f"{address}/32", "dev", bridge))
    try:
        with socket.create_server((address, port)) as listener:
            passing = _Passing(listener, lambda: ready_endpoints(cluster, namespace, name))
            passing.start()
            try:
                yield
            finally:
                passing.stop()
    finally:
        run(("ip", "address", "delete", f"{address}/32", "dev", bridge))


def ready_endpoints(cluster: Cluster, namespace: str, name: str) -> list[Endpoint]:
    """What serves at the moment."""
    selector = f"kubernetes.io/service-name={name}"
    slices = cluster.get("endpointslices", "--namespace", namespace, "--selector", selector)["items"]
    return [
        (address, part["ports"][0]["port"])
        for part in slices
        for endpoint in part.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    ]


class _Passing:
    """Accepts connections and passes them on, each in a thread of its own."""

    def __init__(self, listener: socket.socket, endpoints: Callable[[], Sequence[Endpoint]]) -> None:
        self._listener = listener
        self._endpoints = endpoints
        self._known: Sequence[Endpoint] = endpoints()
        self._turn = itertools.count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._accept, self._look)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _look(self) -> None:
        """Keep up with the endpoints beside the connections, none of which may wait for that."""
        while not self._over.wait(_LOOK_SECONDS):
            with contextlib.suppress(CommandFailed):
                self._known = self._endpoints()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            server = self._connect()
            if server is not None:
                with server:
                    _copy(client, server)

    def _connect(self) -> socket.socket | None:
        found = list(self._known)
        first = next(self._turn)
        for offset in range(len(found)):
            with contextlib.suppress(OSError):
                return socket.create_connection(found[(first + offset) % len(found)], timeout=_CONNECT_SECONDS)
        return None


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until either side ends."""
    other.settimeout(None)
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select():
                assert isinstance(key.fileobj, socket.socket)
                content = key.fileobj.recv(65536)
                if not content:
                    return
                key.data.sendall(content)
