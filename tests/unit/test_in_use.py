"""Whether the driver may be taken away."""

from __future__ import annotations

import asyncio

import pytest

from dra_driver import in_use
from dra_driver.errors import DriverInUse, SettingsRejected
from dra_driver.in_use import gather, refuse_use
from tests.support.api import MemoryApi
from tests.support.claims import DRIVER, allocated, foreign, share, unallocated


async def test_claims_that_hold_our_devices_are_named() -> None:
    api = MemoryApi()
    api.put_claim(allocated("train", share("slice", "gpu-0")))
    with pytest.raises(DriverInUse, match="team-a/train"):
        await refuse_use(api, DRIVER, patience_seconds=0)


async def test_claims_of_other_drivers_and_claims_that_wait_hold_nothing() -> None:
    api = MemoryApi()
    api.put_claim(allocated("network", foreign("nic")))
    api.put_claim(unallocated("later"))
    await refuse_use(api, DRIVER)


async def test_claims_of_pods_that_have_just_ended_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_use, "_PAUSE_SECONDS", 0.01)
    api = MemoryApi()
    wire = allocated("train", share("slice", "gpu-0"))
    api.put_claim(wire)
    asked = asyncio.create_task(refuse_use(api, DRIVER))
    await api.until(lambda: len(api.requests) >= 2)
    api.delete_claim(wire)
    await asyncio.wait_for(asked, 30)


async def test_more_claims_than_can_be_read_are_counted() -> None:
    api = MemoryApi()
    for number in range(25):
        api.put_claim(allocated(f"train-{number:02}", share("slice", "gpu-0")))
    with pytest.raises(DriverInUse, match="train-19 and 5 more"):
        await refuse_use(api, DRIVER, patience_seconds=0)


def test_a_driver_s_name_is_checked() -> None:
    with pytest.raises(SettingsRejected, match="driver_name"):
        gather({"driver_name": "No Name"}, {})
