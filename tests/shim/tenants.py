"""A container on a machine: its shares, and programs in it with or without the shim."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shim.sharefiles import ShareFiles, make_share
from tests.simgpu import installation

BUILD = installation.NATIVE
SHIM = BUILD / "libvgpu.so"
PROBES = BUILD / "shim-probes"


@dataclass(frozen=True)
class Container:
    """A container's view of the machine, of whatever kind: shares, and the shim in front of the vendor's libraries."""

    machine: installation.Machine
    shares: Path

    @property
    def uuids(self) -> list[str]:
        """The cards' UUIDs, by index on the machine."""
        return self.machine.uuids

    @property
    def card_bytes(self) -> int:
        """The first card's memory as the bare driver tells it."""
        return self.machine.memory_of(0)

    def need_cards(self, number: int) -> None:
        """Skips the test where the machine has fewer cards."""
        if len(self.uuids) < number:
            pytest.skip(f"needs {number} cards, this machine has {len(self.uuids)}")

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
        return self.machine.spawn([str(PROBES / name), *words], **({} if native else self.preloaded(**extra)))

    def log(self) -> str:
        """What the shim has said so far."""
        path = self.shares.parent / "vgpu.log"
        return path.read_text() if path.exists() else ""


@dataclass(frozen=True)
class Tenant(Container):
    """A container on a simulated machine, whose cards tell all that happened on them."""

    machine: installation.Installation
