"""The node's cards: simulated ones, and what they really carry as their own books tell."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import debian
from tests.cluster.commands import run
from tests.stack.places import ROOT, SIMULATED_LIBRARIES

_SIMGPU = ROOT / "native/simgpu"
NVIDIA_RUNTIME = "nvidia"
"""The handler of the simulated NVIDIA Container Runtime, and so the name of a RuntimeClass for it."""
GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class OnCard:
    """A process on a card: bytes that it holds, nanoseconds that it kept the card busy."""

    bytes: int
    peak_bytes: int
    busy_ns: int


@dataclass(frozen=True)
class CardState:
    """One card as it really is, in bytes."""

    uuid: str
    total: int
    used: int
    processes: tuple[OnCard, ...]


class SimulatedCards:
    """An installation of simulated cards: libraries, device nodes, and the CDI spec of the vendor's toolkit."""

    @staticmethod
    def runtime(cdi_folder: Path) -> list[str]:
        """The command line of the vendor's container runtime; the arguments of an OCI runtime follow."""
        program, specification = _SIMGPU / "container_runtime.py", cdi_folder / "nvidia.json"
        runc = debian.program("runc")
        return [sys.executable, "-IS", *map(str, (program, "--specification", specification, "--runtime", runc)), "--"]

    def __init__(self, root: Path, cdi_folder: Path) -> None:
        self._root = root
        self._cdi_folder = cdi_folder

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process of the host needs to see the cards."""
        return {
            "LD_LIBRARY_PATH": str(self._root / "lib"),
            "SIMGPU_STATE": str(self._root / "state"),
            "SIMGPU_DEV": str(self._root / "dev"),
        }

    def install(self, description: Path | None = None) -> None:
        """Put them in place; `description` is a file of cards, by default two of 16 GiB."""
        self._run("install.py", *self._places, "--lib-dir", str(SIMULATED_LIBRARIES), *_named("--cards", description))

    def remove(self) -> None:
        """Take them away."""
        self._run("install.py", *self._places, "--remove")

    def state(self) -> tuple[CardState, ...]:
        """Ask the cards' own books."""
        report = json.loads(self.control("show"))
        return tuple(_card(card) for card in report["cards"])

    def control(self, *arguments: str) -> str:
        """Break or mend a card; see native/simgpu/README.md."""
        return self._run("simgpuctl.py", "--state", str(self._root / "state"), *arguments)

    @property
    def _places(self) -> tuple[str, ...]:
        return "--root", str(self._root), "--cdi-dir", str(self._cdi_folder)

    def _run(self, program: str, *arguments: str) -> str:
        return run((sys.executable, str(_SIMGPU / program), *arguments))


def _named(flag: str, path: Path | None) -> tuple[str, ...]:
    return (flag, str(path)) if path else ()


def _card(wire: Mapping[str, Any]) -> CardState:
    processes = tuple(OnCard(one["bytes"], one["peak_bytes"], one["busy_ns"]) for one in wire["processes"])
    return CardState(wire["uuid"], wire["total"], wire["used"], processes)
