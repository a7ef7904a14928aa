"""The plugin's two unix sockets below the kubelet's folder: served in order, and gone when the plugin is.

The DRA socket is up before the registration socket appears, since the kubelet dials at once; and the
registration socket goes first, so that the kubelet stops calling before nobody answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import grpc.aio

from dra_driver.errors import SettingsRejected
from dra_driver.settings import LONGEST_SOCKET_PATH

Registrar = Callable[[grpc.aio.Server], None]


class SocketServer:
    """One gRPC server on one unix socket."""

    def __init__(self, path: Path, *, register: Registrar) -> None:
        if len(str(path).encode()) > LONGEST_SOCKET_PATH:
            raise SettingsRejected(
                f"socket path {path} is longer than {LONGEST_SOCKET_PATH} bytes: choose a shorter folder"
            )
        self._path = path
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 << 20)])
        register(self._server)

    async def start(self) -> None:
        """Bind and serve; a file left by an earlier process is replaced. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix://{self._path}")
        except RuntimeError as error:
            raise OSError(f"socket {self._path} cannot be bound: {error}") from error
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Remove the socket, then let calls in flight finish."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        await self._server.stop(grace_seconds)
