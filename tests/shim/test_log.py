"""The log: off unless asked for, by level, to a file or stderr, and never so much that it disturbs."""

import re
import subprocess
from pathlib import Path

from drivers import shim_abi as abi
from tests.shim.sharefiles import ShareFiles
from tests.shim.tenants import PROBES, Container

GIB = 1 << 30
VERSION = re.search(
    r'^version = "(.+)"$', (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(), re.MULTILINE
)


def outputs(container: Container, **variables: str) -> tuple[str, str]:
    """What a program prints, and what comes on stderr."""
    environment = container.preloaded()
    for name in ("VGPU_LOG_FILE", "VGPU_LOG_LEVEL"):
        del environment[name]
    done = subprocess.run(
        [str(PROBES / "linked_limit")],
        env=container.machine.environment(**environment, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


def test_nothing_is_logged_unless_asked_for(container: Container) -> None:
    container.share("one", memory=2 * GIB)
    assert outputs(container) == (f"{2 * GIB} 2\n", "")


def test_one_line_at_the_start_says_version_shares_and_limits(container: Container) -> None:
    container.share("one", memory=2 * GIB, cores=30)
    container.need_cards(2)
    container.share("two", card=1, memory=GIB, policy=abi.COMPUTE_BURST)
    stdout, stderr = outputs(container, VGPU_LOG_LEVEL="info")
    assert stdout == f"{2 * GIB} 2\n"
    assert VERSION
    (line,) = [line for line in stderr.splitlines() if "libvgpu" in line]
    assert re.fullmatch(
        rf"vgpu\[\d+\] info: libvgpu {VERSION[1]}, abi {abi.ABI_MAJOR}\.{abi.ABI_MINOR}, 2 share\(s\)"
        rf"; one of {container.uuids[0]}: memory {2 * GIB} bytes, cores 30 %, policy fixed, priority low"
        rf"; two of {container.uuids[1]}: memory {GIB} bytes, cores 0 %, policy burst, priority low",
        line,
    )


def test_levels_are_kept_and_stderr_serves_where_the_file_cannot(container: Container, tmp_path: Path) -> None:
    container.share("one", memory=2 * GIB)
    _, warning = outputs(container, VGPU_LOG_LEVEL="warning")
    assert [line.split()[1] for line in warning.splitlines()] == ["warning:"]
    assert outputs(container, VGPU_LOG_LEVEL="error")[1] == ""
    assert outputs(container, VGPU_LOG_LEVEL="nonsense")[1] == ""
    _, unwritable = outputs(container, VGPU_LOG_LEVEL="warning", VGPU_LOG_FILE=str(tmp_path / "missing" / "log"))
    assert "refused" in unwritable
    _, written = outputs(container, VGPU_LOG_LEVEL="warning", VGPU_LOG_FILE=str(tmp_path / "log"))
    assert written == ""
    assert "refused" in (tmp_path / "log").read_text()


def set_level(share: ShareFiles, level: int) -> None:
    share.write_limit("log_level", level)


def test_a_shares_own_level_counts_unless_the_user_has_set_one(container: Container) -> None:
    set_level(container.share("one", memory=2 * GIB), abi.LOG_INFO)
    assert "libvgpu" in outputs(container)[1]
    assert outputs(container, VGPU_LOG_LEVEL="off")[1] == ""


def test_a_storm_of_refusals_writes_few_lines_and_says_how_many_it_left_out(container: Container) -> None:
    container.share("one", memory=2 * GIB)
    code = """
import time
open_device()
since = time.monotonic()
for _ in range(500):
    assert int(driver.cuMemAlloc(1 << 40)[0]) == 2
storm = time.monotonic() - since
time.sleep(1.1)  # the next line belongs to another second
assert int(driver.cuMemAlloc(1 << 40)[0]) == 2
print(storm)
"""
    storm = float(container.machine.run(code, **container.preloaded()))
    lines = [line for line in container.log().splitlines() if "refused" in line]
    assert len(lines) <= 20 * (storm + 2) + 1
    told = sum(int(found[1]) for line in lines if (found := re.search(r"\((\d+) lines left out\)", line)))
    assert len(lines) + told == 501
