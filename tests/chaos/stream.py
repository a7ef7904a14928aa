"""Pods that come and go without end, whatever happens to the cluster meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant, pod
from tests.waiting import eventually

ALIVE = 8
"""So many pods are there at a time; the oldest goes when it has been seen running."""
# A kubelet that was away, or a pod that failed to start, is tried again after up to a few minutes.
PATIENCE_SECONDS = 300.0
_HOLD = "exec vgpu-probe hold --memory 256Mi --seconds 3600"
_SLEEP = "exec sleep 3600"
_HOLDS = 4
"""Every so manieth pod holds memory of its card; the others are quicker to start."""


class Stream:
    """Pods one after another, each with one share. A context: leaving it stops the stream."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods")
        self.alive: list[str] = []
        self.seen_running = 0
        self.failure = ""

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE_SECONDS + 60)
        assert not self._thread.is_alive()

    def more(self, number: int, *, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until so many further pods have been seen running."""
        wanted = self.seen_running + number
        eventually(lambda: self.failure or self.seen_running >= wanted, what=f"{number} more pods run", timeout=timeout)
        assert not self.failure, self.failure

    def end(self) -> None:
        """Make no more pods, and wait until all that are there run."""
        self._over.set()
        self._thread.join(PATIENCE_SECONDS + 60)
        assert not self.failure, self.failure
        for name in self.alive:
            self._wait_running(name)

    def check_prepared(self) -> None:
        """Wait until the node has let go of the pods that have gone: what is prepared is what there is."""
        eventually(lambda: len(self._tenant.prepared()) == len(self.alive), what=f"{len(self.alive)} claims prepared")

    def holders(self) -> int:
        """How many of the pods that are there hold memory of a card."""
        return sum(_holds(name) for name in self.alive)

    def _run(self) -> None:
        number = 0
        try:
            while not self._over.is_set():
                self._make(f"pod-{number}")
                number += 1
                if len(self.alive) > ALIVE:
                    self._retire(self.alive[0])
        except AssertionError as error:
            self.failure = str(error)

    def _make(self, name: str) -> None:
        wire = pod(name, _HOLD if _holds(name) else _SLEEP, claim_template="sliver")
        # A kubelet that is killed takes the starts along that it has asked the runtime for; they are to be tried again.
        wire["spec"]["restartPolicy"] = "Always"
        if self._patiently(lambda: self._tenant.apply(wire)):
            self.alive.append(name)

    def _retire(self, name: str) -> None:
        eventually(
            lambda: self._over.is_set() or self._runs(name), what=f"{name} runs", timeout=PATIENCE_SECONDS, every=0.3
        )
        if self._over.is_set():
            return
        self.seen_running += 1
        if self._patiently(lambda: self._tenant.kubectl("delete", "pod", name, "--wait=false")):
            self.alive.remove(name)

    def _wait_running(self, name: str) -> None:
        eventually(lambda: self._runs(name), what=f"{name} runs", timeout=PATIENCE_SECONDS, every=0.3)

    def _runs(self, name: str) -> bool:
        since = "{.status.containerStatuses[0].state.running.startedAt}"
        try:
            return bool(self._tenant.kubectl("get", "pod", name, "-o", f"jsonpath={since}"))
        except CommandFailed:
            return False

    def _patiently(self, act: Callable[[], object]) -> bool:
        """Do something that needs the API server, again until it is done; False when the stream ended first."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                act()
                return True
            except CommandFailed as error:
                if time.monotonic() > deadline:
                    raise AssertionError(str(error)) from error
                if self._over.wait(1.0):
                    return False


def _holds(name: str) -> bool:
    return int(name.rpartition("-")[2]) % _HOLDS == 0
