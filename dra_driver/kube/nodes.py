"""The node that the plugin runs on, as the API server knows it."""

from __future__ import annotations

from dataclasses import dataclass

from dra_driver.kube.connection import Connection


@dataclass(frozen=True)
class Node:
    """A node's identity, for owner references."""

    name: str
    uid: str


async def read_node(connection: Connection, name: str) -> Node:
    """Read the node by name. Raises KubeError."""
    wire = await connection.request("GET", f"/api/v1/nodes/{name}")
    return Node(name, str(wire["metadata"]["uid"]))
