"""Settings from flags and the environment, and the command's exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dra_driver.__main__ import main
from dra_driver.addresses import split_address
from dra_driver.errors import SettingsRejected
from dra_driver.gathering import Source
from dra_driver.settings import PluginSettings, gather, read_settings


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
    assert outcome.stderr.splitlines()[-1] == "hami-dra: setting vendors: 'acme' is none of nvidia"


def test_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["kubeletplugin", "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for flag in ("--node-name", "--kubelet-root", "--shares-per-card", "--scan-seconds"):
        assert flag in shown
    assert "(default: none, required)" in shown
    assert "/etc/cdi,/var/run/cdi" in shown


# The configuration file.


def written(tmp_path: Path, settings: str) -> str:
    file = tmp_path / "node.yaml"
    file.write_text(f"apiVersion: vgpu.hami.io/v1alpha1\nkind: NodeConfig\nsettings: {settings}\n")
    return str(file)


def test_the_file_gives_way_to_the_environment_and_that_to_flags(tmp_path: Path) -> None:
    file = written(tmp_path, "{logLevel: debug, scanSeconds: 3, vendors: [nvidia, hygon], harmlessXids: [13, 31]}")
    gathered = gather(
        {"node_name": "node-a", "config_file": file, "log_level": None, "scan_seconds": "5"},
        {"HAMI_DRA_SCAN_SECONDS": "4", "HAMI_DRA_LOG_LEVEL": "warning"},
    )
    settings = gathered.settings
    assert (settings.vendors, settings.harmless_xids) == (("nvidia", "hygon"), (13, 31))
    assert (settings.log_level, settings.scan_seconds) == ("warning", 5.0)
    assert gathered.by_source() == {
        Source.FILE: {"vendors": ["nvidia", "hygon"], "harmless_xids": [13, 31]},
        Source.ENVIRONMENT: {"log_level": "warning"},
        Source.FLAG: {"node_name": "node-a", "config_file": file, "scan_seconds": 5.0},
    }


def test_a_required_setting_may_come_from_the_file(tmp_path: Path) -> None:
    assert read_settings({"config_file": written(tmp_path, "{nodeName: node-a}")}, {}).node_name == "node-a"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("{logLvl: debug}", "settings.logLvl: no such setting"),
        ("{configFile: x}", "settings.configFile: no such setting"),
        ("{vendors: {nvidia: yes}}", "settings.vendors"),
        ("{scanSeconds: often}", "scan_seconds"),
        ("{logFormat: yes}", "settings.logFormat"),
    ],
)
def test_a_wrong_setting_of_the_file_is_named(tmp_path: Path, settings: str, problem: str) -> None:
    with pytest.raises(SettingsRejected) as caught:
        read_settings({"node_name": "node-a", "config_file": written(tmp_path, settings)}, {})
    assert problem in str(caught.value)


@pytest.mark.parametrize("address", ["8080", "host", ":65536", ":-1", "host:port", ":"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsRejected, match="http_address"):
        PluginSettings(node_name="node-a", http_address=address)


@pytest.mark.parametrize(
    ("address", "parts"), [(":8080", ("", 8080)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80))]
)
def test_addresses_are_taken_apart(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
