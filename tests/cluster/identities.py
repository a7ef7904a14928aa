"""Who is who in the cluster: one certificate per component, named as Kubernetes' own roles expect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.cluster import kubeconfig
from tests.cluster.network import Network
from tests.cluster.paths import LocalPaths
from tests.cluster.pki import Authority

ADMINISTRATORS = "system:masters"
KUBELET_CLIENT = "kube-apiserver-kubelet-client"

# The API server asks kubelets for logs under a name of its own; this role is all that it needs.
KUBELET_CLIENT_RIGHTS = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {KUBELET_CLIENT}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {KUBELET_CLIENT}}}]
"""


def create(paths: LocalPaths, network: Network, node_name: str) -> None:
    """Makes all keys, certificates and kubeconfigs of a new cluster."""
    authority = Authority(paths.folder / "pki")
    node = network.node_address
    authority.service_account_keys()
    authority.issue("etcd", "etcd", addresses=[node])
    authority.issue("apiserver-etcd", "kube-apiserver")
    authority.issue("apiserver-kubelet", KUBELET_CLIENT)
    authority.issue("kube-apiserver", "kube-apiserver", addresses=_api_names(network))
    clients = {
        name: authority.issue(name, f"system:{name}", addresses=[node])
        for name in ("kube-controller-manager", "kube-scheduler")
    }
    clients["kubelet"] = authority.issue(
        "kubelet", f"system:node:{node_name}", groups=["system:nodes"], addresses=[node, node_name]
    )
    clients["admin"] = authority.issue("admin", "hami-dra:admin", groups=[ADMINISTRATORS])
    for name, certificate in clients.items():
        path = paths.admin_kubeconfig if name == "admin" else paths.kubeconfig(name)
        kubeconfig.with_certificate(path, network.api_server, authority.own.cert, name, certificate)


def issue_user(paths: LocalPaths, network: Network, user: str, groups: Sequence[str]) -> Path:
    """A kubeconfig for a user with these groups and whatever rights RBAC gives them."""
    authority = Authority(paths.folder / "pki")
    certificate = authority.issue(f"user-{user.replace('/', '_')}", user, groups=groups)
    path = paths.kubeconfig(f"user-{user}")
    return kubeconfig.with_certificate(path, network.api_server, authority.own.cert, user, certificate)


def _api_names(network: Network) -> list[str]:
    service = "kubernetes.default.svc"
    return [network.api_address, "kubernetes", "kubernetes.default", service, f"{service}.cluster.local"]
