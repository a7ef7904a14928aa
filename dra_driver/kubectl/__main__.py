"""The command `kubectl vgpu` (kubectl finds it as `kubectl-vgpu` on the path).

Exit codes: 0 it fits, or was shown; 1 an error; 2 it does not fit; 3 it cannot be told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from dra_driver.errors import HamiDraError, SettingsRejected
from dra_driver.explain.state import State, flatten, parse_state
from dra_driver.kubectl import commands
from dra_driver.kubectl.objects import Found, from_cluster, from_file, kubeconfig_path
from dra_driver.kubectl.targets import find

_DRIVER = "vgpu.hami.io"
_ERROR = 1


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        found = _objects(options)
        for note in found.notes:
            print(f"note: {note}", file=sys.stderr)
        answer = _answer(options, found, parse_state(found.objects))
    except (HamiDraError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _ERROR
    print(json.dumps(answer.values, indent=2) if options.output == "json" else answer.lines)
    return answer.code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--from", dest="file", metavar="FILE", help="read objects from a file, not from the cluster")
    common.add_argument("--kubeconfig", default="", help="default: $KUBECONFIG, ~/.kube/config")
    common.add_argument("-n", "--namespace", default="", help="default: that of the kubeconfig's context")
    common.add_argument("-o", "--output", choices=("table", "json"), default="table")
    common.add_argument("--driver", default=_DRIVER, help="whose cards to show (default: %(default)s)")
    parser = argparse.ArgumentParser(prog="kubectl vgpu", description="Shared cards: who has what, why claims wait.")
    add = parser.add_subparsers(dest="command", required=True).add_parser
    add("nodes", parents=[common], help="nodes with cards, and how full they are")
    add("devices", parents=[common], help="cards, and who has what of them")
    claims = add("claims", parents=[common], help="claims with their cards, or why they wait")
    claims.add_argument("-A", "--all-namespaces", action="store_true")
    explain = add("explain", parents=[common], help="why a claim, or a pod's claims, wait; what would let them in")
    explain.add_argument("target", help="claim/NAME, pod/NAME or NAME")
    fit = add("fit", parents=[common], help="whether a claim that does not exist yet would fit, where, how often")
    fit.add_argument("-f", "--filename", required=True, help="a ResourceClaim or ResourceClaimTemplate, YAML or JSON")
    return parser


def _objects(options: argparse.Namespace) -> Found:
    if options.file:
        return from_file(Path(options.file))
    pods_of = [options.namespace] if options.command == "explain" else []
    return asyncio.run(from_cluster(kubeconfig_path(options.kubeconfig), pods_of))


def _answer(options: argparse.Namespace, found: Found, state: State) -> commands.Answer:
    namespace = options.namespace or found.namespace
    if options.command == "nodes":
        return commands.nodes(state, options.driver)
    if options.command == "devices":
        return commands.devices(state, options.driver)
    if options.command == "claims":
        return commands.claims(state, options.driver, "" if options.all_namespaces else namespace)
    if options.command == "explain":
        return commands.explain_claims(state, find(state, tuple(flatten(found.objects)), options.target, namespace))
    if options.command == "fit":
        return commands.fit(state, tuple(flatten(from_file(Path(options.filename)).objects)), namespace)
    raise SettingsRejected(f"unknown command {options.command}")


if __name__ == "__main__":
    sys.exit(main())
