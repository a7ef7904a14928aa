"""What the person at the terminal sees while a step runs.

A terminal gets one line per step that is redrawn in place; a log file gets plain lines, and a sign of
life now and then, so that a silent compiler is not mistaken for a hang.
"""

from __future__ import annotations

import io
import shutil
import threading
import time
from typing import TextIO

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s` or `3 min 05 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Display:
    """Shows one step at a time: begin, any number of details, end."""

    interval_s: float

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.label = ""
        self.line = ""
        self._started = 0.0
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def begin(self, label: str) -> None:
        self.label, self.line = label, ""
        self._started = time.monotonic()
        self._stop.clear()
        self.show_begin()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def detail(self, line: str) -> None:
        """Remember the newest line of output; the next tick shows it."""
        self.line = line.strip() or self.line

    def end(self, outcome: str) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
        self.show_end(outcome)

    def _tick(self) -> None:
        while not self._stop.wait(self.interval_s):
            self.show_tick()

    def show_begin(self) -> None:
        raise NotImplementedError

    def show_tick(self) -> None:
        raise NotImplementedError

    def show_end(self, outcome: str) -> None:
        raise NotImplementedError


class PlainDisplay(Display):
    """Lines that only ever grow, for logs."""

    interval_s = 20.0

    def show_begin(self) -> None:
        print(f"{self.label} …", file=self.stream, flush=True)

    def show_tick(self) -> None:
        print(f"    {duration(self.elapsed_s)}: {self.line}", file=self.stream, flush=True)

    def show_end(self, outcome: str) -> None:
        print(f"{self.label}: {outcome} ({duration(self.elapsed_s)})", file=self.stream, flush=True)


class TerminalDisplay(Display):
    """One line per step, redrawn in place."""

    interval_s = 0.1

    def show_begin(self) -> None:
        self.show_tick()

    def show_tick(self) -> None:
        mark = SPINNER[int(self.elapsed_s * 10) % len(SPINNER)]
        text = f"{mark} {self.label} … {duration(self.elapsed_s)}  {self.line}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{text[:width]}", end="", file=self.stream, flush=True)

    def show_end(self, outcome: str) -> None:
        took = duration(self.elapsed_s)
        print(f"\r\x1b[K{self.label}: {outcome} ({took})", file=self.stream, flush=True)


def display_for(stream: TextIO) -> Display:
    """The display that fits where `stream` goes; characters that it cannot write are replaced."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return TerminalDisplay(stream) if stream.isatty() else PlainDisplay(stream)
