"""One step of the set-up, and the loop that runs them in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tools.setup.command import CommandLog
from tools.setup.display import Display


class Step(Protocol):
    """Something that must be there before the project can be built or tested."""

    @property
    def name(self) -> str:
        """The word that picks the step on the command line, and names its log."""

    @property
    def title(self) -> str:
        """What the person at the terminal reads."""

    def is_done(self) -> bool:
        """Quick, and without side effects."""

    def perform(self, log: CommandLog) -> None:
        """Do it; doing it twice does no harm. Raises SetupError."""


def run_steps(steps: Sequence[Step], display: Display, logs: Path) -> None:
    """Run each step that is not done, in order; the first SetupError ends the run."""
    for number, step in enumerate(steps, start=1):
        display.begin(f"[{number}/{len(steps)}] {step.title}")
        outcome = "failed"
        try:
            if step.is_done():
                outcome = "nothing to do"
            else:
                step.perform(CommandLog(logs / f"setup-{step.name}.log", display.detail))
                outcome = "done"
        finally:
            display.end(outcome)
