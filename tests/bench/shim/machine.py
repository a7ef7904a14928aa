"""The machine that is measured on: simulated cards, the bench's two C programs, and shares of any limit.

The programs are built for every run, with the compiler that the libraries are built with, so that no figure
comes from yesterday's program.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers import shim_abi as abi
from tests.shim.sharefiles import ShareFiles, make_share
from tests.shim.tenants import PROBES, SHIM
from tests.simgpu import installation

GIB = 1 << 30
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
IMAGE = installation.KERNELS / "spin_ns.ptx"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-fno-sanitize=undefined", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Machine:
    """Simulated cards, and the folders for shares and programs."""

    cards: installation.Installation
    folder: Path

    @property
    def uuids(self) -> list[str]:
        """The cards' UUIDs, by index."""
        return [card.uuid for card in self.cards.show().cards]

    def program(self, name: str) -> str:
        """The path of one of the bench's programs."""
        return str(self.folder / name)

    def share(self, view: str, *, card: int = 0, cores: int = 0, policy: int = abi.COMPUTE_FIXED) -> ShareFiles:
        """A share of 8 GiB in a container's view of its own; `cores` percent."""
        return make_share(self.folder / view, "share", self.uuids[card], memory=8 * GIB, cores=cores, policy=policy)

    def environment(self, share: ShareFiles | None, **extra: str) -> dict[str, str]:
        """A process's environment; without a share the shim is not in it either."""
        if share is None:
            return self.cards.environment(**extra)
        return self.cards.environment(LD_PRELOAD=str(SHIM), VGPU_SHARES_DIR=str(share.folder.parent), **extra)


def _compile(name: str, folder: Path) -> None:
    compiler = shlex.split(os.environ.get("CC", f"{sys.executable} -m ziglang cc"))
    headers = REPOSITORY / "native" / "vgpu-shim" / "tests"
    command = [*compiler, *FLAGS, "-target", "x86_64-linux-gnu.2.17", f"-I{headers}", str(HERE / f"{name}.c")]
    subprocess.run([*command, "-o", str(folder / name), "-ldl"], check=True)


@contextmanager
def machine(folder: Path, cards: int, *, event_percent: int = 100) -> Iterator[Machine]:
    """A machine of `cards` cards of 16 GiB under `folder`; its clients are ended with it.

    `event_percent`: what events tell of the time between them.
    """
    if not SHIM.exists() or not (PROBES / "racer").exists():
        raise SystemExit(f"{SHIM} or its probes are not built: make native")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("calls", "load"):
        _compile(name, folder)
    description = folder / "cards.json"
    description.write_text(json.dumps({"count": cards, "event_percent": event_percent}))
    made = installation.make(folder / "machine", description)
    try:
        yield Machine(made, folder)
    finally:
        made.end_clients()
