"""Admission on the local cluster: the manifests as they are, but called by an address instead of by a Service."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.cluster.cluster import Cluster
from tests.stack.controller import Replica
from tests.stack.places import MANIFESTS

Wire = dict[str, Any]
_ADDRESS = re.compile(r'"address": "(?P<address>[^"]+)", "event": "admission_serving"')


def address_of(replica: Replica) -> str:
    """Where a replica answers the API server; empty while it does not."""
    match = _ADDRESS.search(replica.log) if replica.running else None
    return match["address"] if match else ""


def configurations(address: str) -> list[Wire]:
    """The webhook configurations of the installation, which call that address."""
    found: list[Wire] = []
    for file in sorted((MANIFESTS / "admission").glob("*.yaml")):
        for wire in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            for webhook in wire["webhooks"]:
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {"url": f"https://{address}{path}"}
            found.append(wire)
    return found


def install(cluster: Cluster, address: str) -> None:
    """Let the API server ask there."""
    cluster.apply(*configurations(address))


def uninstall(cluster: Cluster) -> None:
    """Let the API server ask nobody."""
    cluster.kubectl("delete", "--ignore-not-found", "-f", str(MANIFESTS / "admission"))
