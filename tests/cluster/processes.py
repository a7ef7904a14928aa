"""Starts the components detached from the launcher, and finds and stops exactly those again.

Two traces of each process are kept: a record in the folder (pid and start time, so that a pid that was
used again is never mistaken), and a variable in its environment that its children inherit. The record
may be missing after a kill -9 of the launcher; the variable cannot be.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.paths import LocalPaths

MARKER = "HAMI_DRA_CLUSTER"


@dataclass(frozen=True)
class ProcessRecord:
    """A process that was started; `start_ticks` is field 22 of /proc/<pid>/stat (clock ticks since boot)."""

    name: str
    pid: int
    start_ticks: int
    argv: tuple[str, ...]

    @property
    def running(self) -> bool:
        """Whether this very process is alive (a zombie is not)."""
        state, ticks = process_state(self.pid)
        return state not in ("", "Z", "X") and ticks == self.start_ticks

    @property
    def uptime(self) -> float:
        """Seconds since it was started."""
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
        return since_boot - self.start_ticks / os.sysconf("SC_CLK_TCK")


def process_state(pid: int) -> tuple[str, int]:
    """The state letter and the start ticks of a process; ("", 0) where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", 0
    # The command's name, in brackets, may hold spaces and brackets itself.
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def environment(paths: LocalPaths, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a component: nothing of the launcher's (proxies!) but what is named here."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(paths.folder),
        **(extra or {}),
        MARKER: str(paths.folder),
    }


def start(paths: LocalPaths, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> ProcessRecord:
    """Starts a program in a session of its own, its output appended to the component's log."""
    log = os.open(paths.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            environment(paths, env),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)
        os.close(null)
    record = ProcessRecord(name, pid, process_state(pid)[1], tuple(argv))
    _write_record(paths.record(name), record)
    return record


def _write_record(path: Path, record: ProcessRecord) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(asdict(record)))
    beside.replace(path)


def recorded(paths: LocalPaths) -> dict[str, ProcessRecord]:
    """The components by name, alive or not, in the order of their start."""
    records = []
    for path in (paths.folder / "run").glob("*.json"):
        fields = json.loads(path.read_text())
        records.append(ProcessRecord(**{**fields, "argv": tuple(fields["argv"])}))
    return {record.name: record for record in sorted(records, key=lambda one: one.start_ticks)}


def folder_of(pid: int) -> Path | None:
    """The folder of the cluster whose variable a process carries. Raises OSError for one that is gone."""
    prefix = f"{MARKER}=".encode()
    for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if variable.startswith(prefix):
            return Path(os.fsdecode(variable.removeprefix(prefix)))
    return None


def marked(paths: LocalPaths) -> list[int]:
    """All processes that carry this cluster's variable, whoever started them, but not the caller's line."""
    own_line = _ancestry(os.getpid())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in own_line:
            with contextlib.suppress(OSError):
                if folder_of(int(entry.name)) == paths.folder:
                    found.append(int(entry.name))
    return found


def _ancestry(pid: int) -> set[int]:
    line = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line


def stop(pids: Iterable[int], *, grace: float) -> None:
    """Ends processes and returns when they are gone: SIGTERM, and SIGKILL after `grace` seconds."""
    handles = dict(_pidfds(pids))
    try:
        _signal(handles, signal.SIGTERM if grace > 0 else signal.SIGKILL)
        left = _wait(handles, grace)
        if left:
            _signal(left, signal.SIGKILL)
            _wait(left, 30.0)
    finally:
        for handle in handles.values():
            os.close(handle)


def _pidfds(pids: Iterable[int]) -> Iterable[tuple[int, int]]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            yield pid, os.pidfd_open(pid)


def _signal(handles: Mapping[int, int], number: signal.Signals) -> None:
    for handle in handles.values():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _wait(handles: Mapping[int, int], seconds: float) -> dict[int, int]:
    """Those of the processes that are still there after the time."""
    left = dict(handles)
    poll = select.poll()
    for handle in left.values():
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + seconds
    while left and (rest := deadline - time.monotonic()) > 0:
        ended = {handle for handle, _ in poll.poll(rest * 1000)}
        for pid in [pid for pid, handle in left.items() if handle in ended]:
            poll.unregister(left.pop(pid))
            reap(pid)
    return left


def reap(pid: int) -> None:
    """Takes the exit status of a child of this process, so that no zombie stays."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
