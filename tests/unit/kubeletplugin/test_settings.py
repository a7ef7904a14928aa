"""Settings from flags and the environment, and the command's exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dra_driver.__main__ import main
from dra_driver.errors import SettingsRejected
from dra_driver.settings import PluginSettings, read_settings


def test_a_flag_wins_over_the_environment() -> None:
    settings = read_settings({"node_name": "from-flag"}, {"HAMI_DRA_NODE_NAME": "from-environment"})
    assert settings.node_name == "from-flag"


def test_every_kind_of_setting_is_read_from_the_environment() -> None:
    settings = read_settings(
        {},
        {
            "HAMI_DRA_NODE_NAME": "node-a",
            "HAMI_DRA_KUBELET_ROOT": "/k",
            "HAMI_DRA_VENDOR_CDI_FOLDERS": "/a,/b",
            "HAMI_DRA_VENDORS": "nvidia,hygon",
            "HAMI_DRA_SHARES_PER_CARD": "4",
            "HAMI_DRA_SCAN_SECONDS": "0.5",
            "UNRELATED": "x",
        },
    )
    assert settings == PluginSettings(
        node_name="node-a",
        kubelet_root=Path("/k"),
        vendor_cdi_folders=(Path("/a"), Path("/b")),
        vendors=("nvidia", "hygon"),
        shares_per_card=4,
        scan_seconds=0.5,
    )


def test_paths_below_the_kubelets_folder_follow_from_the_drivers_name() -> None:
    settings = PluginSettings(node_name="node-a", driver_name="x.example.com", kubelet_root=Path("/k"))
    assert settings.plugin_folder == Path("/k/plugins/x.example.com")
    assert settings.registration_socket == Path("/k/plugins_registry/x.example.com-reg.sock")


def test_a_setting_without_default_must_be_given_and_the_error_says_how() -> None:
    with pytest.raises(SettingsRejected, match="setting node_name: set --node-name or HAMI_DRA_NODE_NAME"):
        read_settings({}, {})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("node_name", "", "must not be empty"),
        ("driver_name", "../etc", "at most 63"),
        ("driver_name", "Vgpu.Hami", "at most 63"),
        ("driver_name", "", "at most 63"),
        ("driver_name", "x" * 64, "at most 63"),
        ("shares_per_card", "many", "not a number"),
        ("shares_per_card", "0", "1 to 1000"),
        ("shares_per_card", "1001", "1 to 1000"),
        ("shares_per_card", "1.5", "not a number"),
        ("scan_seconds", "0.01", "at least"),
        ("scan_seconds", "nan", "at least"),
        ("scan_seconds", "soon", "not a number"),
        ("log_level", "loud", "none of the levels"),
        ("log_format", "xml", "json or text"),
        ("vendors", ",", "at least one"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, text: str, words: str) -> None:
    with pytest.raises(SettingsRejected, match=words) as caught:
        read_settings({"node_name": "node-a", name: text}, {})
    assert f"setting {name}" in str(caught.value)


def test_the_command_ends_with_2_for_wrong_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAMI_DRA_NODE_NAME", raising=False)
    assert main(["kubeletplugin"]) == 2
    assert "node_name" in capsys.readouterr().err


def test_an_unknown_vendor_is_a_wrong_setting() -> None:
    # In a process of its own: by then the command has set up its logs for the whole process.
    command = [sys.executable, "-m", "dra_driver", "kubeletplugin", "--node-name=node-a", "--vendors=acme"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 2
    assert outcome.stderr == "hami-dra: setting vendors: 'acme' is none of nvidia\n"


def test_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["kubeletplugin", "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for flag in ("--node-name", "--kubelet-root", "--shares-per-card", "--scan-seconds"):
        assert flag in shown
    assert "(default: none, required)" in shown
    assert "/etc/cdi,/var/run/cdi" in shown
