"""Runs every generator of checked-in files: `python -m tools.generate [--check]`.

The list below is the only place that knows them all, so that no generated file goes unchecked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Generator:
    """`writes` says what comes out; `arguments` go to Python, and `--check` behind them only compares."""

    writes: str
    arguments: tuple[str, ...]


def cuda_headers() -> Path:
    """The newest vendor headers of the environment; raises FileNotFoundError."""
    site_packages = Path(sys.prefix).glob("lib/python3*/site-packages/nvidia/cu*/include/nvml.h")
    found = sorted(site_packages)
    if not found:
        raise FileNotFoundError(f"no vendor headers in {sys.prefix}")
    return found[-1].parent


def generators() -> list[Generator]:
    """All of them, in the order in which they run."""
    return [
        Generator("drivers/shim_abi.py", ("-m", "tools.generate_shim_abi")),
        Generator("dra_driver/kubeletplugin/pb", ("-m", "tools.generate_protobufs")),
        Generator("docs/settings.md, deploy/helm/hami-dra/values.schema.json", ("-m", "tools.generate_settings")),
        Generator("deploy/manifests", ("-m", "tools.render_manifests")),
        Generator("native/vgpu-shim/src/generated, docs/hooks.md", ("native/vgpu-shim/gen",)),
        Generator(
            "native/simgpu/gen/*",
            ("native/simgpu/gen/generate.py", "--cuda-include", str(cuda_headers())),
        ),
    ]


def run(generator: Generator, *, check: bool) -> bool:
    """Whether it succeeded; what it has to say goes to the terminal."""
    extra = ["--check"] if check else []
    answer = subprocess.run(
        [sys.executable, *generator.arguments, *extra],
        cwd=ROOT,
        # `python -m ziglang` and its like must be this environment's.
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        check=False,
    )
    outcome = ("up to date" if check else "written") if answer.returncode == 0 else "FAILED"
    print(f"{generator.writes}: {outcome}", flush=True)
    return answer.returncode == 0


def main(argv: Sequence[str]) -> int:
    """Run all, whatever happens to one of them; exit status 1 when any failed or is stale."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is stale")
    check = bool(parser.parse_args(argv).check)
    results = [run(generator, check=check) for generator in generators()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
