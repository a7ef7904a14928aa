"""The libraries export the vendor's names and no others, reach old systems, and generated files are fresh."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest
import statefile

from tests.simgpu import installation

INCLUDE = next(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/cu13/include"))
FIELDS = {
    "struct simgpu_state": (statefile.State, ["armed", "faults", "events", "cards", "slots"]),
    "struct simgpu_card": (statefile.Card, ["lock", "used", "busy_until", "lost", "released"]),
    "struct simgpu_card_facts": (statefile.CardFacts, ["uuid", "memory", "minor", "link_group"]),
    "struct simgpu_slot": (statefile.Slot, ["taken", "pid", "identity", "accounts"]),
    "struct simgpu_account": (statefile.Account, ["bytes", "contexts", "busy", "trace"]),
    "struct simgpu_fault": (statefile.Fault, ["active", "countdown", "repeat", "code", "hits"]),
    "struct simgpu_event": (statefile.Event, ["number", "card", "type", "code"]),
}


def _symbols(library: str, *flags: str) -> list[str]:
    command = ["nm", "-D", *flags, str(installation.LIBRARIES / library)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("library", "prefix", "least"), [("libcuda.so.1", "cu", 680), ("libnvidia-ml.so.1", "nvml", 430)]
)
def test_exports_are_the_vendor_names_alone(library: str, prefix: str, least: int) -> None:
    names = [line.split()[-1] for line in _symbols(library, "--defined-only")]
    assert [name for name in names if not re.fullmatch(rf"{prefix}[A-Z]\w+", name)] == []
    assert len(names) >= least


@pytest.mark.parametrize("library", ["libcuda.so.1", "libnvidia-ml.so.1"])
def test_nothing_newer_than_glibc_2_17_and_nothing_of_its_own_is_imported(library: str) -> None:
    imported = _symbols(library, "--undefined-only")
    versions = [tuple(map(int, found)) for found in re.findall(r"GLIBC_(\d+)\.(\d+)", "\n".join(imported))]
    assert versions
    assert max(versions) <= (2, 17)
    assert not [line for line in imported if re.search(r"\b(cu[A-Z]|nvml|dlsym|dlopen)", line)]


def test_the_libraries_build_for_aarch64(tmp_path: Path) -> None:
    settings = [f"CC={sys.executable} -m ziglang cc", "ARCH=aarch64", f"OUT={tmp_path}", f"CUDA_INCLUDE={INCLUDE}"]
    command = ["make", "-s", "-C", str(installation.SIMGPU), *settings]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for library in ("libcuda.so.1", "libnvidia-ml.so.1"):
        header = (tmp_path / library).read_bytes()[:20]
        assert (header[:4], header[18]) == (b"\x7fELF", 183)  # EM_AARCH64


def test_generated_files_are_fresh() -> None:
    generator = installation.SIMGPU / "gen" / "generate.py"
    command = [sys.executable, str(generator), "--cuda-include", str(INCLUDE), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_layout_in_python_is_the_layout_in_c(tmp_path: Path) -> None:
    lines = [
        f'printf("%zu\\n", offsetof({kind}, {field}));' for kind, (_, fields) in FIELDS.items() for field in fields
    ]
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(
        '#include "simgpu_state.h"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n'
        + "\n".join([*lines, 'printf("%zu\\n", sizeof(struct simgpu_state));', "return 0;", "}"])
    )
    compiler = [sys.executable, "-m", "ziglang", "cc", "-I", str(installation.SIMGPU / "include")]
    subprocess.run([*compiler, str(source), "-o", str(program)], check=True)
    printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.split()
    mirrored = [getattr(mirror, field).offset for mirror, fields in FIELDS.values() for field in fields]
    assert list(map(int, printed)) == [*mirrored, ctypes.sizeof(statefile.State)]
