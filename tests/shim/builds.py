"""Builds that only some tests need: they are made by the Makefiles when the first of those tests runs."""

import functools
import os
import subprocess
import sys
from pathlib import Path

from tests.shim.tenants import BUILD
from tests.simgpu import installation

SOURCES = Path(__file__).resolve().parents[2] / "native" / "vgpu-shim"


def out(architecture: str) -> Path:
    """The folder for an architecture's build: this machine's own, or one beside it."""
    if architecture == "x86_64":
        return BUILD
    return BUILD.parent / (architecture if BUILD.name == "x86_64" else f"{BUILD.name}-{architecture}")


def make(folder: Path, architecture: str, *words: str) -> None:
    """Runs make as the set-up does."""
    compiler = os.environ.get("CC", f"{sys.executable} -m ziglang cc")
    command = ["make", "-C", str(folder), f"CC={compiler}", f"ARCH={architecture}", *words]
    clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def made(goal: str, architecture: str = "x86_64") -> Path:
    """Makes a goal of the shim's Makefile and returns the folder that it is in."""
    make(SOURCES, architecture, f"OUT={out(architecture)}", goal)
    return out(architecture)


@functools.cache
def simulator(architecture: str) -> Path:
    """The simulated vendor libraries for an architecture."""
    libraries = out(architecture) / "simgpu"
    site = Path(sys.prefix).glob("lib/python3*/site-packages/nvidia/cu*/include")
    headers = [folder for folder in sorted(site) if (folder / "nvml.h").is_file()]
    make(installation.SIMGPU, architecture, f"OUT={libraries}", f"CUDA_INCLUDE={headers[-1]}")
    return libraries
