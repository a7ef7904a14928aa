"""Reads the configuration file again when it changes, and brings what may change while the plugin runs into effect.

The file is looked at by its identity, time and size, which also notices the swapped links of a mounted ConfigMap. A
change that is wrong is refused whole, and what was in effect stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from dra_driver.configuration import Cards, NodeConfig, read_configuration
from dra_driver.errors import SettingsRejected

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Identity = tuple[int, int, int]


class ConfigurationWatch:
    """Watches one file."""

    def __init__(
        self,
        path: Path,
        *,
        configure: Callable[[Cards], None],
        outcome: Callable[[bool], None],
        poll_seconds: float,
    ) -> None:
        """`configure` takes another configuration of the cards, blocking, or raises SettingsRejected.

        `outcome` is told, on the event loop, whether a change was taken.
        """
        self._path = path
        self._configure = configure
        self._outcome = outcome
        self._poll_seconds = poll_seconds
        self._seen = _identity(path)
        self._current = _read_or_none(path)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            identity = await asyncio.to_thread(_identity, self._path)
            if identity != self._seen:
                self._seen = identity
                self._outcome(await asyncio.to_thread(self._take))

    def _take(self) -> bool:
        try:
            config = read_configuration(self._path)
            self._configure(config.cards)
        except SettingsRejected as error:
            log.error("configuration_refused", path=str(self._path), error=str(error), kept="the one before")
            return False
        before, self._current = self._current, config
        if before is not None and before.settings != config.settings:
            changed = sorted(
                name
                for name in {*before.settings, *config.settings}
                if before.settings.get(name) != config.settings.get(name)
            )
            log.warning("configuration_needs_restart", path=str(self._path), settings=changed)
        log.info("configuration_taken", path=str(self._path))
        return True


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_or_none(path: Path) -> NodeConfig | None:
    try:
        return read_configuration(path)
    except SettingsRejected:
        return None
