"""The C parts: libvgpu for every architecture, the simulated vendor libraries for this machine's.

make knows what is out of date, so these steps always ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tools.setup.command import CommandLog
from tools.setup.errors import SetupError
from tools.setup.layout import Layout, machine_architecture

# make's goals and variables, looked up when the build begins: an earlier step may have to bring what they name.
Words = Callable[[], Sequence[str]]


class NativeBuild:
    """One folder under native/, for one architecture."""

    def __init__(self, layout: Layout, component: str, architecture: str, out: Path, words: Words) -> None:
        self._layout = layout
        self._component = component
        self._architecture = architecture
        self._out = out
        self._words = words
        self.name = f"native-{component}-{architecture}"
        self.title = f"native/{component} for {architecture}"

    def is_done(self) -> bool:
        return False

    def perform(self, log: CommandLog) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        log.run(
            [
                "make",
                "--no-print-directory",
                "-C",
                self._layout.root / "native" / self._component,
                f"CC={self._layout.venv_python} -m ziglang cc",
                f"ARCH={self._architecture}",
                f"OUT={self._out}",
                *self._words(),
            ],
            # A make above this one must not pass its flags and variables down.
            env={"MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": ""},
        )


def shim_build(layout: Layout, architecture: str) -> NativeBuild:
    """libvgpu.so, and its test programs where they can run; needs no vendor header."""
    goals = ["all", "tests"] if architecture == machine_architecture() else ["all"]
    return NativeBuild(layout, "vgpu-shim", architecture, layout.native(architecture), lambda: goals)


def simulator_build(layout: Layout, architecture: str) -> NativeBuild:
    """The simulated libcuda and NVML; need the vendor's headers, which come with Python packages."""
    out = layout.native(architecture) / "simgpu"
    return NativeBuild(layout, "simgpu", architecture, out, lambda: [f"CUDA_INCLUDE={_cuda_headers(layout)}"])


def _cuda_headers(layout: Layout) -> Path:
    """The folder with cuda.h and nvml.h, whatever Python version the environment has."""
    pattern = "lib/python3*/site-packages/nvidia/cu*/include"
    found = [folder for folder in sorted(layout.venv.glob(pattern)) if (folder / "nvml.h").is_file()]
    if not found:
        raise SetupError(f"no vendor headers under {layout.venv}/{pattern}: run the 'python' step first")
    return found[-1]
