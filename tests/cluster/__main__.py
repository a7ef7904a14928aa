"""The command `python -m tests.cluster`: a cluster for people, with the same code that tests use."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import debian, launching, releases, removal, status, toolchain
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.launching import Options
from tests.cluster.paths import DEFAULT_FOLDER, FOLDER_VARIABLE, local_paths
from tests.cluster.progress import Progress


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--dir", type=Path, help=f"the cluster's folder (${FOLDER_VARIABLE}, {DEFAULT_FOLDER})")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start the cluster, and build its programs the first time")
    up.add_argument("--go", help="the Go command to build with")
    up.add_argument("--image", type=Path, action="append", default=[], help="an image archive to import")
    up.add_argument("--feature-gate", action="append", default=[], metavar="NAME=true|false")
    up.add_argument(
        "--kubernetes",
        metavar="MINOR",
        help=f"the release, of {', '.join(releases.known())} (${releases.VERSION_VARIABLE}, the newest)",
    )
    down = commands.add_parser("down", help="stop the cluster and remove all of it")
    down.add_argument("--keep", action="store_true", help="leave the folder with logs and state")
    commands.add_parser("status", help="show the components (exit status 1 unless all is well)")
    commands.add_parser("env", help="print shell commands that set KUBECONFIG and PATH")
    tools = commands.add_parser("tools", help="build the programs only, and print their folder")
    tools.add_argument("--go", help="the Go command to build with")
    logs = commands.add_parser("logs", help="print a component's log")
    logs.add_argument("component")
    restart = commands.add_parser("restart", help="restart a component")
    restart.add_argument("component")
    commands.add_parser("packages", help="print the Debian packages that the cluster needs")
    kubectl = commands.add_parser("kubectl", help="kubectl as administrator", add_help=False)
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _up(options: argparse.Namespace) -> None:
    gates = releases.parse_gates(options.feature_gate)
    release = releases.release(options.kubernetes) if options.kubernetes else releases.wanted(os.environ)
    chosen = Options(go=options.go, images=options.image, feature_gates=gates, release=release)
    Cluster.up(options.dir, chosen)


def _down(options: argparse.Namespace) -> None:
    paths = local_paths(options.dir)
    with launching.exclusive(paths):
        removal.remove(paths, Progress(), keep_folder=options.keep)


def _env(options: argparse.Namespace) -> None:
    cluster = Cluster.attach(options.dir)
    tools = Path(cluster.kubectl_program).parent
    print(f"export KUBECONFIG={shlex.quote(str(cluster.admin_kubeconfig))}; PATH={shlex.quote(str(tools))}:$PATH")


def _kubectl(options: argparse.Namespace) -> None:
    cluster = Cluster.attach(options.dir)
    program = cluster.kubectl_program
    # In place of this process, so that terminals, signals and exit status are kubectl's own.
    os.execv(program, [program, f"--kubeconfig={cluster.admin_kubeconfig}", *options.arguments])


def _run(options: argparse.Namespace) -> int:
    if options.command == "up":
        _up(options)
    elif options.command == "down":
        _down(options)
    elif options.command == "status":
        text, well = status.table(local_paths(options.dir))
        print(text)
        return 0 if well else 1
    elif options.command == "env":
        _env(options)
    elif options.command == "tools":
        print(toolchain.ensure(Progress(), go=options.go))
    elif options.command == "logs":
        print(Cluster.attach(options.dir).logs(options.component), end="")
    elif options.command == "restart":
        Cluster.attach(options.dir).restart(options.component)
    elif options.command == "packages":
        print("\n".join(debian.packages()))
    else:
        _kubectl(options)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; errors that this package knows become one message and the exit status 1."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (ClusterError, OSError) as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
