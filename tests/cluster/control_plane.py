"""The command lines of etcd, API server, controllers and scheduler, as a small production cluster has them.

Node and RBAC authorisation, NodeRestriction and service accounts are on, and every component has an
identity of its own: what is proved here about rights must hold elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.network import Network
from tests.cluster.paths import LocalPaths
from tests.cluster.pki import Certificate

SERVICE_ACCOUNT_ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class Blueprint:
    """Everything that a command line or a configuration file is made from."""

    paths: LocalPaths
    binaries: Path
    kubernetes: Path
    """Kubernetes' own programs, where they are of another release than `binaries`; the same folder otherwise."""
    network: Network
    node_name: str
    cgroup: str
    authority: Certificate
    certificates: Mapping[str, Certificate]
    feature_gates: Mapping[str, bool]
    runtimes: Mapping[str, Sequence[str]]
    """Container runtimes beside runc, by their handlers' names: command lines, an OCI runtime's arguments follow."""

    def program(self, name: str) -> str:
        """The full path of one of the built programs."""
        own = self.kubernetes / name
        return str(own if own.exists() else self.binaries / name)


def _flags(values: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _gates(plan: Blueprint) -> dict[str, str]:
    if not plan.feature_gates:
        return {}
    gates = ",".join(f"{name}={str(on).lower()}" for name, on in plan.feature_gates.items())
    return {"feature-gates": gates}


def etcd(plan: Blueprint) -> list[str]:
    """etcd without fsync: the data need not outlive the machine."""
    address, own = plan.network.node_address, plan.certificates["etcd"]
    client = f"https://{address}:{plan.network.etcd_port}"
    peer = f"https://{address}:{plan.network.etcd_peer_port}"
    values = {
        "name": "local",
        "data-dir": plan.paths.folder / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"local={peer}",
        "cert-file": own.cert,
        "key-file": own.key,
        "trusted-ca-file": plan.authority.cert,
        "client-cert-auth": "true",
        "peer-cert-file": own.cert,
        "peer-key-file": own.key,
        "peer-trusted-ca-file": plan.authority.cert,
        "peer-client-cert-auth": "true",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    return [plan.program("etcd"), *_flags(values)]


def apiserver(plan: Blueprint) -> list[str]:
    """The API server, on the address of the service `kubernetes`."""
    network, own, pki = plan.network, plan.certificates, plan.paths.pki
    values = {
        "bind-address": network.api_address,
        "advertise-address": network.api_address,
        "secure-port": network.api_port,
        "tls-cert-file": own["kube-apiserver"].cert,
        "tls-private-key-file": own["kube-apiserver"].key,
        "client-ca-file": plan.authority.cert,
        "etcd-servers": f"https://{network.node_address}:{network.etcd_port}",
        "etcd-cafile": plan.authority.cert,
        "etcd-certfile": own["apiserver-etcd"].cert,
        "etcd-keyfile": own["apiserver-etcd"].key,
        "kubelet-certificate-authority": plan.authority.cert,
        "kubelet-client-certificate": own["apiserver-kubelet"].cert,
        "kubelet-client-key": own["apiserver-kubelet"].key,
        "kubelet-preferred-address-types": "InternalIP",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-account-issuer": SERVICE_ACCOUNT_ISSUER,
        "service-account-signing-key-file": pki("sa.key"),
        "service-account-key-file": pki("sa.pub"),
        "service-cluster-ip-range": network.services,
        "allow-privileged": "true",
        # Otherwise open watches hold up its end for a minute.
        "shutdown-watch-termination-grace-period": "2s",
        "profiling": "false",
        **_gates(plan),
    }
    return [plan.program("kube-apiserver"), *_flags(values)]


def controller_manager(plan: Blueprint) -> list[str]:
    """All controllers, each with the rights of its own service account."""
    own, kubeconfig = plan.certificates["kube-controller-manager"], plan.paths.kubeconfig("kube-controller-manager")
    values = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": plan.network.node_address,
        "secure-port": plan.network.controllers_port,
        "tls-cert-file": own.cert,
        "tls-private-key-file": own.key,
        "use-service-account-credentials": "true",
        "service-account-private-key-file": plan.paths.pki("sa.key"),
        "root-ca-file": plan.authority.cert,
        "cluster-signing-cert-file": plan.authority.cert,
        "cluster-signing-key-file": plan.authority.key,
        "leader-elect": "false",
        "profiling": "false",
        **_gates(plan),
    }
    return [plan.program("kube-controller-manager"), *_flags(values)]


def scheduler(plan: Blueprint) -> list[str]:
    """The default scheduler, unchanged."""
    own, kubeconfig = plan.certificates["kube-scheduler"], plan.paths.kubeconfig("kube-scheduler")
    values = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": plan.network.node_address,
        "secure-port": plan.network.scheduler_port,
        "tls-cert-file": own.cert,
        "tls-private-key-file": own.key,
        "leader-elect": "false",
        "profiling": "false",
        **_gates(plan),
    }
    return [plan.program("kube-scheduler"), *_flags(values)]
