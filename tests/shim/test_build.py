"""The library as it is built: symbols, what it depends on, and that its generated sources are current."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.shim.builds import made
from tests.shim.tenants import SHIM

SOURCES = Path(__file__).resolve().parents[2] / "native" / "vgpu-shim"
LIMIT = (2, 17)


def symbols(library: Path, *flags: str) -> list[str]:
    done = subprocess.run(["nm", "-D", *flags, str(library)], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in done.stdout.splitlines()]


BOTH = pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])


@BOTH
def test_exactly_the_generated_list_is_exported(architecture: str) -> None:
    library = made("all", architecture) / "libvgpu.so"
    listed = re.findall(r"^    (\w+);$", (SOURCES / "src" / "generated" / "exports.map").read_text(), re.MULTILINE)
    assert sorted(symbols(library, "--defined-only")) == sorted(listed)
    assert {"cuMemAlloc_v2", "cuLaunchKernel_ptsz", "nvmlDeviceGetMemoryInfo", "dlsym", "dlvsym"} <= set(listed)


@BOTH
def test_everything_it_uses_is_in_glibc_2_17(architecture: str) -> None:
    build = made("all", architecture)
    versioned = build / "shim-objects" / "versioned.so"
    used = symbols(versioned, "--undefined-only")
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", " ".join(used))]
    assert versions
    assert max(versions) <= LIMIT
    assert {name.split("@")[0] for name in symbols(build / "libvgpu.so", "--undefined-only")} <= {
        name.split("@")[0] for name in used
    }


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


@pytest.mark.parametrize(
    ("header", "declaration", "complaint"),
    [
        (
            "cuda.h",
            "CUresult CUDAAPI cuMemSummon(CUdeviceptr *dptr, size_t size);",
            "cuMemSummon .* its parameter dptr",
        ),
        ("cuda.h", "CUresult CUDAAPI cuKernelLaunchAgain(int times);", "cuKernelLaunchAgain .* its name"),
        (
            "cuda.h",
            "CUresult CUDAAPI cuMemAlloc_v3(unsigned long long *where, size_t size);",
            "cuMemAlloc_v3 .* its name",
        ),
        ("cuda.h", "CUresult CUDAAPI cuCtxColour(CUcontext ctx, int colour);", None),
        (
            "nvml.h",
            "nvmlReturn_t DECLDIR nvmlDeviceGetTenants(nvmlDevice_t d, nvmlProcessInfo_t *infos);",
            "its parameter infos",
        ),
        ("nvml.h", "nvmlReturn_t DECLDIR nvmlDeviceGetHandleByColour(int colour, nvmlDevice_t *d);", "its name"),
        ("nvml.h", "nvmlReturn_t DECLDIR nvmlDeviceGetColour(nvmlDevice_t d, unsigned int *colour);", None),
    ],
)
def test_a_newer_header_that_brings_memory_or_launches_fails_the_check(
    tmp_path: Path, header: str, declaration: str, complaint: str | None
) -> None:
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    for name in ("cuda.h", "cudaTypedefs.h", "nvml.h"):
        text = (wheels / "cu13" / "include" / name).read_text()
        (tmp_path / name).write_text(text + (f"\n{declaration}\n" if name == header else ""))
    done = generate(
        "--check", "--include", str(wheels / "cuda_runtime" / "include"), "--include", str(tmp_path), folder=SOURCES
    )
    assert done.returncode == (1 if complaint else 0), done.stderr
    assert re.search(complaint or "^$", done.stderr)


def test_it_builds_for_the_other_architecture() -> None:
    header = (made("all", "aarch64") / "libvgpu.so").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64


def test_a_musl_program_finds_every_name_that_it_uses() -> None:
    musl = symbols(Path("/lib/ld-musl-x86_64.so.1").resolve(), "--defined-only")
    strong = [
        line.split()[-1]
        for line in subprocess.run(
            ["nm", "-D", "--undefined-only", str(SHIM)], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if line.split()[-2] == "U"
    ]
    assert strong
    assert set(strong) <= set(musl)
