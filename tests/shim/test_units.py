"""The accounting of a share in every state that a process can leave it in, on both architectures."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shim.builds import made

EMULATORS = {"x86_64": [], "aarch64": ["qemu-aarch64-static"]}


def run(architecture: str, name: str, *words: str) -> str:
    emulator = EMULATORS[architecture]
    assert all(shutil.which(word) for word in emulator), f"{emulator} is not installed: see tools/setup"
    program = made("units", architecture) / "shim-units" / name
    done = subprocess.run([*emulator, str(program), *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("architecture", EMULATORS)
def test_the_accounts_are_exact_whatever_became_of_the_processes(tmp_path: Path, architecture: str) -> None:
    told = run(architecture, "accounts", str(tmp_path)).splitlines()
    untried = [line for line in told if "cannot be tried" in line]
    assert len(told) - len(untried) == 18
    # The emulator ignores the advice to wipe a page in copies of a process; a kernel does not.
    assert len(untried) == (1 if architecture == "aarch64" else 0)


def test_kills_amid_the_accounting_leave_an_exact_total_on_the_other_architecture(tmp_path: Path) -> None:
    report = json.loads(run("aarch64", "hammer", str(tmp_path / "share"), "64", "5"))
    assert (report["kills"], report["overruns"]) == (64, 0)
    assert report["taken"] > 1000
