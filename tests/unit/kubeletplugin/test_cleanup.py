"""Cleaning a node: all of ours goes, nothing of others, and not while somebody needs it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dra_driver.errors import NodeInUse
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.cleanup import clean_node
from dra_driver.kubeletplugin.presence import Presence
from dra_driver.settings import PluginSettings
from tests.unit.kubeletplugin.test_checkpoint import claim


@pytest.fixture
def settings(tmp_path: Path) -> PluginSettings:
    """A node on which a plugin has lived."""
    settings = PluginSettings(
        node_name="node-a",
        kubelet_root=tmp_path / "kubelet",
        state_folder=tmp_path / "hami-dra",
        cdi_folder=tmp_path / "cdi",
    )
    for folder in ("lib/0123", "shares", "metadata"):
        (settings.state_folder / folder).mkdir(parents=True)
    (settings.state_folder / "lib/0123/libvgpu.so").write_text("library")
    settings.cdi_folder.mkdir()
    (settings.cdi_folder / "vgpu.hami.io-shim-0123.json").write_text("{}")
    (settings.cdi_folder / "nvidia.json").write_text("the vendor's")
    settings.plugin_folder.mkdir(parents=True)
    recorded = Checkpoint(settings.plugin_folder)
    recorded.put(claim("train"))
    recorded.remove("u-train")
    recorded.fold()
    return settings


def left(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}


async def test_nothing_of_the_plugin_s_is_left_and_all_of_the_others(settings: PluginSettings, tmp_path: Path) -> None:
    with capture_logs() as logs:
        await clean_node(settings, force=False)
    assert left(tmp_path) == {"kubelet", "kubelet/plugins", "cdi", "cdi/nvidia.json"}
    (told,) = [entry for entry in logs if entry["event"] == "node_cleaned"]
    assert str(settings.plugin_folder) in told["removed"]


async def test_a_second_cleaning_finds_nothing_and_is_well(settings: PluginSettings, tmp_path: Path) -> None:
    await clean_node(settings, force=False)
    before = left(tmp_path)
    await clean_node(settings, force=False)
    assert left(tmp_path) == before


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EROFS])
async def test_folders_that_are_mounted_here_are_emptied(
    settings: PluginSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(Path, "rmdir", refuse)
    await clean_node(settings, force=False)
    emptied = {"hami-dra", "kubelet/plugins/vgpu.hami.io"}
    assert left(tmp_path) == {"kubelet", "kubelet/plugins", "cdi", "cdi/nvidia.json"} | emptied


async def test_what_others_keep_in_the_state_folder_stays(settings: PluginSettings) -> None:
    (settings.state_folder / "of-others").mkdir()
    await clean_node(settings, force=False)
    assert [entry.name for entry in settings.state_folder.iterdir()] == ["of-others"]


async def test_prepared_claims_are_named_and_nothing_is_removed(settings: PluginSettings, tmp_path: Path) -> None:
    recorded = Checkpoint(settings.plugin_folder)
    recorded.put(claim("train"))
    before = {name for name in left(tmp_path) if "lock" not in name}
    with pytest.raises(NodeInUse, match="ResourceClaim team-a/train"):
        await clean_node(settings, force=False)
    assert {name for name in left(tmp_path) if "lock" not in name} == before


async def test_force_removes_whatever_is_recorded(settings: PluginSettings) -> None:
    Checkpoint(settings.plugin_folder).put(claim("train"))
    await clean_node(settings, force=True)
    assert not settings.plugin_folder.exists()


async def test_a_damaged_record_is_no_permission(settings: PluginSettings) -> None:
    (settings.plugin_folder / "checkpoint.json").write_text("damaged")
    with pytest.raises(NodeInUse, match="cannot be told"):
        await clean_node(settings, force=False)
    assert settings.plugin_folder.exists()


@pytest.mark.parametrize("force", [False, True])
async def test_a_living_plugin_is_not_robbed(settings: PluginSettings, force: bool) -> None:
    living = await Presence.take(settings.plugin_folder, "", [])
    with pytest.raises(NodeInUse, match="a node plugin runs"):
        await clean_node(settings, force=force, patience_seconds=0)
    assert (settings.state_folder / "lib/0123/libvgpu.so").exists()
    waiting = asyncio.create_task(clean_node(settings, force=force))
    await asyncio.sleep(0)
    living.leave()
    await asyncio.wait_for(waiting, 30)
    assert not settings.plugin_folder.exists()
