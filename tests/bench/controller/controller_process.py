"""The controller as a process, and what the system and its own metrics say of it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r'"address": "([^"]+)", "event": "http_serving"')
_CALLS = re.compile(
    r'^vgpu_controller_api_calls_total{.*resource="(?P<resource>[^"]+)".*} (?P<number>[0-9.e+]+)$', re.M
)
_JUDGING = re.compile(r"^vgpu_claim_judging_seconds_(sum|count) ([0-9.e+-]+)$", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A controller that is ready. `cold_start_seconds`: from its start until it knew the cluster and was ready."""

    pid: int
    address: str
    cold_start_seconds: float

    @property
    def resident_mib(self) -> float:
        """Resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def peak_mib(self) -> float:
        """The most memory that it ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def calls(self) -> Mapping[str, float]:
        """Requests to the API server so far, by resource; without those of the Lease."""
        counted: dict[str, float] = {}
        for match in _CALLS.finditer(self._metrics()):
            if match["resource"] != "leases":
                counted[match["resource"]] = counted.get(match["resource"], 0.0) + float(match["number"])
        return counted

    def judging_seconds(self) -> tuple[float, int]:
        """How long the controller took to look at kinds of claims, and how often it did."""
        found = dict(_JUDGING.findall(self._metrics()))
        return float(found["sum"]), int(float(found["count"]))

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
        return text


@asynccontextmanager
async def running_controller(folder: Path, kubeconfig: Path) -> AsyncIterator[Running]:
    """Start it, wait until it is ready, and end it afterwards."""
    settings = {
        "pod-name": "bench-0",
        "kubeconfig": kubeconfig,
        "http-address": "127.0.0.1:0",
        # Nothing stands behind the pods that claims are reserved for.
        "garbage-grace-seconds": 86400,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    log = folder / "controller.log"
    begun = time.monotonic()
    with log.open("wb") as sink:
        command = (sys.executable, "-m", "dra_driver", "controller", *flags)
        process = await asyncio.create_subprocess_exec(*command, stdout=sink, stderr=subprocess.STDOUT)
        try:
            address = await asyncio.to_thread(_ready, lambda: process.returncode is None, log)
            yield Running(process.pid, address, time.monotonic() - begun)
        finally:
            process.terminate()
            try:
                async with asyncio.timeout(30):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _ready(alive: Callable[[], bool], log: Path) -> str:
    """Wait until it is ready; returns where it serves."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and alive():
        served = _ADDRESS.search(log.read_text(errors="replace"))
        if served and _answers(f"http://{served[1]}/readyz"):
            return served[1]
        time.sleep(0.05)
    raise RuntimeError(f"the controller is not ready: {log.read_text(errors='replace')[-2000:]}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
