"""Writes the generated sources and docs/hooks.md from the hook table, or checks that they are current.

    python native/vgpu-shim/gen            write
    python native/vgpu-shim/gen --check    exit 1 when a file is stale or the table and the headers disagree

The headers come from the wheels nvidia-cuda-runtime-cu12 (12.x), nvidia-cuda-runtime and nvidia-nvml-dev
(13.x) of the running interpreter, or from --include, oldest first. `CC` preprocesses them; the default is
the compiler of the ziglang wheel.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import sysconfig
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from checks import disagreements
from headers import read_headers
from render_c import Source, render
from render_docs import render_docs
from table import TableError, read_table

SHIM = Path(__file__).resolve().parent.parent
REPOSITORY = SHIM.parent.parent


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    compiler = shlex.split(os.environ.get("CC", "")) or [sys.executable, "-m", "ziglang", "cc"]
    try:
        problems = _problems(compiler, options)
    except TableError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _problems(compiler: list[str], options: argparse.Namespace) -> list[str]:
    """Writes or checks; what is wrong. A table that parts from the headers is rendered no further."""
    sources = [_source(name, compiler, options.include) for name in ("cuda.toml", "nvml.toml")]
    parted = [line for source in sources for line in disagreements(source.table, list(source.releases))]
    if parted:
        return parted
    files = _files(sources)
    if options.check:
        return [f"{path.relative_to(REPOSITORY)} is stale: run {SHIM.name}/gen" for path in _stale(files)]
    _write(files)
    return []


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gen", description="generate the shim's hook sources")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is stale")
    parser.add_argument("--include", action="append", type=Path, help="a header folder; oldest first")
    options = parser.parse_args(arguments)
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    options.include = options.include or [wheels / "cuda_runtime" / "include", wheels / "cu13" / "include"]
    return options


def _source(name: str, compiler: list[str], folders: list[Path]) -> Source:
    table = read_table(SHIM / "hooks" / name)
    having = [folder for folder in folders if all((folder / header).is_file() for header in table.headers)]
    if not having:
        raise TableError(f"{name}: none of {', '.join(map(str, folders))} holds {', '.join(table.headers)}")
    return Source(table, tuple(read_headers(compiler, folder, table.headers) for folder in having))


def _files(sources: list[Source]) -> dict[Path, str]:
    generated = SHIM / "src" / "generated"
    files = {generated / name: content for name, content in render(sources).items()}
    return files | {REPOSITORY / "docs" / "hooks.md": render_docs([source.table for source in sources])}


def _stale(files: dict[Path, str]) -> list[Path]:
    return [path for path, text in files.items() if not path.is_file() or path.read_text() != text]


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
