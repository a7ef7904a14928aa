"""The library itself on aarch64, under an emulator, with the simulated driver and the probes of that architecture."""

import shutil
import subprocess
from pathlib import Path

import install
import pytest

from tests.shim.builds import made, simulator
from tests.shim.tenants import Tenant
from tests.shim.test_differences import DECLARED, declared
from tests.simgpu import installation

GIB = 1 << 30
EMULATOR = "qemu-aarch64-static"
SYSTEM = Path("/usr/aarch64-linux-gnu")  # a C library of that architecture


@pytest.fixture
def foreign(tmp_path: Path) -> Tenant:
    """A machine whose programs are of the other architecture, with a share of 4 GiB."""
    assert shutil.which(EMULATOR), f"{EMULATOR} is not installed: see tools/setup"
    assert SYSTEM.is_dir(), f"{SYSTEM} is not installed: see tools/setup"
    install.install(tmp_path / "machine", tmp_path / "cdi", simulator("aarch64"), None, fresh=True, plain=True)
    tenant = Tenant(installation.Installation(tmp_path / "machine"), tmp_path / "shares")
    tenant.share("one", memory=4 * GIB, cores=50)
    return tenant


def run(tenant: Tenant, probe: str, *words: str, native: bool) -> list[str]:
    """What a probe prints. The emulator itself sees none of the variables, only the program in it."""
    build = made("all", "aarch64")
    made("tests", "aarch64")
    variables = {
        "LD_LIBRARY_PATH": str(tenant.machine.root / "lib"),
        "SIMGPU_STATE": str(tenant.machine.state),
        "SIMGPU_DEV": str(tenant.machine.root / "dev"),
    }
    if not native:
        variables |= tenant.preloaded(LD_PRELOAD=str(build / "libvgpu.so"))
    settings = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
    done = subprocess.run(
        [EMULATOR, "-L", str(SYSTEM), *settings, str(build / "shim-probes" / probe), *words],
        input="\n\n\n",
        env={},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("probe", DECLARED["compared"])
def test_the_shim_answers_as_the_driver_but_for_what_is_declared(foreign: Tenant, probe: str) -> None:
    native, shim = (run(foreign, probe, native=flag) for flag in (True, False))
    differing = {a.rpartition(" ")[0] for a, b in zip(native, shim, strict=True) if a != b}
    assert differing == set(declared(probe, foreign.card_bytes))


@pytest.mark.parametrize(
    ("probe", "words", "expected"),
    [
        ("linked_limit", [], ["{total} 2"]),
        ("linked_constructor", [], ["{total} 2 {total} 2"]),
        ("lives", ["fork"], ["forked {total} 2", "child 0", "parent {total} 2", "resting"]),
        ("lives", ["threads"], ["threads {total} 2", "resting"]),
        ("lives", ["dlclose"], ["open {total} 2"] * 4 + ["closed {total} 2", "resting"]),
        ("launcher", [str(installation.KERNELS / "spin_ns.ptx"), "2", "64"], ["144"]),
    ],
)
def test_programs_are_held_to_their_share(foreign: Tenant, probe: str, words: list[str], expected: list[str]) -> None:
    assert run(foreign, probe, *words, native=True) == [line.format(total=16 * GIB) for line in expected]
    assert run(foreign, probe, *words, native=False) == [line.format(total=4 * GIB) for line in expected]


def test_threads_at_the_limit_never_get_a_byte_above_it(foreign: Tenant) -> None:
    report = run(foreign, "racer", "4", "500", str(2 * GIB), native=False)[1]
    assert '"refused": 0' not in report
    assert foreign.machine.show().cards[0].peak <= 4 * GIB
