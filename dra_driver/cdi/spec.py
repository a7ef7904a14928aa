"""The part of the CDI specification that we write, as values.

Source: github.com/cncf-tags/container-device-interface, SPEC.md. 0.6.0 is the version written: it has all that
is used here, and every runtime with CDI switched on by default reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CDI_VERSION = "0.6.0"


@dataclass(frozen=True)
class Edits:
    """What is changed in a container. Environment entries are `NAME=value`; mounts are bind mounts."""

    environment: tuple[str, ...] = ()
    mounts: tuple[BindMount, ...] = ()
    device_nodes: tuple[Node, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Write as `containerEdits`; empty parts are left out."""
        parts = {
            "env": list(self.environment),
            "deviceNodes": [node.to_json() for node in self.device_nodes],
            "mounts": [mount.to_json() for mount in self.mounts],
        }
        return {name: part for name, part in parts.items() if part}


@dataclass(frozen=True)
class BindMount:
    """A bind mount; never with suid binaries or device nodes in it."""

    host_path: str
    container_path: str
    read_only: bool

    def to_json(self) -> dict[str, Any]:
        """Write as an entry of `mounts`."""
        options = ["ro" if self.read_only else "rw", "nosuid", "nodev", "bind"]
        return {"hostPath": self.host_path, "containerPath": self.container_path, "options": options}


@dataclass(frozen=True)
class Node:
    """A device node."""

    path: str
    host_path: str

    def to_json(self) -> dict[str, Any]:
        """Write as an entry of `deviceNodes`."""
        return {"path": self.path, "hostPath": self.host_path}


@dataclass(frozen=True)
class CdiDevice:
    """One device of a spec."""

    name: str
    edits: Edits

    def to_json(self) -> dict[str, Any]:
        """Write as an entry of `devices`."""
        return {"name": self.name, "containerEdits": self.edits.to_json()}


@dataclass(frozen=True)
class Spec:
    """One CDI file. Annotations say something of the file; no container sees them."""

    kind: str
    devices: tuple[CdiDevice, ...]
    annotations: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Write the whole file."""
        whole: dict[str, Any] = {"cdiVersion": CDI_VERSION, "kind": self.kind}
        if self.annotations:
            whole["annotations"] = dict(self.annotations)
        return {**whole, "devices": [device.to_json() for device in self.devices]}


def device_id(kind: str, name: str) -> str:
    """Name a device as the kubelet hands it to the runtime."""
    return f"{kind}={name}"
