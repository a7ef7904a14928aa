"""Processes are found by what they carry, and stopped for certain."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import processes
from tests.cluster.paths import LocalPaths


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[LocalPaths]:
    """A folder for records; whatever was started in it ends with the test."""
    paths = LocalPaths(tmp_path)
    paths.make_folders()
    try:
        yield paths
    finally:
        processes.stop(processes.marked(paths), grace=0)


def test_started_process_is_recorded_and_carries_the_variable(paths: LocalPaths) -> None:
    record = processes.start(paths, "sleeper", ["/bin/sleep", "600"])
    assert record.running
    assert processes.recorded(paths) == {"sleeper": record}
    assert processes.marked(paths) == [record.pid]
    assert os.getsid(record.pid) == record.pid


def test_child_of_a_component_is_found_when_its_parent_is_gone(paths: LocalPaths) -> None:
    script = f"/bin/sleep 600 & echo $! > {paths.folder}/child"
    parent = processes.start(paths, "parent", ["/bin/sh", "-c", script])
    os.waitpid(parent.pid, 0)
    assert processes.marked(paths) == [int((paths.folder / "child").read_text())]


def test_process_of_another_folder_is_not_found(paths: LocalPaths) -> None:
    other = LocalPaths(paths.folder / "other")
    other.make_folders()
    record = processes.start(other, "sleeper", ["/bin/sleep", "600"])
    assert processes.marked(paths) == []
    processes.stop([record.pid], grace=0)
    assert not record.running


def test_process_that_ignores_sigterm_is_killed(paths: LocalPaths) -> None:
    script = f"trap '' TERM; : > {paths.folder}/deaf; while :; do sleep 1; done"
    record = processes.start(paths, "deaf", ["/bin/sh", "-c", script])
    while not (paths.folder / "deaf").exists():
        os.sched_yield()
    processes.stop([record.pid], grace=0.2)
    assert not record.running


def test_record_of_a_pid_that_was_used_again_is_not_running(paths: LocalPaths) -> None:
    record = processes.start(paths, "sleeper", ["/bin/sleep", "600"])
    assert not replace(record, start_ticks=record.start_ticks - 1).running


def test_stopping_what_is_gone_is_fine(paths: LocalPaths) -> None:
    record = processes.start(paths, "short", ["/bin/true"])
    os.waitpid(record.pid, 0)
    processes.stop([record.pid], grace=1.0)
    assert not record.running


def test_output_goes_to_the_component_s_log_and_is_kept_over_restarts(paths: LocalPaths) -> None:
    for word in ("one", "two"):
        os.waitpid(processes.start(paths, "speaker", ["/bin/echo", word]).pid, 0)
    assert paths.log("speaker").read_text() == "one\ntwo\n"


def test_components_do_not_inherit_the_launcher_s_environment(
    paths: LocalPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    os.waitpid(processes.start(paths, "speaker", ["/usr/bin/env"]).pid, 0)
    printed = paths.log("speaker").read_text()
    assert "HTTPS_PROXY" not in printed
    assert f"{processes.MARKER}={paths.folder}" in printed


def test_zombie_does_not_count_as_running(paths: LocalPaths) -> None:
    record = processes.start(paths, "sleeper", ["/bin/sleep", "600"])
    os.kill(record.pid, signal.SIGKILL)
    os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT)
    assert not record.running
    processes.reap(record.pid)
