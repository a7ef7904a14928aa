"""A simulated installation for one test, and client processes that use it.

Clients run in processes of their own, since a library, its state and its visible cards are fixed
when a process first uses them, and since the tests are about what processes do to each other.
"""

import abc
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import install
import simgpuctl

REPOSITORY = Path(__file__).resolve().parents[2]
SIMGPU = REPOSITORY / "native" / "simgpu"
# Another build than the one in place, while somebody works on the native parts.
NATIVE = Path(os.environ.get("HAMI_DRA_NATIVE_BUILD", REPOSITORY / "build" / "native" / "x86_64"))
LIBRARIES = NATIVE / "simgpu"
KERNELS = SIMGPU / "kernels"
# Where the clients find cuda_client.
CLIENT = Path(__file__).parent

TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True)
class Machine(abc.ABC):
    """A machine with cards, and the client programs that run on it."""

    root: Path
    clients: list["subprocess.Popen[str]"] = dataclasses.field(default_factory=list)

    @abc.abstractmethod
    def environment(self, **extra: str) -> dict[str, str]:
        """What a client needs in its environment to find the machine."""

    @abc.abstractmethod
    def environment_at(self, place: str) -> dict[str, str]:
        """What finds the machine where `root` is mounted at another place, and nothing is inherited."""

    @property
    @abc.abstractmethod
    def uuids(self) -> list[str]:
        """The cards' UUIDs, by index."""

    @abc.abstractmethod
    def memory_of(self, card: int) -> int:
        """Bytes of a card, as the bare CUDA driver tells them."""

    def start(self, code: str, **extra: str) -> "subprocess.Popen[str]":
        """Starts a Python client; its `ready()` prints a line, its `release()` waits for one."""
        return self.spawn([sys.executable, "-c", f"from cuda_client import *\n{code}"], **extra)

    def spawn(self, command: list[str], **extra: str) -> "subprocess.Popen[str]":
        """Starts any program as a client."""
        client = subprocess.Popen(
            command,
            env=self.environment(**extra),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.clients.append(client)
        return client

    def run(self, code: str, **extra: str) -> str:
        """Runs a Python client to its end and returns what it printed, stripped. Fails when it fails."""
        return finish(self.start(code, **extra))

    def command(self, *words: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        """Runs any program as a client."""
        return subprocess.run(
            words,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def end_clients(self) -> None:
        """Kills the clients that a failed test has left, and closes their pipes."""
        for client in self.clients:
            kill(client)


@dataclasses.dataclass(frozen=True)
class Installation(Machine):
    """A machine with simulated cards under one folder."""

    @property
    def state(self) -> Path:
        """The state file."""
        return self.root / "state"

    def environment(self, **extra: str) -> dict[str, str]:
        """See Machine: the libraries and the state are in the folder."""
        return os.environ | {
            "LD_LIBRARY_PATH": str(self.root / "lib"),
            "SIMGPU_STATE": str(self.state),
            "SIMGPU_DEV": str(self.root / "dev"),
            "PYTHONPATH": str(CLIENT),
            **extra,
        }

    def environment_at(self, place: str) -> dict[str, str]:
        """See Machine."""
        return {"LD_LIBRARY_PATH": f"{place}/lib", "SIMGPU_STATE": f"{place}/state", "SIMGPU_DEV": f"{place}/dev"}

    def show(self) -> simgpuctl.Report:
        """What the cards say."""
        return simgpuctl.show(self.state)

    @property
    def uuids(self) -> list[str]:
        """See Machine."""
        return [card.uuid for card in self.show().cards]

    def memory_of(self, card: int) -> int:
        """See Machine."""
        return int(self.show().cards[card].total)


def make(root: Path, cards: Path | None = None) -> Installation:
    """Installs under `root`, with plain files for device nodes."""
    install.install(root, root / "cdi", LIBRARIES, cards, fresh=True, plain=True)
    return Installation(root)


def await_ready(process: "subprocess.Popen[str]") -> str:
    """The line that the client prints when it has come to its `ready()`."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the client ended early with status {process.wait(TIMEOUT_S)}"
    return line.strip()


def resume(process: "subprocess.Popen[str]") -> str:
    """Lets the client go on from its `release()`, and returns the line of its next `ready()`."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return await_ready(process)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kills the client, as nothing it could prepare for, and waits for its end."""
    process.kill()
    process.wait(TIMEOUT_S)
    for pipe in (process.stdin, process.stdout):
        if pipe and not pipe.closed:
            pipe.close()


def finish(process: "subprocess.Popen[str]") -> str:
    """Lets the client go on to its end and returns what else it printed."""
    output, _ = process.communicate("\n", timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    return output.strip()
