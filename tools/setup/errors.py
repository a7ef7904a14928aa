"""Errors of the set-up: each is one sentence for the person at the terminal, without a trace.

SetupError
└── CommandFailedError   a program ended with a non-zero status; carries its log
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class SetupError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


class CommandFailedError(SetupError):
    """A program failed. `tail` holds the last lines of its output, `log` all of them."""

    def __init__(self, argv: Sequence[str], status: int, log: Path, tail: Sequence[str]) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.log = log
        self.tail = tuple(tail)
        super().__init__(f"'{argv[0]}' ended with status {status}; the whole output is in {log}")
