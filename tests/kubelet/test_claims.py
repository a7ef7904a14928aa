"""Prepare and Unprepare over the wire, as the kubelet calls them."""

from __future__ import annotations

import json

import pytest

from tests.kubelet.plugin import V1, V1BETA1, Plugin
from tests.support.api import CLAIMS
from tests.support.backend import Gate, card
from tests.support.claims import POOL, allocated, claim_uid, foreign, share, unallocated, whole_device

TRAIN = allocated("train", share("gpu", "gpu-0", share_id="s1"))
PAIR = allocated("pair", share("a", "gpu-0", share_id="s2"), share("b/small", "gpu-1", share_id="s3"))
WHOLE = allocated("whole", foreign("nic"), whole_device("gpu", "gpu-1"))


@pytest.mark.parametrize("service", [V1, V1BETA1])
async def test_a_claim_is_prepared_and_unprepared(plugin: Plugin, service: str) -> None:
    plugin.api.put_claim(TRAIN)
    async with plugin.running():
        answer = (await plugin.kubelet.prepare(TRAIN, service=service))["train"]
        assert answer.error == ""
        (device,) = answer.devices
        assert (list(device.request_names), device.pool_name, device.device_name) == (["gpu"], POOL, "gpu-0")
        assert device.cdi_device_ids[0] == f"nvidia.com/gpu={card(0).uuid}"
        assert [name.partition("=")[0] for name in device.cdi_device_ids] == [
            "nvidia.com/gpu",
            "vgpu.hami.io/shim",
            "vgpu.hami.io/share",
            "vgpu.hami.io/metadata",
        ]
        assert device.share_id == "s1"
        assert plugin.specs() == {f"vgpu.hami.io-claim-{claim_uid('train')}.json"}
        assert (await plugin.kubelet.unprepare(TRAIN, service=service))["train"].error == ""
        assert plugin.specs() == set()
        assert plugin.backend.prepared == {}


async def test_every_cdi_device_of_the_answer_is_defined_on_the_node(plugin: Plugin) -> None:
    plugin.api.put_claim(PAIR)
    async with plugin.running():
        devices = (await plugin.kubelet.prepare(PAIR))["pair"].devices
        specs = [json.loads(path.read_text()) for path in plugin.settings.cdi_folder.glob("*.json")]
        defined = {f"{spec['kind']}={device['name']}" for spec in specs for device in spec["devices"]}
        ours = {name for device in devices for name in device.cdi_device_ids if name.startswith("vgpu.hami.io/")}
        assert ours <= defined
        assert len(ours) == 5, "the shim; and for each share, its own device and the metadata of its request"


async def test_containers_get_the_devices_of_their_own_request(plugin: Plugin) -> None:
    plugin.api.put_claim(PAIR)
    async with plugin.running():
        first, second = (await plugin.kubelet.prepare(PAIR))["pair"].devices
        assert list(first.request_names) == ["a"]
        # The pod names the request; which alternative of it was chosen, only the scheduler knows.
        assert list(second.request_names) == ["b"]
        assert (first.share_id, second.share_id) == ("s2", "s3")
        assert first.cdi_device_ids[-1] != second.cdi_device_ids[-1]


async def test_a_whole_card_is_answered_without_share(plugin: Plugin) -> None:
    plugin.api.put_claim(WHOLE)
    async with plugin.running():
        (device,) = (await plugin.kubelet.prepare(WHOLE))["whole"].devices
        assert not device.HasField("share_id")
        assert device.device_name == "gpu-1"


async def test_every_claim_of_a_batch_has_an_answer_of_its_own(plugin: Plugin) -> None:
    waiting = unallocated("waiting")
    far = allocated("far", share("gpu", "gpu-9"))
    nics = allocated("nics", foreign("nic"))
    gone = allocated("gone", share("gpu", "gpu-0"))
    for claim in (TRAIN, PAIR, waiting, far, nics):
        plugin.api.put_claim(claim)
    async with plugin.running():
        answers = await plugin.kubelet.prepare(waiting, TRAIN, far, nics, gone, PAIR)
        assert {name: len(answer.devices) for name, answer in answers.items()} == {
            "waiting": 0,
            "train": 1,
            "far": 0,
            "nics": 0,
            "gone": 0,
            "pair": 2,
        }
        assert "not allocated" in answers["waiting"].error
        assert "gpu-9 is not on this node" in answers["far"].error
        assert "nic.example.com" in answers["nics"].error
        assert "does not exist" in answers["gone"].error
        assert answers["train"].error == answers["pair"].error == ""


async def test_a_malformed_uid_is_an_error_of_that_claim_alone(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    evil = allocated("evil", share("gpu", "gpu-0"), uid="../../../etc")
    plugin.api.put_claim(evil)
    async with plugin.running():
        answers = await plugin.kubelet.prepare(evil, TRAIN)
        assert "uid" in answers["evil"].error
        assert answers["train"].error == ""
        unprepared = await plugin.kubelet.unprepare(evil, TRAIN)
        assert "uid" in unprepared["evil"].error
        assert unprepared["train"].error == ""


async def test_unpreparing_unknown_claims_is_a_success(plugin: Plugin) -> None:
    async with plugin.running():
        answers = await plugin.kubelet.unprepare(TRAIN, PAIR)
        assert {name: answer.error for name, answer in answers.items()} == {"train": "", "pair": ""}


async def test_an_empty_request_has_an_empty_answer(plugin: Plugin) -> None:
    async with plugin.running():
        assert await plugin.kubelet.prepare() == {}
        assert await plugin.kubelet.unprepare() == {}


async def test_a_replaced_claim_is_told_from_its_successor(plugin: Plugin) -> None:
    plugin.api.put_claim(allocated("train", share("gpu", "gpu-0"), uid="another"))
    async with plugin.running():
        assert "replaced" in (await plugin.kubelet.prepare(TRAIN))["train"].error


async def test_a_plugin_that_starts_again_answers_as_the_one_before(plugin: Plugin) -> None:
    plugin.api.put_claim(PAIR)
    async with plugin.running():
        before = (await plugin.kubelet.prepare(PAIR))["pair"]
    async with plugin.running():
        assert (await plugin.kubelet.prepare(PAIR))["pair"] == before
        assert (await plugin.kubelet.unprepare(PAIR))["pair"].error == ""
        assert plugin.backend.prepared == {}


async def test_a_new_library_does_not_take_the_old_one_from_a_prepared_claim(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    async with plugin.running():
        old = (await plugin.kubelet.prepare(TRAIN))["train"].devices[0].cdi_device_ids[1]
    plugin.settings.shim_library.write_bytes(b"\x7fELF a newer library")
    async with plugin.running():
        shims = sorted(plugin.settings.cdi_folder.glob("*-shim-*.json"))
        assert len(shims) == 2
        assert f"vgpu.hami.io-shim-{old.partition('=')[2]}.json" in {path.name for path in shims}
        await plugin.kubelet.unprepare(TRAIN)
    async with plugin.running():
        (shim,) = plugin.settings.cdi_folder.glob("*-shim-*.json")
        assert old.partition("=")[2] not in shim.name


async def test_a_call_whose_caller_goes_away_is_finished(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    gate = Gate()
    plugin.backend.on_prepare = gate.hold
    async with plugin.running():
        await plugin.abandon_prepare(TRAIN, gate)
        gate.open()
        plugin.backend.on_prepare = lambda _share: None
        assert (await plugin.kubelet.prepare(TRAIN))["train"].error == ""
        assert len(plugin.backend.prepare_calls) == 1


async def test_a_claim_that_the_watch_has_brought_is_prepared_without_a_request(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    async with plugin.running():
        await plugin.api.until(lambda: CLAIMS in plugin.api.watched)
        assert (await plugin.kubelet.prepare(TRAIN))["train"].error == ""
        await plugin.api.until(lambda: bool(plugin.api.device_status(TRAIN)))
    path = f"/apis/resource.k8s.io/v1/namespaces/team-a/resourceclaims/{TRAIN['metadata']['name']}"
    assert ("GET", path) not in plugin.api.requests


async def test_the_outcome_of_a_call_is_told_in_the_claims_status(plugin: Plugin) -> None:
    wrong = allocated("wrong", share("gpu", "gpu-9", share_id="w1"))
    plugin.api.put_claim(TRAIN)
    plugin.api.put_claim(wrong)
    async with plugin.running():
        answers = await plugin.kubelet.prepare(TRAIN, wrong)
        await plugin.api.until(lambda: bool(plugin.api.device_status(TRAIN)))
        await plugin.api.until(lambda: bool(plugin.api.device_status(wrong)))
        (good,), (bad,) = plugin.api.device_status(TRAIN), plugin.api.device_status(wrong)
        assert (good["conditions"][0]["status"], good["data"]["uuid"]) == ("True", card(0).uuid)
        assert (bad["conditions"][0]["status"], bad["conditions"][0]["reason"]) == ("False", "ObjectRejected")
        assert bad["conditions"][0]["message"] == answers["wrong"].error
        await plugin.kubelet.unprepare(TRAIN)
        await plugin.api.until(lambda: not plugin.api.device_status(TRAIN))
