"""What preparing changes on the node, beyond what the scenarios show of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from dra_driver.cdi.render import ShimFiles
from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import ClaimRef, parse_claim
from dra_driver.kubeletplugin.checkpoint import PreparedClaim
from dra_driver.kubeletplugin.effects import Effects
from dra_driver.kubeletplugin.metadata_files import MetadataFiles
from dra_driver.kubeletplugin.plan import Card, Plan, make_plan
from dra_driver.kubeletplugin.shares import ShareFolders
from drivers.errors import DeviceNotFound
from drivers.model import Injection, Share
from tests.cluster import toolchain
from tests.cluster.progress import Progress
from tests.support.backend import MemoryBackend, card
from tests.support.claims import DRIVER, POOL, allocated, share

SHIM = ShimFiles("0123456789abcdef", "/host/lib/libvgpu.so", "/host/lib/ld.so.preload")
REF = ClaimRef("team-a", "pair", "u1")
SPEC = f"claim-{REF.uid}"


class HardwareBackend(MemoryBackend):
    """A vendor whose hardware holds the limits: no library, no share folder."""

    def prepare(self, share: Share) -> Injection:
        """See DeviceBackend."""
        super().prepare(share)
        return Injection(environment=(("SLICE", share.key),))


class Place:
    """The folders of a node with one backend."""

    def __init__(self, folder: Path, backend: MemoryBackend) -> None:
        self.folders = ShareFolders(folder / "state")
        self.folders.open()
        self.cdi = CdiStore(folder / "cdi", driver=DRIVER)
        self.metadata = MetadataFiles(folder / "state", self.cdi, driver=DRIVER)
        self.metadata.open()
        self.effects = self.effects_with({"nvidia": backend})

    def effects_with(self, backends: Mapping[str, MemoryBackend]) -> Effects:
        return Effects(
            driver=DRIVER, backends=backends, folders=self.folders, metadata=self.metadata, cdi=self.cdi, shim=SHIM
        )

    def do(self) -> PreparedClaim:
        return self.effects.do(planned(), boot_id="b", fresh=False, now_ns=1)


def planned() -> Plan:
    wire = allocated(
        "pair",
        share("a", "gpu-0", memory="4Gi", cores="30", share_id="s1"),
        share("b", "gpu-0", memory="8Gi", cores="0", share_id="s2"),
        uid=REF.uid,
    )
    return make_plan(parse_claim(wire), driver=DRIVER, cards={(POOL, "gpu-0"): Card(POOL, card(0))})


def test_each_share_says_its_limits_in_words_of_its_own(tmp_path: Path) -> None:
    place = Place(tmp_path, MemoryBackend(card(0)))
    claim = place.do()
    devices = json.loads(place.cdi.path(SPEC).read_text())["devices"]
    words = {device["name"]: device["containerEdits"]["env"] for device in devices}
    first, second = (share.key for share in claim.shares)
    start = f"uuid={card(0).uuid},"
    assert words == {
        first: [
            "NVIDIA_VISIBLE_DEVICES=void",
            f"VGPU_SHARE_{first.upper()}={start}memory=4294967296,cores=30,policy=fixed,priority=low",
        ],
        second: [
            "NVIDIA_VISIBLE_DEVICES=void",
            f"VGPU_SHARE_{second.upper()}={start}memory=8589934592,cores=0,policy=fixed,priority=low",
        ],
    }


def test_containerd_accepts_the_spec_of_a_claim(tmp_path: Path) -> None:
    place = Place(tmp_path, MemoryBackend(card(0)))
    place.do()
    program = toolchain.ensure(Progress()) / "cdicheck"
    outcome = subprocess.run([program, place.cdi.path(SPEC)], capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip().endswith("vgpu.hami.io/share, 2 devices")


@pytest.mark.parametrize("lost", ["limits", "usage", "spec"])
def test_a_claim_does_not_stand_without_any_of_its_files(tmp_path: Path, lost: str) -> None:
    place = Place(tmp_path, MemoryBackend(card(0)))
    claim = place.do()
    assert place.effects.stand(claim)
    path = place.cdi.path(SPEC) if lost == "spec" else place.folders.path(claim.shares[1].key) / lost
    path.unlink()
    assert not place.effects.stand(claim)


def test_a_share_that_hardware_limits_has_no_folder_and_stands_without_one(tmp_path: Path) -> None:
    place = Place(tmp_path, HardwareBackend(card(0)))
    claim = place.do()
    assert place.folders.keys() == set()
    assert place.effects.stand(claim)
    assert claim.shares[0].cdi_devices == (f"{DRIVER}/share={claim.shares[0].key}", f"{DRIVER}/metadata={REF.uid}_a")


def test_doing_and_undoing_may_be_repeated(tmp_path: Path) -> None:
    backend = MemoryBackend(card(0))
    place = Place(tmp_path, backend)
    claim = place.do()
    assert place.do() == claim
    for _ in range(2):
        place.effects.undo(claim)
    assert (place.folders.keys(), place.cdi.names(), backend.prepared) == (set(), set(), {})


def test_a_vendor_that_is_switched_off_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path, MemoryBackend(card(0)))
    without = place.effects_with({})
    with pytest.raises(DeviceNotFound, match="vendor nvidia is not switched on"):
        without.do(planned(), boot_id="b", fresh=False, now_ns=1)
