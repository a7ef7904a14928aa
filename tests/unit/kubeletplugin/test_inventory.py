"""What is remembered of the cards between two looks at them."""

from __future__ import annotations

from structlog.testing import capture_logs

from dra_driver.kubeletplugin.inventory import Inventory
from drivers.errors import BackendUnavailable
from tests.support.backend import MemoryBackend, card
from tests.support.claims import DRIVER, NODE, POOL


def inventory(backend: MemoryBackend) -> Inventory:
    return Inventory(driver=DRIVER, node=NODE, backends={"nvidia": backend})


def test_nothing_is_known_before_the_first_look() -> None:
    one = inventory(MemoryBackend(card(0)))
    assert one.cards() == {}
    assert [(pool.name, pool.devices) for pool in one.pools()] == [(POOL, ())]


def test_a_look_tells_whether_anything_has_changed() -> None:
    backend = MemoryBackend(card(0))
    one = inventory(backend)
    assert one.look() is True
    assert one.look() is False
    backend.devices = (card(0, unhealthy="lost"),)
    assert one.look() is True


def test_cards_are_found_as_allocations_name_them() -> None:
    one = inventory(MemoryBackend(card(0), card(1)))
    one.look()
    assert set(one.cards()) == {(POOL, "gpu-0"), (POOL, "gpu-1")}
    assert one.cards()[(POOL, "gpu-1")].device == card(1)


def test_the_order_of_the_backend_is_the_order_of_the_pool() -> None:
    one = inventory(MemoryBackend(card(1), card(0)))
    one.look()
    assert [device.name for device in one.pools()[0].devices] == ["gpu-1", "gpu-0"]


def test_cards_of_a_vendor_that_does_not_answer_stay_and_are_unhealthy() -> None:
    backend = MemoryBackend(card(0))
    one = inventory(backend)
    one.look()
    backend.unavailable = BackendUnavailable("no answer")
    with capture_logs() as logs:
        assert one.look() is True
        assert one.look() is False
    assert [device.unhealthy for device in one.pools()[0].devices] == ["no answer"]
    assert [entry["event"] for entry in logs] == ["backend_unavailable"], "a state is logged when it changes, once"
    backend.unavailable = None
    with capture_logs() as logs:
        assert one.look() is True
    assert one.pools()[0].devices == (card(0),)
    assert [entry["event"] for entry in logs] == ["backend_recovered"]
