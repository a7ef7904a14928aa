"""The command `hami-dra`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import signal
import sys

from dra_driver.errors import HamiDraError, SettingsRejected
from dra_driver.settings import Gathered, add_flags, gather

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code: 0 done, 1 failed, 2 wrong settings."""
    parser = argparse.ArgumentParser(prog="hami-dra", description="Shares accelerators between Kubernetes pods.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_flags(commands.add_parser("kubeletplugin", help="run the node plugin"))
    commands.add_parser("version", help="print the version")
    options = parser.parse_args(arguments)
    if options.command == "version":
        print(importlib.metadata.version("hami-dra"))
        return 0
    try:
        return asyncio.run(_kubeletplugin(gather(vars(options), os.environ)))
    except SettingsRejected as error:
        print(f"hami-dra: {error}", file=sys.stderr)
        return _EXIT_USAGE


async def _kubeletplugin(gathered: Gathered) -> int:
    # Loaded here: `hami-dra version` and a wrong setting need none of it.
    import structlog

    from dra_driver import logs
    from dra_driver.footprint import share_heaps
    from dra_driver.kube.connection import ServerConnection
    from dra_driver.kubeletplugin.plugin import run
    from dra_driver.wiring import open_backends

    share_heaps()
    settings = gathered.settings
    logs.configure(level=settings.log_level, style=settings.log_format)
    for source, values in gathered.by_source().items():
        structlog.get_logger(__name__).info("settings_read", source=source.value, settings=values)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    backends = open_backends(settings)
    try:
        async with await ServerConnection.open(settings.kubeconfig) as connection:
            await run(settings, connection, backends, stop)
    except SettingsRejected:
        raise
    except (HamiDraError, OSError) as error:
        structlog.get_logger(__name__).error("plugin_failed", error=str(error), kind=type(error).__name__)
        return _EXIT_FAILED
    finally:
        for backend in backends.values():
            backend.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
