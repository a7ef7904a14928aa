"""The three ways to the driver lead to the same hooks, and everything else stays as it was."""

import os
import subprocess
import sys
from pathlib import Path

from tests.shim.tenants import SHIM, Container
from tests.simgpu import installation

GIB = 1 << 30


def answers(container: Container, probe: str, *, native: bool) -> dict[str, str]:
    """What a probe says, line by line: question -> answer."""
    lines = installation.finish(container.probe(probe, native=native)).splitlines()
    return {question: answer for question, _, answer in (line.rpartition(" ") for line in lines)}


def test_a_program_linked_with_the_driver_is_limited(container: Container) -> None:
    container.share("one", memory=2 * GIB)
    assert installation.finish(container.probe("linked_limit")) == f"{2 * GIB} 2"
    assert installation.finish(container.probe("linked_limit", native=True)) == f"{container.card_bytes} 2"


def test_dlsym_gives_the_hook_where_the_driver_would_have_answered_and_nothing_else_changes(
    container: Container,
) -> None:
    container.share("one", memory=2 * GIB)
    native, shimmed = (answers(container, "symbol_lookup", native=flag) for flag in (True, False))
    hooked = {"handle-hooked", "default-global", "next-global"}
    assert {name: native[name] for name in hooked} == dict.fromkeys(hooked, "libcuda.so.1")
    assert shimmed == native | dict.fromkeys(hooked, "libvgpu.so")


def test_get_proc_address_answers_as_the_driver_does_with_version_flags_and_status(container: Container) -> None:
    container.share("one", memory=2 * GIB)
    native, shimmed = (answers(container, "proc_address", native=flag) for flag in (True, False))
    assert len(native) == 18
    assert shimmed == native


def test_the_python_bindings_reach_the_hooks_by_get_proc_address(container: Container) -> None:
    container.share("one", memory=2 * GIB)
    code = "open_device(); print(check(driver.cuMemGetInfo())[1])"
    assert container.machine.run(code, **container.preloaded()) == str(2 * GIB)


def run_plain(*command: str, preload: bool, folder: Path) -> tuple[int, str, str]:
    """A program that has nothing to do with cards."""
    extra = {"LD_PRELOAD": str(SHIM), "VGPU_SHARES_DIR": str(folder)} if preload else {}
    done = subprocess.run(command, env=os.environ | extra, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


WITHOUT_CARDS = """
import os, re, signal, sys, threading
os.umask(mask := os.umask(0))
status = open("/proc/self/status").read()
signals = re.findall(r"^Sig(?:Cgt|Ign|Blk):.*", status, re.M)
print(mask, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), signals)
"""


def test_a_program_that_uses_no_card_runs_as_without_the_shim(tmp_path: Path) -> None:
    for command in (["sh", "-c", "ls /; exit 3"], [sys.executable, "-c", WITHOUT_CARDS], ["true"]):
        native, shimmed = (run_plain(*command, preload=flag, folder=tmp_path / "shares") for flag in (False, True))
        assert shimmed == native
    assert not (tmp_path / "shares").exists()


def test_without_any_share_the_driver_is_passed_through_and_the_log_says_so_once(container: Container) -> None:
    code = """
open_device()
free, total = check(driver.cuMemGetInfo())
check(driver.cuMemAlloc(3 * free // 4)); print(total)
"""
    assert container.machine.run(code, **container.preloaded()) == str(container.card_bytes)
    assert container.log().count("no share found") == 1


def test_a_damaged_usage_file_passes_through_unless_the_share_says_deny(container: Container) -> None:
    code = "open_device(); print(int(driver.cuMemAlloc(8 << 30)[0]))"
    for key, flags, expected in (("open", 0, "0"), ("deny", 2, "2")):
        share = container.share(key, memory=4 * GIB, flags=flags)
        (share.folder / "usage").write_bytes(b"\0" * 4096)
        environment = container.preloaded(VGPU_SHARES_DIR=str(share.folder.parent))
        assert container.machine.run(code, **environment) == expected
        (share.folder / "limits").unlink()


def test_nvml_shows_the_shares_memory_and_only_its_processes(container: Container) -> None:
    container.share("one", memory=4 * GIB)
    hold = "open_device(); check(driver.cuMemAlloc(1 << 30)); ready('held'); release()"
    stranger = container.machine.start(hold)
    friend = container.machine.start(hold, **container.preloaded())
    for client in (stranger, friend):
        installation.await_ready(client)
    code = """
nvml.nvmlInit()
card = nvml.nvmlDeviceGetHandleByIndex(0)
memory = nvml.nvmlDeviceGetMemoryInfo(card)
(process,) = nvml.nvmlDeviceGetComputeRunningProcesses(card)
print(memory.total, memory.total - memory.free, memory.used, process.usedGpuMemory, process.pid)
"""
    seen = [int(word) for word in container.machine.run(code, **container.preloaded()).split()]
    used = seen[1]
    assert GIB < used < 2 * GIB
    assert seen == [4 * GIB, used, used, used, friend.pid]
    for client in (stranger, friend):
        installation.finish(client)
