"""The controller's settings: from which sources, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dra_driver.__main__ import main
from dra_driver.controller.settings import ControllerSettings, gather
from dra_driver.errors import SettingsRejected
from dra_driver.gathering import Source

POD = {"HAMI_DRA_POD_NAME": "controller-0"}


def test_file_environment_and_flags_are_read_and_the_later_wins(tmp_path: Path) -> None:
    file = tmp_path / "controller.yaml"
    file.write_text(
        "apiVersion: vgpu.hami.io/v1alpha1\n"
        "kind: ControllerConfig\n"
        "settings: {leaseSeconds: 30, migration: false, logLevel: debug, httpAddress: ':1'}\n"
    )
    gathered = gather(
        {"config_file": str(file), "http_address": ":3"},
        {**POD, "HAMI_DRA_LOG_LEVEL": "error", "HAMI_DRA_HTTP_ADDRESS": ":2"},
    )
    assert gathered.settings == ControllerSettings(
        pod_name="controller-0",
        config_file=str(file),
        lease_seconds=30.0,
        migration=False,
        log_level="error",
        http_address=":3",
    )
    assert gathered.by_source()[Source.FILE] == {"lease_seconds": 30.0, "migration": False}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "set --pod-name or HAMI_DRA_POD_NAME"),
        ({"pod_name": "p", "lease_seconds": "2"}, "lease_seconds: 2.0 must be whole, at least 3"),
        ({"pod_name": "p", "lease_seconds": "15.5"}, "must be whole"),
        ({"pod_name": "p", "lease_seconds": "soon"}, "lease_seconds: 'soon' is not a number"),
        ({"pod_name": "p", "migration": "yes"}, "migration: 'yes' is neither true nor false"),
        ({"pod_name": "p", "namespace": "Upper"}, "namespace: 'Upper' cannot be a namespace"),
        ({"pod_name": "p", "garbage_grace_seconds": "-1"}, "must not be negative"),
        ({"pod_name": "p", "admission_address": "9443"}, "admission_address: '9443' must be host:port"),
        ({"pod_name": "p", "admission_failure_policy": "Maybe"}, "is none of the policies"),
        ({"pod_name": "p", "log_level": "loud"}, "is none of the levels"),
    ],
)
def test_nonsense_is_refused_by_the_settings_name(flags: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsRejected, match=words.replace("(", r"\(")):
        gather(flags, {})


def test_a_nodes_file_is_none_of_the_controllers(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("apiVersion: vgpu.hami.io/v1alpha1\nkind: NodeConfig\n")
    with pytest.raises(SettingsRejected, match="kind"):
        gather({"config_file": str(file)}, POD)


def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    file = tmp_path / "controller.yaml"
    file.write_text("apiVersion: vgpu.hami.io/v1alpha1\nkind: ControllerConfig\nsettings: {leaseSecond: 3}\n")
    with pytest.raises(SettingsRejected, match=r"settings\.leaseSecond: no such setting \(there are .*leaseSeconds"):
        gather({"config_file": str(file)}, POD)


def test_a_wrong_setting_ends_the_command_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["controller", "--pod-name", "p", "--lease-seconds", "1"]) == 2
    assert "setting lease_seconds" in capsys.readouterr().err


def test_a_kubeconfig_that_is_not_there_ends_the_command_with_status_2(tmp_path: Path) -> None:
    # As a process: by then it has set up its log.
    flags = ("--pod-name", "p", "--kubeconfig", str(tmp_path / "none"))
    command = (sys.executable, "-m", "dra_driver", "controller", *flags)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "kubeconfig" in done.stderr
