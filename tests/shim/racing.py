"""Racers: processes of threads that allocate and free at random, started together."""

import json
import subprocess
from collections.abc import Iterable

from tests.shim.tenants import Container
from tests.simgpu import installation

Racers = list["subprocess.Popen[str]"]


def line_up(container: Container, processes: int, threads: int, rounds: int, allowance: int) -> Racers:
    """Racers with a context each, that wait for the start; no thread will hold more than `allowance` bytes."""
    racers = [container.probe("racer", str(threads), str(rounds), str(allowance)) for _ in range(processes)]
    for racer in racers:
        installation.await_ready(racer)
    return racers


def start(racers: Iterable["subprocess.Popen[str]"]) -> None:
    """The start."""
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()


def reports(racers: Racers) -> tuple[int, int]:
    """How many allocations succeeded, and how many were refused; the racers wait for each other and end."""
    told = [json.loads(installation.await_ready(racer)) for racer in racers]
    for racer in racers:
        installation.finish(racer)
    return sum(report["succeeded"] for report in told), sum(report["refused"] for report in told)
