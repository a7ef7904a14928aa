"""What a cluster's folder says about itself: enough to go on with it, or to remove it, from any process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.cluster.control_plane import Blueprint
from tests.cluster.errors import ClusterError, UnsafeFolder
from tests.cluster.machine import MachineState
from tests.cluster.network import Network
from tests.cluster.paths import LocalPaths
from tests.cluster.pki import Certificate

KIND = "hami-dra local cluster"


@dataclass(frozen=True)
class Description:
    """The content of cluster.json; `network` is absent until it is made."""

    node_name: str
    binaries: str
    cgroup: str
    machine: MachineState
    feature_gates: dict[str, bool] = field(default_factory=dict)
    runtimes: dict[str, list[str]] = field(default_factory=dict)
    kubernetes: str = ""
    """The folder of Kubernetes' programs, where it is not `binaries`."""
    network: Network | None = None

    def with_network(self, network: Network) -> Description:
        """The same, with the network's addresses."""
        return replace(self, network=network)


def write(paths: LocalPaths, description: Description) -> None:
    """Writes cluster.json in one step."""
    beside = paths.description.with_suffix(".tmp")
    beside.write_text(json.dumps({"kind": KIND, **asdict(description)}, indent=2))
    beside.replace(paths.description)


def read(paths: LocalPaths) -> Description | None:
    """The description, or None where there is no cluster. Raises UnsafeFolder for somebody else's file."""
    if not paths.description.exists():
        return None
    content = json.loads(paths.description.read_text())
    if content.pop("kind", None) != KIND:
        raise UnsafeFolder(f"{paths.description} does not describe a local cluster")
    machine = content.pop("machine")
    network = content.pop("network")
    return Description(
        **content,
        machine=MachineState(machine["parameters"], tuple(machine["absent_folders"])),
        network=Network(**network) if network else None,
    )


def blueprint(paths: LocalPaths, description: Description) -> Blueprint:
    """What command lines are made from; raises ClusterError for a cluster that was never fully made."""
    if description.network is None:
        raise ClusterError(f"the cluster in {paths.folder} has no network: run `up` again")
    return Blueprint(
        paths=paths,
        binaries=Path(description.binaries),
        kubernetes=Path(description.kubernetes or description.binaries),
        network=description.network,
        node_name=description.node_name,
        cgroup=description.cgroup,
        authority=Certificate(paths.pki("ca.crt"), paths.pki("ca.key")),
        certificates={
            path.stem: Certificate(path, path.with_suffix(".key"))
            for path in paths.pki("").glob("*.crt")
            if path.stem != "ca"
        },
        feature_gates=description.feature_gates,
        runtimes=description.runtimes,
    )
