"""One bridge of our own carries the API server, the node and the pods.

The kubelet refuses a loopback address, and a machine's own address should not carry a test cluster. So
every cluster takes a free 10.x.0.0/16 for itself:

    10.x.0.0/20     services; 10.x.0.1 is the API server itself, so that pods reach it without a kube-proxy
    10.x.64.1       the node
    10.x.128.0/24   pods; 10.x.128.1 is their gateway
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tests.cluster.commands import run
from tests.cluster.errors import ClusterError, CommandFailed


@dataclass(frozen=True)
class Network:
    """The addresses of one cluster, and the ports chosen on them."""

    bridge: str
    number: int
    api_port: int = 0
    etcd_port: int = 0
    etcd_peer_port: int = 0
    kubelet_port: int = 0
    kubelet_health_port: int = 0
    controllers_port: int = 0
    scheduler_port: int = 0

    @property
    def services(self) -> str:
        """The range of service addresses."""
        return f"10.{self.number}.0.0/20"

    @property
    def api_address(self) -> str:
        """The service `kubernetes`, and the address that the API server listens on."""
        return f"10.{self.number}.0.1"

    @property
    def dns_address(self) -> str:
        """Where a DNS server would be; none runs."""
        return f"10.{self.number}.0.10"

    @property
    def node_address(self) -> str:
        """The node's InternalIP."""
        return f"10.{self.number}.64.1"

    @property
    def pods(self) -> str:
        """The range of pod addresses."""
        return f"10.{self.number}.128.0/24"

    @property
    def gateway(self) -> str:
        """The bridge's address among the pods."""
        return f"10.{self.number}.128.1"

    @property
    def api_server(self) -> str:
        """The API server's URL."""
        return f"https://{self.api_address}:{self.api_port}"

    def as_json(self) -> dict[str, str | int]:
        """For the cluster's description."""
        return asdict(self)


def bridge_name(identity: str) -> str:
    """The device's name; Linux takes 15 bytes."""
    return f"hd{identity}"


def create(identity: str) -> Network:
    """Makes the bridge on a free range and chooses free ports on it."""
    remove(bridge_name(identity))
    network = Network(bridge_name(identity), _free_range(int(identity, 16)))
    # Without an address of its own a bridge takes the lowest of its ports', and changes it as pods come and go: what
    # pods know of the way to the node would be wrong for up to a minute each time.
    run(("ip", "link", "add", network.bridge, "address", _hardware_address(identity), "type", "bridge"))
    for address in (f"{network.api_address}/32", f"{network.node_address}/32", f"{network.gateway}/24"):
        run(("ip", "address", "add", address, "dev", network.bridge))
    run(("ip", "link", "set", network.bridge, "up"))
    node = network.node_address
    ports = [_free_port(node, first) for first in (12379, 12380, 12250, 12248, 12257, 12259)]
    # 443 is what the service `kubernetes` promises to pods.
    api_port = _free_port(network.api_address, 443, otherwise=12443)
    return Network(network.bridge, network.number, api_port, *ports)


def _hardware_address(identity: str) -> str:
    """A locally administered address, the same for the same cluster."""
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return ":".join(("02", *(digest[start : start + 2] for start in range(0, 10, 2))))


def remove(bridge: str) -> None:
    """Removes the bridge and the pods' ends that hang on it; absent is fine."""
    for port in _links("master", bridge):
        with contextlib.suppress(CommandFailed):
            run(("ip", "link", "delete", port))
    if bridge in _links():
        run(("ip", "link", "delete", bridge))


def _links(*selection: str) -> list[str]:
    try:
        listed = json.loads(run(("ip", "-json", "link", "show", *selection)) or "[]")
    except CommandFailed:
        # `master` names a device that is not there.
        return []
    return [one["ifname"] for one in listed if one]


def _free_range(seed: int) -> int:
    """The second byte of a 10.x.0.0/16 that overlaps nothing this machine routes."""
    taken = list(_routed())
    for step in range(100):
        number = 100 + (seed + step) % 100
        candidate = ipaddress.ip_network(f"10.{number}.0.0/16")
        if not any(candidate.overlaps(one) for one in taken):
            return number
    raise ClusterError("no 10.x.0.0/16 between 10.100 and 10.199 is free on this machine")


def _routed() -> Iterable[ipaddress.IPv4Network]:
    for route in json.loads(run(("ip", "-json", "-4", "route", "show", "table", "all")) or "[]"):
        # default, and types such as `unreachable`, say nothing about a range.
        with contextlib.suppress(ValueError):
            yield ipaddress.IPv4Network(route["dst"], strict=False)


def _free_port(address: str, first: int, *, otherwise: int | None = None) -> int:
    start = first if otherwise is None else otherwise
    for port in (first, *range(start, start + 500, 20)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((address, port))
                return int(port)
    raise ClusterError(f"no free port found on {address} from {first} on")
