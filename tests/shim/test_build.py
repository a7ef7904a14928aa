"""The library as it is built: symbols, what it depends on, and that its generated sources are current."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shim.tenants import BUILD, SHIM

SOURCES = Path(__file__).resolve().parents[2] / "native" / "vgpu-shim"
LIMIT = (2, 17)


def symbols(library: Path, *flags: str) -> list[str]:
    done = subprocess.run(["nm", "-D", *flags, str(library)], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in done.stdout.splitlines()]


def test_exactly_the_generated_list_is_exported() -> None:
    listed = re.findall(r"^    (\w+);$", (SOURCES / "src" / "generated" / "exports.map").read_text(), re.MULTILINE)
    assert sorted(symbols(SHIM, "--defined-only")) == sorted(listed)
    assert {"cuMemAlloc_v2", "cuLaunchKernel_ptsz", "nvmlDeviceGetMemoryInfo", "dlsym", "dlvsym"} <= set(listed)


def test_everything_it_uses_is_in_glibc_2_17() -> None:
    versioned = BUILD / "shim-objects" / "versioned.so"
    used = symbols(versioned, "--undefined-only")
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", " ".join(used))]
    assert versions
    assert max(versions) <= LIMIT
    assert {name.split("@")[0] for name in symbols(SHIM, "--undefined-only")} <= {name.split("@")[0] for name in used}


def test_it_loads_no_library_for_its_own_sake() -> None:
    done = subprocess.run(["readelf", "-d", str(SHIM)], capture_output=True, text=True, check=True)
    assert "NEEDED" not in done.stdout


def generate(*arguments: str, folder: Path = SOURCES) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(folder / "gen"), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_generated_sources_are_current_and_agree_with_both_releases_of_the_headers() -> None:
    done = generate("--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('symbols = ["cuMemAlloc_v2"]', 'symbols = ["cuMemAlloc_v7"]', "no header declares cuMemAlloc_v7"),
        (', "cuMemHostAlloc"', "", "cuMemHostAlloc may allocate or launch, by its name, and has no row"),
        (
            'symbols = ["cuMemAlloc_v2"]',
            'symbols = ["cuMemAlloc_v2", "cuMemFree_v2"]',
            "in more than one row: cuMemFree_v2",
        ),
    ],
)
def test_a_table_that_parts_from_the_headers_fails_the_check(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    copy = tmp_path / "native" / "vgpu-shim"
    copy.parent.mkdir()
    subprocess.run(["cp", "-r", str(SOURCES), str(copy)], check=True)
    table = copy / "hooks" / "cuda.toml"
    assert before in table.read_text()
    table.write_text(table.read_text().replace(before, after))
    done = generate("--check", folder=copy)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_it_builds_for_the_other_architecture(tmp_path: Path) -> None:
    compiler = os.environ.get("CC", f"{sys.executable} -m ziglang cc")
    command = ["make", "-C", str(SOURCES), f"CC={compiler}", "ARCH=aarch64", f"OUT={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "libvgpu.so").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64
