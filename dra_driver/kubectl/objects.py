"""Where the plugin's objects come from: the cluster of a kubeconfig, or a file that `kubectl get -o yaml` wrote."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dra_driver.errors import SettingsRejected
from dra_driver.kube.connection import Connection, JsonObject, ServerConnection
from dra_driver.kube.errors import Forbidden, NotFound

_RESOURCE = "/apis/resource.k8s.io/v1"
_PAGE = "500"
_FALLBACK = "default"


@dataclass(frozen=True)
class Kind:
    """A kind that is read; without an optional one the plugin goes on and says what that means."""

    path: str
    kind: str
    without: str = ""


_KINDS = (
    Kind(f"{_RESOURCE}/resourceslices", "ResourceSlice"),
    Kind(f"{_RESOURCE}/deviceclasses", "DeviceClass"),
    Kind(f"{_RESOURCE}/resourceclaims", "ResourceClaim"),
    Kind("/api/v1/nodes", "Node", "nodes are those that slices name, and their labels are unknown"),
    Kind(f"{_RESOURCE}/devicetaintrules", "DeviceTaintRule", "taints that rules add are not seen"),
)


@dataclass(frozen=True)
class Found:
    """Objects, the namespace that is meant unless another is named, and what could not be read."""

    objects: tuple[JsonObject, ...]
    namespace: str
    notes: tuple[str, ...] = ()


def from_file(path: Path) -> Found:
    """Read JSON or YAML, one document or several; `-` is standard input. Raises SettingsRejected."""
    try:
        text = sys.stdin.read() if path == Path("-") else path.read_text()
        documents = [json.loads(text)] if path.suffix == ".json" else list(yaml.safe_load_all(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsRejected(f"{path}: {error}") from error
    found = tuple(document for document in documents if document is not None)
    if not all(isinstance(document, dict) for document in found):
        raise SettingsRejected(f"{path}: it holds something that is no Kubernetes object")
    return Found(found, _FALLBACK)


def kubeconfig_path(given: str, environment: Mapping[str, str] = os.environ) -> str:
    """The file that kubectl would use: the flag, $KUBECONFIG (its first file), ~/.kube/config; or empty."""
    named = given or environment.get("KUBECONFIG", "").split(os.pathsep)[0]
    usual = Path(environment.get("HOME", "/")) / ".kube" / "config"
    return named or (str(usual) if usual.exists() else "")


async def from_cluster(kubeconfig: str, pods_of: Iterable[str] = ()) -> Found:
    """Read the cluster; `pods_of` names namespaces whose pods are read too. Raises SettingsRejected, KubeError."""
    async with await ServerConnection.open(kubeconfig) as connection:
        return await read(connection, namespace_of(kubeconfig), pods_of)


async def slices_of_cluster(kubeconfig: str) -> tuple[JsonObject, ...]:
    """Read the slices alone. Raises SettingsRejected, KubeError."""
    async with await ServerConnection.open(kubeconfig) as connection:
        return tuple(await _all(connection, _KINDS[0]))


async def read(connection: Connection, namespace: str, pods_of: Iterable[str] = ()) -> Found:
    """Read all kinds by a connection. Raises KubeError."""
    objects: list[JsonObject] = []
    notes = []
    pods = (Kind(f"/api/v1/namespaces/{name or namespace}/pods", "Pod") for name in pods_of)
    for kind in (*_KINDS, *pods):
        try:
            objects += await _all(connection, kind)
        except (Forbidden, NotFound) as error:
            if not kind.without:
                raise
            if isinstance(error, Forbidden):
                notes.append(f"{kind.kind}s may not be read: {kind.without}")
    return Found(tuple(objects), namespace, tuple(notes))


async def _all(connection: Connection, kind: Kind) -> list[JsonObject]:
    found: list[JsonObject] = []
    query = {"limit": _PAGE}
    while True:
        answer: dict[str, Any] = await connection.request("GET", kind.path, query=query)
        # Items of a list do not name their kind.
        found += [{**item, "kind": kind.kind} for item in answer.get("items") or ()]
        following = (answer.get("metadata") or {}).get("continue")
        if not following:
            return found
        query = {"limit": _PAGE, "continue": str(following)}


def namespace_of(kubeconfig: str) -> str:
    """The namespace of the current context."""
    if not kubeconfig:
        return _FALLBACK
    try:
        content = yaml.safe_load(Path(kubeconfig).read_text())
        contexts = {entry["name"]: entry.get("context") or {} for entry in content.get("contexts") or ()}
        return str(contexts.get(content.get("current-context"), {}).get("namespace") or _FALLBACK)
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
        raise SettingsRejected(f"kubeconfig {kubeconfig}: {error}") from error
