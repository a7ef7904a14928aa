"""Command line of the set-up: `python3 -m tools.setup [group …]`."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.setup.cluster_tools import ClusterTools
from tools.setup.debian import DebianPackages
from tools.setup.display import display_for
from tools.setup.errors import CommandFailedError, SetupError
from tools.setup.golang import Go
from tools.setup.layout import ARCHITECTURES, Layout, machine_architecture
from tools.setup.native import shim_build, simulator_build
from tools.setup.python_environment import PythonEnvironment
from tools.setup.step import Step, run_steps

MINIMUM_PYTHON = (3, 11)


def _debian(layout: Layout) -> list[Step]:
    own = Path(__file__).with_name("debian-packages.txt")
    return [DebianPackages([own, layout.root / "tests" / "cluster" / "debian-packages.txt"])]


def _python(layout: Layout) -> list[Step]:
    return [PythonEnvironment(layout)]


def _cluster(layout: Layout) -> list[Step]:
    go = Go(layout)
    return [go, ClusterTools(layout, go)]


def _native(layout: Layout) -> list[Step]:
    shims: list[Step] = [shim_build(layout, architecture) for architecture in ARCHITECTURES]
    return [*shims, simulator_build(layout, machine_architecture())]


# In the order in which they build on each other.
GROUPS: dict[str, Callable[[Layout], list[Step]]] = {
    "debian": _debian,
    "python": _python,
    "native": _native,
    "cluster": _cluster,
}


def set_up(layout: Layout, groups: Sequence[str]) -> None:
    """Run the steps of some groups; a second run beside this one waits for it. Raises SetupError."""
    layout.logs.mkdir(parents=True, exist_ok=True)
    with (layout.build / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        steps = [step for name in GROUPS if name in groups for step in GROUPS[name](layout)]
        run_steps(steps, display_for(sys.stdout), layout.logs)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m tools.setup", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"some of: {', '.join(GROUPS)} (all)")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.groups) - set(GROUPS))
    if unknown:
        parser.error(f"unknown group: {', '.join(unknown)}")
    return arguments


def main(argv: Sequence[str]) -> int:
    """Exit status 0: everything is there; 1: a step failed; 2: wrong usage; 130: interrupted."""
    arguments = _arguments(argv)
    if sys.version_info < MINIMUM_PYTHON:
        print(f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer is needed", file=sys.stderr)
        return 1
    layout = Layout.of(Path(__file__).resolve().parents[2], os.environ)
    try:
        set_up(layout, arguments.groups or list(GROUPS))
    except CommandFailedError as error:
        print("\n".join(f"    | {line}" for line in error.tail), file=sys.stderr)
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up: interrupted; what was finished stays", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
