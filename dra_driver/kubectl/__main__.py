"""The command `kubectl vgpu` (kubectl finds it as `kubectl-vgpu` on the path).

Exit codes: 0 it fits, or was shown; 1 an error; 2 it does not fit; 3 it cannot be told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from dra_driver.errors import HamiDraError, SettingsRejected
from dra_driver.explain.state import State, flatten, parse_state
from dra_driver.kube.quantities import whole
from dra_driver.kubectl import commands
from dra_driver.kubectl.converting import as_yaml, convert
from dra_driver.kubectl.manifests import read_manifests
from dra_driver.kubectl.objects import Found, from_cluster, from_file, kubeconfig_path, slices_of_cluster
from dra_driver.kubectl.targets import find, waiting_pod
from dra_driver.migration.card_sizes import sizes_in
from dra_driver.migration.claiming import Context
from dra_driver.migration.conventions import DEFAULT
from dra_driver.migration.device_config import read_device_config

_DRIVER = "vgpu.hami.io"
_ERROR = 1


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "convert":
            return _convert(options)
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
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--from", dest="file", metavar="FILE", help="read objects from a file, not from the cluster")
    place.add_argument("--kubeconfig", default="", help="default: $KUBECONFIG, ~/.kube/config")
    place.add_argument("--driver", default=_DRIVER, help="whose cards are meant (default: %(default)s)")
    common = argparse.ArgumentParser(add_help=False, parents=[place])
    common.add_argument("-n", "--namespace", default="", help="default: that of the kubeconfig's context")
    common.add_argument("-o", "--output", choices=("table", "json"), default="table")
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
    convert = add("convert", parents=[place], help="manifests written for HAMi as manifests that need no HAMi")
    convert.add_argument("-f", "--filename", action="append", required=True, help="a file, a folder, or -")
    convert.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    convert.add_argument(
        "--card-memory", default="", help="sizes of the cards, by comma, for percentages (default: those published)"
    )
    convert.add_argument("--device-config", default="", help="HAMi's device-config.yaml, where it was changed")
    return parser


def _convert(options: argparse.Namespace) -> int:
    """Print the converted manifests, or nothing where one of them cannot be mapped."""
    manifests = read_manifests(options.filename)
    conventions = read_device_config(Path(options.device_config)) if options.device_config else DEFAULT
    converted = convert(manifests, Context(options.driver, conventions), lambda: _card_sizes(options))
    for warning in converted.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for problem in converted.problems:
        print(f"error: {problem}", file=sys.stderr)
    if converted.problems:
        return _ERROR
    listed = {"apiVersion": "v1", "kind": "List", "items": list(converted.objects)}
    print(json.dumps(listed, indent=2) if options.output == "json" else as_yaml(converted.objects))
    return 0


def _card_sizes(options: argparse.Namespace) -> Mapping[str, frozenset[int]]:
    """The sizes that percentages are of: as given, or as published in the file or the cluster."""
    if options.card_memory:
        return {"nvidia": _amounts(options.card_memory)}
    if options.file:
        objects = tuple(flatten(from_file(Path(options.file)).objects))
        slices = tuple(wire for wire in objects if wire.get("kind") == "ResourceSlice")
    else:
        slices = asyncio.run(slices_of_cluster(kubeconfig_path(options.kubeconfig)))
    return sizes_in(slices, driver=options.driver)


def _amounts(text: str) -> frozenset[int]:
    try:
        return frozenset(whole(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise SettingsRejected(f"--card-memory: {error}") from error


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
        objects = tuple(flatten(found.objects))
        claims = find(state, objects, options.target, namespace)
        return commands.explain_claims(state, claims, waiting_pod(state, objects, options.target, namespace))
    if options.command == "fit":
        return commands.fit(state, tuple(flatten(from_file(Path(options.filename)).objects)), namespace)
    raise SettingsRejected(f"unknown command {options.command}")


if __name__ == "__main__":
    sys.exit(main())
