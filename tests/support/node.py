"""One node's side of claims on real folders: everything that Preparation needs, and its whole state as a value.

A scenario test arranges a state, lets one event happen, and compares the whole state after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from dra_driver.cdi.render import ShimFiles
from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import ApiClaims, Claim, ClaimRef, parse_claim
from dra_driver.kubeletplugin.checkpoint import Checkpoint, PreparedClaim
from dra_driver.kubeletplugin.effects import Effects
from dra_driver.kubeletplugin.inventory import Inventory
from dra_driver.kubeletplugin.metadata_files import MetadataFiles
from dra_driver.kubeletplugin.plan import Plan, make_plan, share_key
from dra_driver.kubeletplugin.prepare import Preparation
from dra_driver.kubeletplugin.recover import open_checkpoint
from dra_driver.kubeletplugin.shares import ShareFolders
from dra_driver.kubeletplugin.turns import Turns
from drivers.shim_contract import read_limits
from tests.support.api import JsonObject, MemoryApi
from tests.support.backend import MemoryBackend
from tests.support.claims import DRIVER, NODE

_SHIM = ShimFiles("0123456789abcdef", "/var/lib/hami-dra/lib/0/libvgpu.so", "/var/lib/hami-dra/lib/0/ld.so.preload")

# Full after a few claims, so that what happens then happens in tests too.
_JOURNAL_SIZE = 8192


class Crash(BaseException):
    """The process dies here: nothing of it runs any more, not even its clean-up."""


@dataclass(frozen=True)
class NodeState:
    """All that preparing claims leaves on a node.

    `records`: state in the checkpoint by claim name. `specs`: CDI device names by claim UID. `shares`: bytes and
    percent in the limits file by share key. `backend`: the share keys that are prepared there.
    """

    records: Mapping[str, str] = field(default_factory=dict)
    specs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    shares: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    backend: frozenset[str] = frozenset()


EMPTY = NodeState()


def ref_of(wire: JsonObject) -> ClaimRef:
    """How the kubelet names a claim."""
    metadata = wire["metadata"]
    return ClaimRef(metadata["namespace"], metadata["name"], metadata["uid"])


def keys_of(wire: JsonObject) -> list[str]:
    """The keys of our shares of a claim, in the order of its results."""
    results = parse_claim(wire).results or ()
    return [share_key(wire["metadata"]["uid"], result) for result in results if result.driver == DRIVER]


def ready(*claims: JsonObject) -> NodeState:
    """The state of a node where exactly these claims of shares (none of whole cards) are prepared."""
    sizes = {
        share_key(wire["metadata"]["uid"], result): (result.consumed["memory"], result.consumed["cores"])
        for wire in claims
        for result in parse_claim(wire).results or ()
        if result.driver == DRIVER and result.consumed is not None
    }
    return NodeState(
        records={wire["metadata"]["name"]: "COMPLETED" for wire in claims},
        specs={wire["metadata"]["uid"]: frozenset(keys_of(wire)) for wire in claims},
        shares=sizes,
        backend=frozenset(sizes),
    )


class KnownClaims:
    """What a watch of the API would show as allocated here: what a test puts there."""

    def __init__(self) -> None:
        self.wires: list[JsonObject] = []
        self.new_enough = True

    def claims(self, *, besides: Set[str] = frozenset()) -> tuple[Claim, ...]:
        """See AllocatedClaims."""
        return tuple(parse_claim(wire) for wire in self.wires if wire["metadata"]["uid"] not in besides)

    def trusted(self) -> bool:
        """See AllocatedClaims."""
        return self.new_enough


class MemoryNode:
    """A node with its folders, on which the plugin can be started again and again."""

    def __init__(self, folder: Path, backend: MemoryBackend, *, journal_size: int = _JOURNAL_SIZE) -> None:
        self.backend = backend
        self._journal_size = journal_size
        self.api = MemoryApi(node=NODE)
        self.state_folder = folder / "state"
        self.cdi_folder = folder / "cdi"
        self.plugin_folder = folder / "plugin"
        self.plugin_folder.mkdir()
        self.allocated = KnownClaims()
        self.patience_seconds = 0.2
        self._turns: Turns | None = None
        self.start()

    def start(
        self,
        *,
        boot_id: str = "boot-1",
        patience_seconds: float | None = None,
        vendors: tuple[str, ...] = ("nvidia",),
    ) -> Preparation:
        """Begin a new life of the plugin on what the last one left on disk, as it is."""
        self._begin(boot_id, self.patience_seconds if patience_seconds is None else patience_seconds, vendors)
        self.checkpoint.load()
        return self.preparation

    async def restart(self, *, boot_id: str = "boot-1") -> Preparation:
        """Begin a new life as the plugin does: a checkpoint that is lost is rebuilt, what was half done is settled."""
        self._begin(boot_id, self.patience_seconds, ("nvidia",))
        await open_checkpoint(
            self.checkpoint, self.effects, ApiClaims(self.api), driver=DRIVER, make_plan=self.plan, boot_id=boot_id
        )
        self.checkpoint.begin()
        await self.preparation.settle()
        return self.preparation

    def plan(self, claim: Claim) -> Plan:
        """Plan on the cards of this node."""
        return make_plan(claim, driver=DRIVER, cards=self._inventory.cards())

    def _begin(self, boot_id: str, patience_seconds: float, vendors: tuple[str, ...]) -> None:
        self.close()
        # One spare each: what a claim of two shares needs beyond it is made in the ordinary way.
        folders = ShareFolders(self.state_folder, spares=1)
        folders.open()
        self.checkpoint = Checkpoint(self.plugin_folder, boot_id=boot_id, journal_size=self._journal_size)
        self._turns = Turns(self.plugin_folder, on_gained=self.checkpoint.refresh)
        backends = dict.fromkeys(vendors, self.backend)
        self._inventory = Inventory(driver=DRIVER, node=NODE, backends=backends)
        self._inventory.look()
        cdi = CdiStore(self.cdi_folder, driver=DRIVER)
        metadata = MetadataFiles(self.state_folder, cdi, driver=DRIVER, spares=1)
        metadata.open()
        self.effects = Effects(
            driver=DRIVER, backends=backends, folders=folders, metadata=metadata, cdi=cdi, shim=_SHIM
        )
        self.effects.make_spares()
        self.preparation = Preparation(
            patience_seconds=patience_seconds,
            claims=ApiClaims(self.api),
            allocated=self.allocated,
            plan=self.plan,
            checkpoint=self.checkpoint,
            effects=self.effects,
            turns=self._turns,
            boot_id=boot_id,
        )

    def close(self) -> None:
        """Let go of what the last life holds open."""
        if self._turns is not None:
            self._turns.close()
            self._turns = None

    def reboot(self) -> Preparation:
        """Lose what a reboot loses: the CDI folder (it is on a tmpfs) and the backend's memory."""
        for spec in self.cdi_folder.glob("*"):
            spec.unlink()
        self.backend.prepared.clear()
        return self.start(boot_id="boot-2")

    def given(self, *claims: JsonObject) -> None:
        """Let claims exist on the API server."""
        for wire in claims:
            self.api.put_claim(wire)

    def recorded(self, name: str) -> PreparedClaim:
        """A claim as it stands in the checkpoint."""
        checkpoint = Checkpoint(self.plugin_folder)
        checkpoint.load()
        (claim,) = (claim for claim in checkpoint.claims() if claim.name == name)
        return claim

    def usage(self, key: str) -> Path:
        """The accounting file of a share."""
        return self.state_folder / "shares" / key / "usage"

    def spec_path(self, uid: str) -> Path:
        """Where the CDI spec of a claim lies."""
        return self.cdi_folder / f"{DRIVER}-claim-{uid}.json"

    def state(self) -> NodeState:
        """Read the state from disk, as the next process would, and from the backend."""
        checkpoint = Checkpoint(self.plugin_folder)
        checkpoint.load()
        return NodeState(
            records={claim.name: claim.state.value for claim in checkpoint.claims()},
            specs=self._specs(),
            shares=self._shares(),
            backend=frozenset(self.backend.prepared),
        )

    def _specs(self) -> dict[str, frozenset[str]]:
        start = f"{DRIVER}-claim-"
        return {
            path.stem.removeprefix(start): frozenset(
                device["name"] for device in json.loads(path.read_text())["devices"]
            )
            for path in self.cdi_folder.glob(f"{start}*.json")
        }

    def _shares(self) -> dict[str, tuple[int, int]]:
        limits = {path.parent.name: read_limits(path) for path in self.state_folder.glob("shares/*/limits")}
        return {key: (one.memory_guaranteed_bytes, one.cores_guaranteed) for key, one in limits.items()}
