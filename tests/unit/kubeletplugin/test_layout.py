"""How a card becomes devices, and when a card may be laid out anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dra_driver.configuration import Cards
from dra_driver.errors import ObjectRejected, OverCommitted, SettingsRejected
from dra_driver.kube.claims import parse_claim
from dra_driver.kube.nodes import Node
from dra_driver.kubeletplugin.inventory import Inventory
from dra_driver.kubeletplugin.layout import LayoutImpossible, publish, wanted_layout
from dra_driver.kubeletplugin.layouts import FILE_NAME, Layouts
from dra_driver.kubeletplugin.ledger import Promise, check_fits
from dra_driver.kubeletplugin.plan import Plan, make_plan
from dra_driver.kubeletplugin.publish import changes
from drivers.model import Device, Mode
from tests.support.backend import GIB, MIB, MemoryBackend, card
from tests.support.claims import DRIVER, NODE, POOL, allocated, share, whole_device
from tests.support.slice_rules import violations


def config(**fields: object) -> Cards:
    return Cards.model_validate(fields)


SLOTS = config(mode="slots", slots={"number": 4})
EXCLUDED = config(mode="excluded")


def devices(cards: Cards, one: Device | None = None) -> list[tuple[str, int, int]]:
    found = one or card(0)
    return [
        (p.device.name, p.device.memory.value, p.device.cores.value)
        for p in publish(found, wanted_layout(found, cards, node=NODE))
    ]


# What becomes of a card.


def test_without_a_word_a_card_is_published_as_its_backend_tells_it() -> None:
    (one,) = publish(card(0), wanted_layout(card(0), Cards(), node=NODE))
    assert one.device == one.card == card(0)


def test_a_shared_card_takes_as_many_tenants_as_configured() -> None:
    (one,) = publish(card(0), wanted_layout(card(0), config(shares=3), node=NODE))
    assert one.device.shares.value == 3


def test_a_card_in_slots_is_cut_into_equal_parts() -> None:
    assert devices(SLOTS) == [(f"gpu-0-slot-{slot}", 4 * GIB, 25) for slot in range(4)]


def test_slots_of_a_size_are_as_many_as_fit() -> None:
    assert devices(config(mode="slots", slots={"memory": "5Gi"})) == [
        (f"gpu-0-slot-{slot}", 5 * GIB, 33) for slot in range(3)
    ]


def test_slots_are_whole_steps_of_the_cards_memory() -> None:
    (_, memory, _), *_ = devices(config(mode="slots", slots={"number": 3}))
    assert memory == 16 * GIB // 3 // MIB * MIB


def test_a_whole_card_is_one_exclusive_device() -> None:
    (one,) = publish(card(0), wanted_layout(card(0), config(mode="whole"), node=NODE))
    assert (one.device.name, one.device.mode, one.device.memory.value) == ("gpu-0", Mode.SLOT, 16 * GIB)


def test_an_excluded_card_is_not_published() -> None:
    assert devices(EXCLUDED) == []


@pytest.mark.parametrize("slots", [{"memory": "17Gi"}, {"number": 2, "memory": "9Gi"}, {"memory": "1Ki"}])
def test_a_cut_that_the_card_has_no_room_for_is_impossible(slots: dict[str, object]) -> None:
    with pytest.raises(LayoutImpossible):
        wanted_layout(card(0), config(mode="slots", slots=slots), node=NODE)


@pytest.mark.parametrize("cards", [SLOTS, config(mode="whole"), config(shares=3), EXCLUDED])
def test_every_layout_is_published_by_the_rules_of_the_api_server(cards: Cards) -> None:
    inventory = node(cards)
    (pool,) = inventory.pools()
    slices = changes(pool, Node(NODE, "uid"), [], now="2026-01-01T00:00:00Z").creations
    assert [violations(wire) for wire in slices] == [[]] * len(slices)
    for wire in slices:
        for device in wire["spec"]["devices"]:
            assert ("allowMultipleAllocations" in device) == (device["attributes"]["mode"]["string"] == "shared")


# What an allocation of it grants.


def node(cards: Cards, *, held: Sequence[str] = ()) -> Inventory:
    backend = MemoryBackend(card(0))
    layouts = Layouts(cards, node=NODE, held=lambda: frozenset(held))
    inventory = Inventory(driver=DRIVER, node=NODE, backends={"nvidia": backend}, layouts=layouts)
    inventory.look()
    return inventory


def planned(inventory: Inventory, *results: dict[str, object], name: str = "train") -> Plan:
    return make_plan(parse_claim(allocated(name, *results)), driver=DRIVER, cards=inventory.cards())


def promises(plan: Plan) -> list[Promise]:
    return [Promise(plan.ref, p.share.device.uuid, p.share.memory, p.share.cores, p.whole, p.slot) for p in plan.shares]


def test_an_allocated_slot_grants_the_slots_size_on_the_card_itself() -> None:
    (one,) = planned(node(SLOTS), whole_device("gpu", "gpu-0-slot-2")).shares
    assert (one.share.memory, one.share.cores, one.whole) == (4 * GIB, 25, False)
    assert (one.share.device.name, one.share.device.memory.value) == ("gpu-0", 16 * GIB)


def test_an_allocated_whole_card_grants_all_of_it() -> None:
    (one,) = planned(node(config(mode="whole")), whole_device("gpu", "gpu-0")).shares
    assert (one.share.memory, one.share.cores, one.whole) == (16 * GIB, 100, True)


def test_a_device_that_the_layout_does_not_have_is_refused_by_its_name() -> None:
    with pytest.raises(ObjectRejected, match="gpu-0-slot-4 is not on this node"):
        planned(node(SLOTS), whole_device("gpu", "gpu-0-slot-4"))


def test_slots_of_one_card_are_prepared_side_by_side() -> None:
    inventory = node(SLOTS)
    first = planned(inventory, *(whole_device(f"r{slot}", f"gpu-0-slot-{slot}") for slot in range(3)), name="first")
    second = planned(inventory, whole_device("gpu", "gpu-0-slot-3"), name="second")
    check_fits(second.ref, second.shares, promises(first))


def test_a_slot_that_is_held_is_refused_to_everybody_else() -> None:
    inventory = node(SLOTS)
    first = planned(inventory, whole_device("gpu", "gpu-0-slot-0"), name="first")
    second = planned(inventory, whole_device("gpu", "gpu-0-slot-0"), name="second")
    with pytest.raises(OverCommitted, match="team-a/first"):
        check_fits(second.ref, second.shares, promises(first))


def test_a_card_that_carries_shares_gives_no_slots() -> None:
    first = planned(node(Cards()), share("gpu", "gpu-0"), name="first")
    second = planned(node(SLOTS), whole_device("gpu", "gpu-0-slot-0"), name="second")
    with pytest.raises(OverCommitted, match="in slots and in shares"):
        check_fits(second.ref, second.shares, promises(first))


# Changes while the plugin runs.


class Layer:
    """A card, its layouts, and who holds it."""

    def __init__(self, cards: Cards, folder: Path | None = None) -> None:
        self.held: set[str] | None = set()
        self.leads = True
        self.layouts = Layouts(cards, node=NODE, held=lambda: self.held, leads=lambda: self.leads, folder=folder)
        self.layouts.load()

    def now(self) -> tuple[list[str], bool]:
        """The devices, and whether they are to be drained."""
        (one,) = self.layouts.settle([card(0)])
        return [p.device.name for p in publish(one.device, one.layout)], one.draining


WHOLE_SLOTS = [f"gpu-0-slot-{slot}" for slot in range(4)]


def test_a_free_card_is_laid_out_anew_at_once() -> None:
    layer = Layer(Cards())
    assert layer.now() == (["gpu-0"], False)
    layer.layouts.configure(SLOTS, [card(0)])
    assert layer.now() == (WHOLE_SLOTS, False)


def test_a_free_card_that_is_published_is_drained_for_a_moment_before_it_is_laid_out_anew() -> None:
    now, held = 100.0, set[str]()
    layouts = Layouts(node=NODE, held=lambda: held, drain_seconds=2, clock=lambda: now)
    assert not layouts.settle([card(0)])[0].draining, "what was not published yet needs no draining"
    layouts.configure(SLOTS, [card(0)])
    assert layouts.settle([card(0)])[0].draining
    now += 1
    held = {card(0).uuid}
    now += 1
    assert layouts.settle([card(0)])[0].draining, "it was given away just before"
    held = set()
    (one,) = layouts.settle([card(0)])
    assert (one.draining, len(publish(one.device, one.layout))) == (False, 4)


@pytest.mark.parametrize("wanted", [SLOTS, EXCLUDED, config(mode="whole")])
def test_a_card_in_use_keeps_its_devices_and_is_drained_until_it_is_free(wanted: Cards) -> None:
    layer = Layer(Cards())
    layer.now()
    layer.held = {card(0).uuid}
    layer.layouts.configure(wanted, [card(0)])
    with capture_logs() as logs:
        assert layer.now() == (["gpu-0"], True)
        assert layer.now() == (["gpu-0"], True)
    assert [entry["event"] for entry in logs] == ["card_layout_waits"], "said once"
    layer.held = set()
    assert layer.now() == (devices_of(wanted), False)


def devices_of(cards: Cards) -> list[str]:
    return [name for name, _, _ in devices(cards)]


def test_a_change_that_is_taken_back_ends_the_draining() -> None:
    layer = Layer(Cards())
    layer.now()
    layer.held = {card(0).uuid}
    layer.layouts.configure(EXCLUDED, [card(0)])
    assert layer.now() == (["gpu-0"], True)
    layer.layouts.configure(Cards(), [card(0)])
    assert layer.now() == (["gpu-0"], False)


def test_another_number_of_tenants_needs_no_draining() -> None:
    layer = Layer(Cards())
    layer.now()
    layer.held = {card(0).uuid}
    layer.layouts.configure(config(shares=3), [card(0)])
    assert layer.now() == (["gpu-0"], False)


def test_a_configuration_that_does_not_suit_a_card_is_refused_and_the_one_before_stays() -> None:
    layer = Layer(SLOTS)
    with pytest.raises(SettingsRejected, match="gpu-0"):
        layer.layouts.configure(config(mode="slots", slots={"number": 2, "memory": "9Gi"}), [card(0)])
    assert layer.now() == (WHOLE_SLOTS, False)


def test_a_card_that_the_configuration_does_not_suit_at_start_is_shared_and_the_log_says_so_once() -> None:
    layer = Layer(config(mode="slots", slots={"memory": "17Gi"}))
    with capture_logs() as logs:
        assert layer.now() == layer.now() == (["gpu-0"], False)
    assert [entry["event"] for entry in logs] == ["card_layout_impossible"]


def test_a_restart_with_another_configuration_keeps_the_devices_of_a_card_in_use(tmp_path: Path) -> None:
    Layer(SLOTS, tmp_path).now()
    again = Layer(Cards(), tmp_path)
    again.held = None
    assert again.now() == (WHOLE_SLOTS, False), "before it is known who holds what"
    again.held = {card(0).uuid}
    assert again.now() == (WHOLE_SLOTS, True)
    again.held = set()
    assert again.now() == (["gpu-0"], False)


def test_a_card_in_use_of_which_no_layout_is_known_is_taken_for_shared(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("not what was written")
    layer = Layer(SLOTS, tmp_path)
    layer.held = {card(0).uuid}
    assert layer.now() == (["gpu-0"], True)


def test_layouts_that_cannot_be_written_still_hold(tmp_path: Path) -> None:
    layer = Layer(SLOTS, tmp_path / "gone")
    with capture_logs() as logs:
        assert layer.now() == (WHOLE_SLOTS, False)
    assert [entry["event"] for entry in logs] == ["joint_file_not_locked", "joint_file_not_written"]


def test_devices_of_a_card_that_is_drained_are_tainted() -> None:
    inventory = node(Cards(), held=[card(0).uuid])
    inventory.configure(EXCLUDED)
    (pool,) = inventory.pools()
    (wire,) = changes(pool, Node(NODE, "uid"), [], now="2026-01-01T00:00:00Z").creations
    (device,) = wire["spec"]["devices"]
    assert [(taint["key"], taint["effect"]) for taint in device["taints"]] == [("vgpu.hami.io/draining", "NoSchedule")]
    assert pool.name == POOL


def test_of_two_plugins_the_one_that_leads_decides_and_the_other_takes_over_what_it_has_decided(tmp_path: Path) -> None:
    old, new = Layer(Cards(), tmp_path), Layer(SLOTS, tmp_path)
    assert old.now() == (["gpu-0"], False)
    old.leads = False
    assert new.now() == (WHOLE_SLOTS, False)
    assert old.now() == (WHOLE_SLOTS, False)
    new.leads, old.leads = False, True
    assert old.now() == (["gpu-0"], False)
    assert new.now() == (["gpu-0"], False)
