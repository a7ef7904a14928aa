"""The disks that the plugin writes to are full: pods wait with a reason, and run when there is room again."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import run
from tests.cluster.errors import ComponentFailed
from tests.e2e.aftermath import check_nothing_left, check_room
from tests.e2e.tenant import Tenant, pod
from tests.waiting import eventually

SIZE = 8 << 20
FULL = "No space left on device"
# From nothing at all to room for some of a claim's files, but not for all of them.
LEFT_FREE = (0, 4 << 10, 16 << 10, 64 << 10, 256 << 10)


@pytest.fixture
def small_disks(tenant: Tenant) -> Iterator[tuple[Path, ...]]:
    """The plugin's three folders, each on a disk of its own that is quickly full."""
    stack = tenant.stack
    folders = (stack.places.state, stack.plugin.checkpoint.parent, stack.cluster.paths.cdi_dynamic)
    with contextlib.ExitStack() as mounts:
        stack.plugin.stop()
        # It watches the folder that it found at its start.
        mounts.callback(stack.cluster.restart, "containerd")
        for folder in folders:
            run(("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "tmpfs", str(folder)))
            mounts.callback(run, ("umount", "--lazy", str(folder)))
        stack.cluster.restart("containerd")
        stack.plugin.start()
        yield folders
        for folder in folders:
            free(folder)
        stack.plugin.start()
        tenant.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=120s")
        eventually(lambda: not tenant.prepared(), what="all claims are unprepared")
        check_nothing_left(stack)
        stack.plugin.stop()


def fill(folder: Path, *, leave: int) -> None:
    """Write until the disk is full but for some bytes."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    os.truncate(file, max(file.stat().st_size - leave, 0))


def free(folder: Path) -> None:
    """Make room again."""
    (folder / "filler").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("disk", "waits"),
    # The checkpoint has its room from the beginning.
    [(0, True), (1, False), (2, True)],
    ids=["shares", "checkpoint", "cdi"],
)
def test_pods_wait_for_a_full_disk_with_its_reason_and_run_when_it_is_not(
    tenant: Tenant, small_disks: tuple[Path, ...], disk: int, waits: bool
) -> None:
    full = small_disks[disk]
    tenant.apply(pod("before", "exec vgpu-probe hold --memory 256Mi --seconds 3600", claim_template="sliver"))
    tenant.wait_running("before")
    waiting = []
    for leave in LEFT_FREE:
        free(full)
        fill(full, leave=leave)
        name = f"left-{leave}"
        tenant.apply(pod(name, "exec sleep 3600", claim_template="sliver"))
        eventually(functools.partial(runs_or_tells, tenant, name), what=f"{name} runs, or tells of the full disk")
        waiting.append(name)
    assert runs(tenant, waiting[0]) is not waits
    if waits:
        (message,) = {event for event in tenant.events(waiting[0]) if FULL in event}
        assert str(full) in message, "the message names what could not be written"
    check_room(tenant)
    assert tenant.show("before")["cuda"][0]["total"] == 1 << 30, "who runs already is not disturbed"
    free(full)
    for name in waiting:
        eventually(functools.partial(runs, tenant, name), what=f"{name} runs", timeout=300)
    assert len(tenant.prepared()) == len(waiting) + 1
    check_room(tenant)


def test_a_plugin_that_is_killed_while_the_disks_are_full_comes_back_with_all_its_claims(
    tenant: Tenant, small_disks: tuple[Path, ...]
) -> None:
    plugin = tenant.stack.plugin
    tenant.apply(pod("before", "exec vgpu-probe hold --memory 256Mi --seconds 3600", claim_template="sliver"))
    tenant.wait_running("before")
    prepared = tenant.prepared()
    for folder in small_disks:
        fill(folder, leave=0)
    plugin.kill()
    complaint = start_or_complaint(tenant)
    assert not complaint or f"{FULL}: '/" in complaint
    assert tenant.prepared() == prepared
    for folder in small_disks:
        free(folder)
    plugin.start()
    assert tenant.prepared() == prepared
    assert tenant.show("before")["cuda"][0]["total"] == 1 << 30
    tenant.apply(pod("after", "exec sleep 3600", claim_template="sliver"))
    tenant.wait_running("after")
    check_room(tenant)


def start_or_complaint(tenant: Tenant) -> str:
    """Start the plugin; returns what it ends with, or nothing."""
    try:
        tenant.stack.plugin.start()
    except ComponentFailed as failed:
        return str(failed)
    return ""


def runs(tenant: Tenant, name: str) -> bool:
    """Tell whether a pod runs."""
    return tenant.kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}") == "Running"


def told(tenant: Tenant, name: str) -> bool:
    """Tell whether the pod's events say what is wrong."""
    return any(FULL in event for event in tenant.events(name))


def runs_or_tells(tenant: Tenant, name: str) -> bool:
    """Tell whether a pod runs, or says what it waits for."""
    return runs(tenant, name) or told(tenant, name)
