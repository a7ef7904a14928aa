"""A backend in a process of its own, because a vendor's library keeps its state per process.

One test must not inherit the library, the environment or the cards that another has loaded. The process runs
the real backend; what crosses the pipe are calls, frozen values and the backend's own errors.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from drivers.backend import Notice
from drivers.errors import DriverError
from drivers.model import Device, Injection, Share

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120


class BackendProcess:
    """A DeviceBackend on the other end of a pipe. The log of the backend is in the file `log`."""

    def __init__(self, package: str, settings: Mapping[str, Any], environment: Mapping[str, str], log: Path) -> None:
        """Open the backend by `package`.open_backend(**settings), with `environment` added to ours."""
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.backend_process"],
                cwd=REPOSITORY,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                bufsize=0,
            )
        self._log = log
        self._ask((package, dict(settings)))

    @property
    def vendor(self) -> str:
        """See DeviceBackend."""
        return str(self._ask(("vendor", ())))

    def discover(self) -> tuple[Device, ...]:
        """See DeviceBackend."""
        devices: tuple[Device, ...] = self._ask(("discover", ()))
        return devices

    def prepare(self, share: Share) -> Injection:
        """See DeviceBackend."""
        injection: Injection = self._ask(("prepare", (share,)))
        return injection

    def unprepare(self, share_key: str, device_uuid: str) -> None:
        """See DeviceBackend."""
        self._ask(("unprepare", (share_key, device_uuid)))

    def watch(self) -> None:
        """Start `watch_health`; what it tells is kept for `notices`."""
        self._ask(("watch", ()))

    def notices(self, number: int = 1) -> list[Notice]:
        """What the watch has told since it was last asked, once it is so many; fewer after 20 s."""
        told: list[Notice] = self._ask(("notices", (number,)))
        return told

    def notices_of(self, cause: Callable[[], None]) -> list[Notice]:
        """What the watch tells after `cause`, which is repeated until the watch (which may be about to begin) does."""
        for _ in range(40):
            cause()
            if told := list[Notice](self._ask(("notices", (1, 1.5)))):
                return told
        raise TimeoutError(f"the watch tells nothing:\n{self._log.read_text()}")

    def end_watch(self) -> bool:
        """Stop the watch; tells whether it has ended in time."""
        return bool(self._ask(("end_watch", ())))

    def close(self) -> None:
        """See DeviceBackend."""
        self._ask(("close", ()))

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait(TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, question: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(pickle.dumps(question))
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            readable = selector.select(TIMEOUT_S)
        if not readable:
            raise TimeoutError(f"the backend did not answer {question!r} within {TIMEOUT_S} s")
        try:
            answer, error = pickle.load(self._process.stdout)
        except EOFError as end:
            raise RuntimeError(f"the backend's process ended:\n{self._log.read_text()}") from end
        if error is not None:
            raise error
        return answer


class Watch:
    """The watch of a backend, in a thread of the backend's process."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._told: list[Notice] = []
        self._more = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def watch(self) -> None:
        """Begin."""
        self._thread.start()

    def notices(self, number: int, seconds: float = 20) -> list[Notice]:
        """Wait for so many, and hand them over."""
        with self._more:
            self._more.wait_for(lambda: len(self._told) >= number, timeout=seconds)
            told, self._told = self._told, []
        return told

    def end_watch(self) -> bool:
        """Stop, and tell whether it has."""
        self._stop.set()
        self._thread.join(20)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._backend.watch_health(self._tell, self._stop.is_set)

    def _tell(self, notice: Notice) -> None:
        with self._more:
            self._told.append(notice)
            self._more.notify_all()


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the questions end. The first opens the backend."""
    package, settings = pickle.load(questions)
    backend = importlib.import_module(package).open_backend(**settings)
    watch = Watch(backend)
    _answer(answers, None, None)
    with contextlib.suppress(EOFError):
        while True:
            name, arguments = pickle.load(questions)
            try:
                attribute = getattr(watch if hasattr(watch, name) else backend, name)
                _answer(answers, attribute(*arguments) if callable(attribute) else attribute, None)
            except DriverError as error:
                _answer(answers, None, error)


def _answer(answers: BinaryIO, value: object, error: DriverError | None) -> None:
    answers.write(pickle.dumps((value, error)))
    answers.flush()


def main() -> None:
    """Keep the pipe for answers, and send to stderr whatever anybody prints."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
