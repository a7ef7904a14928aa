"""The command `hami-dra`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from dra_driver.controller import settings as controller_settings
from dra_driver.controller.settings import ControllerSettings
from dra_driver.errors import HamiDraError, SettingsRejected
from dra_driver.gathering import Gathered, add_flags
from dra_driver.in_use import InUseSettings
from dra_driver.in_use import gather as gather_in_use
from dra_driver.settings import PluginSettings, gather

# A thread that has something to do for a call waits for whoever runs Python just then: not the usual 5 ms.
_SWITCH_SECONDS = 0.001
_EXIT_FAILED = 1
_EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code: 0 done, 1 failed, 2 wrong settings."""
    parser = argparse.ArgumentParser(prog="hami-dra", description="Shares accelerators between Kubernetes pods.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_flags(commands.add_parser("kubeletplugin", help="run the node plugin"), PluginSettings)
    add_flags(commands.add_parser("controller", help="run the controller"), ControllerSettings)
    cleanup = commands.add_parser("cleanup", help="remove all that the node plugin has left on this node")
    add_flags(cleanup, PluginSettings)
    cleanup.add_argument("--force", action="store_true", help="even while claims are prepared: their pods must be gone")
    in_use = commands.add_parser("in-use", help="fail while claims hold devices of the driver")
    add_flags(in_use, InUseSettings)
    commands.add_parser("version", help="print the version")
    options = parser.parse_args(arguments)
    if options.command == "version":
        print(importlib.metadata.version("hami-dra"))
        return 0
    try:
        return asyncio.run(_run(options))
    except SettingsRejected as error:
        print(f"hami-dra: {error}", file=sys.stderr)
        return _EXIT_USAGE


def _run(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Choose what a subcommand does. Raises SettingsRejected."""
    match options.command:
        case "controller":
            return _controller(controller_settings.gather(vars(options), os.environ))
        case "cleanup":
            return _cleanup(gather(vars(options), os.environ), force=options.force)
        case "in-use":
            return _in_use(gather_in_use(vars(options), os.environ))
        case _:
            return _kubeletplugin(gather(vars(options), os.environ))


async def _kubeletplugin(gathered: Gathered[PluginSettings]) -> int:
    # Loaded here: `hami-dra version` and a wrong setting need none of it.
    from dra_driver.kube.connection import ServerConnection
    from dra_driver.kubeletplugin.plugin import run
    from dra_driver.wiring import open_backends

    sys.setswitchinterval(_SWITCH_SECONDS)
    settings, stop = gathered.settings, _begun(gathered)
    backends = open_backends(settings)
    try:
        async with await ServerConnection.open(settings.kubeconfig) as connection:
            return await _exit_code("plugin_failed", run(settings, connection, backends, stop))
    finally:
        for backend in backends.values():
            backend.close()


async def _controller(gathered: Gathered[ControllerSettings]) -> int:
    from dra_driver.controller.process import run
    from dra_driver.kube.credentials import read_credentials

    settings, stop = gathered.settings, _begun(gathered)
    credentials = await asyncio.to_thread(read_credentials, settings.kubeconfig, os.environ)
    return await _exit_code("controller_failed", run(settings, credentials, stop))


async def _cleanup(gathered: Gathered[PluginSettings], *, force: bool) -> int:
    from dra_driver.kubeletplugin.cleanup import clean_node

    _begun(gathered)
    return await _exit_code("cleanup_failed", clean_node(gathered.settings, force=force))


async def _in_use(gathered: Gathered[InUseSettings]) -> int:
    from dra_driver.in_use import refuse_use
    from dra_driver.kube.connection import ServerConnection

    _begun(gathered)
    async with await ServerConnection.open(gathered.settings.kubeconfig) as connection:
        return await _exit_code("driver_in_use", refuse_use(connection, gathered.settings.driver_name))


def _begun(gathered: Gathered[Any]) -> asyncio.Event:
    """Set up what every long-running subcommand needs; returns the event that a signal to end sets."""
    import structlog

    from dra_driver import logs
    from dra_driver.footprint import share_heaps

    share_heaps()
    logs.configure(level=gathered.settings.log_level, style=gathered.settings.log_format)
    for source, values in gathered.by_source().items():
        structlog.get_logger(__name__).info("settings_read", source=source.value, settings=values)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _exit_code(failure: str, work: Coroutine[Any, Any, None]) -> int:
    """Do the work; an error that it could not go on with is logged under that name."""
    import structlog

    try:
        await work
    except SettingsRejected:
        raise
    except (HamiDraError, OSError) as error:
        structlog.get_logger(__name__).error(failure, error=str(error), kind=type(error).__name__)
        return _EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
