"""What a Service is elsewhere: one address that leads to whichever replica takes the connection.

The local cluster has no kube-proxy, so its Services have no address that the API server could call.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import socketserver
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

_CHUNK = 65536


class Balancer:
    """Passes TCP connections on, in turn, to the addresses that `backends` names at that moment."""

    def __init__(self, backends: Callable[[], Sequence[str]]) -> None:
        turn = itertools.count()

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                addresses = list(backends())
                start = next(turn)
                for index in range(len(addresses)):
                    if (other := _connected(addresses[(start + index) % len(addresses)])) is not None:
                        _pass_on(self.request, other)
                        return

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def address(self) -> str:
        """Where it listens: host:port."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _connected(address: str) -> socket.socket | None:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_connection((host, int(port)), timeout=5)
    except OSError:
        return None


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    with one, other, selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                try:
                    content = source.recv(_CHUNK)
                    if content:
                        key.data.sendall(content)
                        continue
                except OSError:
                    pass
                return
