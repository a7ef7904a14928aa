"""A container on a simulated machine: its shares, and programs in it with or without the shim."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.shim.sharefiles import ShareFiles, make_share
from tests.simgpu import installation

BUILD = installation.NATIVE
SHIM = BUILD / "libvgpu.so"
PROBES = BUILD / "shim-probes"


@dataclass(frozen=True)
class Tenant:
    """A container's view of the machine: shares, and the shim in front of the vendor's libraries."""

    machine: installation.Installation
    shares: Path

    @property
    def uuids(self) -> list[str]:
        """The cards' UUIDs, by index on the machine."""
        return [card.uuid for card in self.machine.show().cards]

    def share(self, key: str, card: int = 0, **limits: int) -> ShareFiles:
        """A share of a card of this machine."""
        return make_share(self.shares, key, self.uuids[card], **limits)

    def preloaded(self, **extra: str) -> dict[str, str]:
        """Environment of a process with the shim."""
        return {
            "LD_PRELOAD": str(SHIM),
            "VGPU_SHARES_DIR": str(self.shares),
            "VGPU_LOG_FILE": str(self.shares.parent / "vgpu.log"),
            "VGPU_LOG_LEVEL": "info",
            **extra,
        }

    def probe(self, name: str, *words: str, native: bool = False, **extra: str) -> "subprocess.Popen[str]":
        """Starts a C probe, with the shim unless `native`."""
        environment = {} if native else self.preloaded(**extra)
        client = subprocess.Popen(
            [str(PROBES / name), *words],
            env=self.machine.environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.machine.clients.append(client)
        return client

    def log(self) -> str:
        """What the shim has said so far."""
        path = self.shares.parent / "vgpu.log"
        return path.read_text() if path.exists() else ""
