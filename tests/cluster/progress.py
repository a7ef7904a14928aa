"""Tells a person at a terminal what is going on and since when; silence for minutes looks like a hang."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Prints `[ 12.3s] text` lines; short-lived states overwrite each other on a terminal.

    `every` is the least time in seconds between two passing states where the stream is not a terminal.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float = 15.0,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._every = every
        self._start = clock()
        self._last_passing = self._start
        self._passing = False

    @property
    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return self._clock() - self._start

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        end_of_passing = "\r\x1b[K" if self._passing else ""
        self._passing = False
        print(f"{end_of_passing}[{self.elapsed:6.1f}s] {text}", file=self._stream, flush=True)

    def passing(self, text: str) -> None:
        """Shows a state that the next one replaces (a terminal), or one line now and then (a log)."""
        if self._stream.isatty():
            self._passing = True
            print(f"\r\x1b[K[{self.elapsed:6.1f}s] {text[:110]}", end="", file=self._stream, flush=True)
        elif self._clock() - self._last_passing >= self._every:
            self._last_passing = self._clock()
            self.say(text)


class Silent(Progress):
    """For callers that report in their own way."""

    def say(self, text: str) -> None:
        """Says nothing."""

    def passing(self, text: str) -> None:
        """Says nothing."""
