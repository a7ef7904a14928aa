"""The real node plugin as a process, on simulated cards and an API server of our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2_grpc
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2 as registration_pb2
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2_grpc as registration_grpc
from tests.stack.cards import SimulatedCards
from tests.stack.places import SHIM

NODE = "node-a"
DRIVER = "vgpu.hami.io"


@dataclass(frozen=True)
class Running:
    """A plugin that serves.

    `ready_seconds`: from its start to its first answer on the registration socket. `cards`: where the simulated cards
    keep what on a real node is in the cards.
    """

    pid: int
    cards: Path
    ready_seconds: float
    dra: api_pb2_grpc.DRAPluginStub
    registration: registration_grpc.RegistrationStub

    @property
    def resident_mib(self) -> float:
        """Resident memory of the process, less what it sees of the simulated cards' memory."""
        kib, counted = 0, False
        for line in Path(f"/proc/{self.pid}/smaps").read_text().splitlines():
            name, *values = line.split()
            if not name.endswith(":"):
                counted = str(self.cards) not in line
            elif name == "Rss:" and counted:
                kib += int(values[0])
        return kib / 1024


@contextmanager
def running_plugin(folder: Path, cards: SimulatedCards, kubeconfig: Path, shares_per_card: int) -> Iterator[Running]:
    """Start it, and end it afterwards."""
    settings = {
        "node-name": NODE,
        "kubeconfig": kubeconfig,
        "kubelet-root": folder / "kubelet",
        "state-folder": folder / "state",
        "cdi-folder": folder / "cdi",
        "vendor-cdi-folders": folder / "cdi",
        "shim-library": SHIM,
        "shares-per-card": shares_per_card,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    with (folder / "plugin.log").open("wb") as log:
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "dra_driver", "kubeletplugin", *flags],
            env={**os.environ, **cards.environment},
            stdout=log,
            stderr=log,
        )
    plugins = folder / "kubelet/plugins" / DRIVER / "dra.sock"
    registry = folder / "kubelet/plugins_registry" / f"{DRIVER}-reg.sock"
    try:
        with (
            grpc.insecure_channel(f"unix://{registry}") as other,
            grpc.insecure_channel(f"unix://{plugins}") as channel,
        ):
            registration = registration_grpc.RegistrationStub(other)
            _wait_for_answer(registry, registration, process, folder / "plugin.log")
            ready = time.monotonic() - start
            yield Running(
                process.pid,
                Path(cards.environment["SIMGPU_STATE"]),
                ready,
                api_pb2_grpc.DRAPluginStub(channel),
                registration,
            )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait_for_answer(
    socket: Path, registration: registration_grpc.RegistrationStub, process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + 60
    while True:
        # A channel that has tried too early waits for seconds before it tries again.
        if not socket.is_socket() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
            continue
        try:
            registration.GetInfo(registration_pb2.InfoRequest(), timeout=1)
            return
        except grpc.RpcError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the plugin does not answer:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.01)
