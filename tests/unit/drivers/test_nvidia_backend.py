"""Decisions of the NVIDIA backend that no simulated card can bring about: MIG mode, and a card that is pulled out.

The library's answers are scripted at the typed wrapper; everything else is the real backend.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from drivers.errors import DeviceNotFound, ShareRefused
from drivers.model import Share
from drivers.nvidia import open_backend
from drivers.nvidia.backend import NvidiaBackend
from drivers.nvidia.nvml import Ailment, Card, Nvml, SilentCard, Versions, spell_cuda_version
from drivers.nvidia.toolkit import Toolkit

FIRST = Card(
    index=0,
    uuid="GPU-11111111-0000-0000-0000-000000000000",
    model="Test",
    memory_bytes=16 * 1024**3,
    pci_bus_id="0000:10:00.0",
    architecture="Ampere",
    numa_node=None,
    mig_enabled=False,
)
SECOND = replace(FIRST, index=1, uuid="GPU-22222222-0000-0000-0000-000000000000", pci_bus_id="0000:11:00.0")


class ScriptedNvml(Nvml):
    """Answers with what the test put into `answers`."""

    def __init__(self, *answers: Card | SilentCard) -> None:
        super().__init__()
        self.answers: tuple[Card | SilentCard, ...] = answers

    def versions(self) -> Versions:
        return Versions(driver="580.65.06", cuda="13.0")

    def cards(self) -> tuple[Card | SilentCard, ...]:
        return self.answers

    def is_in_mig_mode(self, uuid: str) -> bool:
        return self.card(uuid).mig_enabled

    def card(self, uuid: str) -> Card:
        for answer in self.answers:
            if isinstance(answer, Card) and answer.uuid == uuid:
                return answer
        raise DeviceNotFound(f"card {uuid}: Not Found")


def backend_on(nvml: Nvml, folder: Path) -> NvidiaBackend:
    devices = [{"name": card.uuid} for card in (FIRST, SECOND)]
    (folder / "nvidia.json").write_text(json.dumps({"kind": "nvidia.com/gpu", "devices": devices}))
    return NvidiaBackend(nvml=nvml, toolkit=Toolkit([folder]), sysfs=folder, shares=4)


def test_card_in_mig_mode_is_left_out_and_the_log_says_so_once(tmp_path: Path) -> None:
    backend = backend_on(ScriptedNvml(replace(FIRST, mig_enabled=True), SECOND), tmp_path)
    with capture_logs() as logged:
        assert [device.uuid for device in backend.discover()] == [SECOND.uuid]
        backend.discover()
    assert [(entry["event"], entry["device_uuid"]) for entry in logged] == [("card_unusable", FIRST.uuid)]


def test_node_whose_cards_are_all_in_mig_mode_has_no_cards_to_share(tmp_path: Path) -> None:
    backend = backend_on(ScriptedNvml(replace(FIRST, mig_enabled=True)), tmp_path)
    assert backend.discover() == ()


def test_known_card_that_is_switched_to_mig_is_told_unhealthy_and_takes_no_share(tmp_path: Path) -> None:
    nvml = ScriptedNvml(FIRST, SECOND)
    backend = backend_on(nvml, tmp_path)
    before = backend.discover()
    nvml.answers = (replace(FIRST, mig_enabled=True), SECOND)
    told = backend.discover()
    assert "MIG" in told[0].unhealthy
    assert (replace(told[0], unhealthy="", unhealthy_code=""), told[1]) == before
    with pytest.raises(ShareRefused, match="MIG"):
        backend.prepare(Share(key="c-1", device=before[0], memory=1024**2, cores=0))
    nvml.answers = (FIRST, SECOND)
    assert backend.discover() == before


def test_card_that_was_pulled_out_is_told_unhealthy_and_keeps_its_name(tmp_path: Path) -> None:
    nvml = ScriptedNvml(FIRST, SECOND)
    backend = backend_on(nvml, tmp_path)
    before = backend.discover()
    nvml.answers = (SECOND,)
    told = backend.discover()
    assert told[0] == replace(before[0], unhealthy=f"card {FIRST.uuid}: Not Found", unhealthy_code="lost")
    assert told[1:] == before[1:]


def test_silent_card_that_never_told_its_uuid_is_logged_by_its_index(tmp_path: Path) -> None:
    backend = backend_on(ScriptedNvml(SilentCard(0, "GPU is lost"), SECOND), tmp_path)
    with capture_logs() as logged:
        assert [device.uuid for device in backend.discover()] == [SECOND.uuid]
    assert [(entry["device_uuid"], entry["reason"]) for entry in logged] == [("0", "GPU is lost")]


def test_card_that_the_driver_wants_reset_is_unhealthy_until_it_is(tmp_path: Path) -> None:
    nvml = ScriptedNvml(replace(FIRST, ailment=Ailment("needs-recovery", "reset the card")), SECOND)
    backend = backend_on(nvml, tmp_path)
    assert [(one.unhealthy_code, one.unhealthy) for one in backend.discover()] == [
        ("needs-recovery", "reset the card"),
        ("", ""),
    ]
    nvml.answers = (FIRST, SECOND)
    assert [one.unhealthy_code for one in backend.discover()] == ["", ""]


def test_machine_without_cards_is_told_as_empty(tmp_path: Path) -> None:
    assert backend_on(ScriptedNvml(), tmp_path).discover() == ()


def test_memory_is_published_in_whole_steps(tmp_path: Path) -> None:
    odd = replace(FIRST, memory_bytes=16 * 1024**3 + 1024**2 - 1)
    assert backend_on(ScriptedNvml(odd), tmp_path).discover()[0].memory.value == 16 * 1024**3


def test_number_of_tenants_is_the_setting(tmp_path: Path) -> None:
    assert backend_on(ScriptedNvml(FIRST), tmp_path).discover()[0].shares.value == 4
    with pytest.raises(ValueError, match="shares: 0"):
        open_backend(shares=0)


@pytest.mark.parametrize(("number", "spelled"), [(13000, "13.0"), (12040, "12.4"), (11080, "11.8")])
def test_version_of_cuda_is_spelled_as_people_do(number: int, spelled: str) -> None:
    assert spell_cuda_version(number) == spelled
