"""The configuration file, followed while it changes in all the ways in which files do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dra_driver.configuration import CardMode, Cards
from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin.reloading import ConfigurationWatch


def text(mode: str, settings: str = "{}") -> str:
    return f"apiVersion: vgpu.hami.io/v1alpha1\nkind: NodeConfig\nsettings: {settings}\ncards: {{mode: {mode}}}\n"


class Following:
    """A watch, and what it has brought about."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modes: list[CardMode] = []
        self.outcomes: asyncio.Queue[bool] = asyncio.Queue()
        self.refuse = False
        self.watch = ConfigurationWatch(
            path, configure=self._configure, outcome=self.outcomes.put_nowait, poll_seconds=0.02
        )

    def _configure(self, cards: Cards) -> None:
        if self.refuse:
            raise SettingsRejected("a card does not suit")
        self.modes.append(cards.mode)

    async def outcome(self) -> bool:
        async with asyncio.timeout(20):
            return await self.outcomes.get()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def following(tmp_path: Path) -> Following:
    path = tmp_path / "node.yaml"
    path.write_text(text("shared"))
    return Following(path)


async def test_a_file_written_in_place_is_read_again(following: Following) -> None:
    async with following.running():
        following.path.write_text(text("excluded"))
        assert await following.outcome()
    assert following.modes == [CardMode.EXCLUDED]


async def test_a_file_put_in_its_place_is_read_again(following: Following) -> None:
    async with following.running():
        other = following.path.with_name("other")
        other.write_text(text("whole"))
        other.replace(following.path)
        assert await following.outcome()
    assert following.modes == [CardMode.WHOLE]


async def test_a_mounted_config_map_whose_links_are_swapped_is_read_again(tmp_path: Path) -> None:
    for name, mode in (("one", "shared"), ("two", "whole")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "node.yaml").write_text(text(mode))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "node.yaml").symlink_to("..data/node.yaml")
    following = Following(tmp_path / "node.yaml")
    async with following.running():
        (tmp_path / "..data_tmp").symlink_to("two")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        assert await following.outcome()
    assert following.modes == [CardMode.WHOLE]


@pytest.mark.parametrize("wrong", ["cards: [", text("halved")])
async def test_a_wrong_file_changes_nothing_and_a_right_one_after_it_does(following: Following, wrong: str) -> None:
    with capture_logs() as logs:
        async with following.running():
            following.path.write_text(wrong)
            assert not await following.outcome()
            following.path.write_text(text("whole"))
            assert await following.outcome()
    assert following.modes == [CardMode.WHOLE]
    assert [entry["event"] for entry in logs] == ["configuration_refused", "configuration_taken"]


async def test_a_change_that_a_card_does_not_suit_is_refused(following: Following) -> None:
    following.refuse = True
    async with following.running():
        following.path.write_text(text("whole"))
        assert not await following.outcome()


async def test_a_file_that_goes_away_leaves_things_as_they_are_until_it_is_back(following: Following) -> None:
    async with following.running():
        following.path.unlink()
        assert not await following.outcome()
        following.path.write_text(text("whole"))
        assert await following.outcome()


async def test_a_setting_that_needs_a_restart_is_named(following: Following) -> None:
    with capture_logs() as logs:
        async with following.running():
            following.path.write_text(text("shared", "{logLevel: debug}"))
            assert await following.outcome()
    (said,) = [entry for entry in logs if entry["event"] == "configuration_needs_restart"]
    assert said["settings"] == ["logLevel"]
