"""Metadata files on the host: one per request, made and removed with the claim."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dra_driver.cdi.store import CdiStore
from dra_driver.kube.claims import parse_claim
from dra_driver.kubeletplugin.checkpoint import PreparedClaim, State
from dra_driver.kubeletplugin.effects import prepared_claim, prepared_share
from dra_driver.kubeletplugin.metadata_files import MetadataFiles
from dra_driver.kubeletplugin.plan import Card, Plan, make_plan
from tests.support.backend import card
from tests.support.claims import DRIVER, POOL, allocated, share

CARDS = {(POOL, f"gpu-{index}"): Card(POOL, card(index)) for index in range(2)}


@pytest.fixture(params=[False, True], ids=["made anew", "from spares"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> MetadataFiles:
    one = MetadataFiles(tmp_path, CdiStore(tmp_path / "cdi", driver=DRIVER), driver=DRIVER)
    one.open()
    if request.param:
        one.spares.fill()
    return one


def plan() -> Plan:
    wire = allocated(
        "train",
        share("many", "gpu-0"),
        share("many", "gpu-1", share_id="aaaa0002"),
        share("one/small", "gpu-0", memory="1Gi", cores="0", share_id="aaaa0003"),
        uid="u1",
    )
    return make_plan(parse_claim(wire), driver=DRIVER, cards=CARDS)


def made(files: MetadataFiles) -> PreparedClaim:
    one = plan()
    files.make(one.ref, one.shares, pod_claim_name="")
    shares = [prepared_share(share, (files.device_id(one.ref, share),)) for share in one.shares]
    return prepared_claim(one.ref, State.COMPLETED, "boot", shares)


def test_a_request_has_one_file_with_all_its_devices(files: MetadataFiles, tmp_path: Path) -> None:
    claim = made(files)
    assert [share.cdi_devices for share in claim.shares] == [
        (f"{DRIVER}/metadata=u1_many",),
        (f"{DRIVER}/metadata=u1_many",),
        (f"{DRIVER}/metadata=u1_one",),
    ]
    folder = tmp_path / "metadata"
    assert sorted(path.name for path in folder.iterdir()) == ["u1_many.json", "u1_one.json"]
    many, one = (json.loads((folder / f"u1_{name}.json").read_text().splitlines()[0]) for name in ("many", "one"))
    assert [device["name"] for device in many["requests"][0]["devices"]] == ["gpu-0", "gpu-1"]
    assert one["requests"][0]["name"] == "one/small"
    attributes = one["requests"][0]["devices"][0]["attributes"]
    assert attributes["uuid"] == {"string": card(0).uuid}
    assert (attributes["grantedMemory"], attributes["grantedCores"]) == ({"int": 1 << 30}, {"int": 0})
    assert len(attributes) <= 32


def test_only_the_mounts_open_the_files_to_others(files: MetadataFiles, tmp_path: Path) -> None:
    made(files)
    assert (tmp_path / "metadata").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "metadata/u1_one.json").stat().st_mode & 0o777 == 0o644


def test_what_was_made_stands_until_a_part_of_it_is_gone(files: MetadataFiles, tmp_path: Path) -> None:
    claim = made(files)
    assert files.stand(claim)
    (tmp_path / "metadata/u1_many.json").unlink()
    assert not files.stand(claim)
    made(files)
    assert files.stand(claim)
    (tmp_path / "cdi" / f"{DRIVER}-metadata-u1.json").unlink()
    assert not files.stand(claim)
    assert files.uids() == {"u1"}


def test_a_record_that_names_no_metadata_stands_without_any(files: MetadataFiles) -> None:
    one = plan()
    record = prepared_claim(one.ref, State.COMPLETED, "boot", [prepared_share(share) for share in one.shares])
    assert files.stand(record)


def test_removing_leaves_nothing_and_may_be_repeated(files: MetadataFiles, tmp_path: Path) -> None:
    claim = made(files)
    files.remove(claim)
    files.remove(claim)
    assert files.uids() == set()
    assert list((tmp_path / "cdi").iterdir()) == []


def test_a_record_that_does_not_know_its_requests_leaves_nothing_either(files: MetadataFiles, tmp_path: Path) -> None:
    claim = made(files)
    other = claim.model_copy(update={"uid": "u10"})
    (tmp_path / "metadata/u10_many.json").write_text("another claim's")
    files.remove(claim.model_copy(update={"shares": (claim.shares[0].model_copy(update={"request": "unknown"}),)}))
    assert files.uids() == {other.uid}


def test_a_file_that_is_there_is_replaced_whole(files: MetadataFiles, tmp_path: Path) -> None:
    made(files)
    path = tmp_path / "metadata/u1_many.json"
    content, inode = path.read_bytes(), path.stat().st_ino
    path.write_bytes(content[:7])
    made(files)
    assert path.read_bytes() == content
    assert path.stat().st_ino != inode
