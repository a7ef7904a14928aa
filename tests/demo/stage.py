"""How the demo talks: a heading, some words, the command as typed, and what it really printed."""

from __future__ import annotations

import sys
import textwrap

from tests.cluster.cluster import Cluster

WIDTH = 100


class Stage:
    """Says things and runs kubectl in front of the audience."""

    def __init__(self) -> None:
        self._steps = 0
        self._colours = sys.stdout.isatty()

    def step(self, title: str, words: str = "") -> None:
        """Begin a part."""
        self._steps += 1
        self._print(f"\n{self._bold(f'{self._steps}. {title}')}")
        if words:
            self._print(textwrap.fill(" ".join(words.split()), WIDTH))

    def say(self, words: str) -> None:
        """Explain what was just seen."""
        self._print(textwrap.fill(" ".join(words.split()), WIDTH, initial_indent="  -> ", subsequent_indent="     "))

    def show(self, text: str) -> None:
        """Show output."""
        self._print(textwrap.indent(text.rstrip(), "  "))

    def kubectl(self, cluster: Cluster, *arguments: str) -> str:
        """Run kubectl and show it, as typed."""
        self.command(f"kubectl {' '.join(arguments)}")
        output = cluster.kubectl(*arguments)
        self.show(output)
        return output

    def command(self, typed: str) -> None:
        """Show a command."""
        self._print(f"\n  $ {typed}")

    def _bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._colours else text

    def _print(self, text: str) -> None:
        print(text, flush=True)
