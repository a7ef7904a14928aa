"""Running other programs: everything they say goes to a log file, the newest line to the display."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.setup.errors import CommandFailedError, SetupError

TAIL_LINES = 25


class CommandLog:
    """Runs the programs of one step, one after the other, into one log file."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self.path = path
        self._on_line = on_line
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")

    def run(self, argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Run to the end. `env` is added to the environment.

        Raises CommandFailedError for a non-zero status, SetupError when the program is not there.
        """
        words = [str(word) for word in argv]
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        with self.path.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {shlex.join(words)}\n")
            log.flush()
            try:
                child = subprocess.Popen(
                    words,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    errors="replace",
                )
            except FileNotFoundError as error:
                raise SetupError(f"the program '{words[0]}' is not on this machine") from error
            with child:
                self._copy(child, log.write, tail)
        if child.returncode != 0:
            raise CommandFailedError(words, child.returncode, self.path, list(tail))

    def _copy(self, child: subprocess.Popen[str], write: Callable[[str], int], tail: deque[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            write(line)
            tail.append(line.rstrip("\n"))
            self._on_line(line)
