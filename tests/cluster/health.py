"""Asks each component whether it is well, over the same way that its users take."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from tests.cluster.control_plane import Blueprint

Probe = Callable[[Blueprint], str]
"""Returns "" for a component that is well, else the reason why it is not."""


def _get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    # No proxy of the machine's must come between.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=3.0) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()
    except (OSError, ValueError) as unreachable:
        return 0, str(unreachable).encode()


def _context(plan: Blueprint, identity: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(plan.authority.cert))
    certificate = plan.certificates[identity]
    context.load_cert_chain(certificate.cert, certificate.key)
    return context


def api_get(plan: Blueprint, path: str) -> tuple[int, bytes]:
    """GET from the API server as administrator: (HTTP status or 0, body or reason)."""
    return _get(f"{plan.network.api_server}{path}", _context(plan, "admin"))


def _verdict(answer: tuple[int, bytes]) -> str:
    status, body = answer
    return "" if status == 200 else f"{status or 'no answer'}: {body.decode(errors='replace').strip()[:200]}"


def _etcd(plan: Blueprint) -> str:
    url = f"https://{plan.network.node_address}:{plan.network.etcd_port}/health"
    return _verdict(_get(url, _context(plan, "apiserver-etcd")))


def _apiserver(plan: Blueprint) -> str:
    return _verdict(api_get(plan, "/readyz"))


def _controllers(plan: Blueprint) -> str:
    url = f"https://{plan.network.node_address}:{plan.network.controllers_port}/healthz"
    return _verdict(_get(url, _context(plan, "admin")))


def _scheduler(plan: Blueprint) -> str:
    url = f"https://{plan.network.node_address}:{plan.network.scheduler_port}/readyz"
    return _verdict(_get(url, _context(plan, "admin")))


def _kubelet(plan: Blueprint) -> str:
    return _verdict(_get(f"http://{plan.network.node_address}:{plan.network.kubelet_health_port}/healthz"))


def _containerd(plan: Blueprint) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3.0)
        try:
            connection.connect(str(plan.paths.containerd_socket))
        except OSError as refused:
            return str(refused)
    return ""


PROBES: Mapping[str, Probe] = {
    "etcd": _etcd,
    "kube-apiserver": _apiserver,
    "kube-controller-manager": _controllers,
    "kube-scheduler": _scheduler,
    "containerd": _containerd,
    "kubelet": _kubelet,
}


def node(plan: Blueprint) -> str:
    """Well means: the node is Ready, and pods can be made in `default`."""
    status, body = api_get(plan, f"/api/v1/nodes/{plan.node_name}")
    if status != 200:
        return "not registered"
    conditions = {one["type"]: one for one in json.loads(body)["status"].get("conditions", [])}
    ready = conditions.get("Ready", {"status": "Unknown", "message": "no condition yet"})
    if ready["status"] != "True":
        return str(ready["message"])
    status, _ = api_get(plan, "/api/v1/namespaces/default/serviceaccounts/default")
    return "" if status == 200 else "the service account default/default is not there yet"
