"""Writes kubeconfig files: self-contained, so that a test can hand one to any program."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.cluster.pki import Certificate


def with_certificate(path: Path, server: str, authority: Path, user: str, certificate: Certificate) -> Path:
    """A kubeconfig for a user who is known by a client certificate."""
    return _write(
        path,
        server,
        authority.read_bytes(),
        user,
        {
            "client-certificate-data": _encoded(certificate.cert.read_bytes()),
            "client-key-data": _encoded(certificate.key.read_bytes()),
        },
    )


def with_token(path: Path, server: str, authority: bytes, user: str, token: str) -> Path:
    """A kubeconfig for a service account; `authority` is the API server's CA in PEM."""
    return _write(path, server, authority, user, {"token": token})


def _write(path: Path, server: str, authority: bytes, user: str, credentials: Mapping[str, str]) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "cluster",
                "cluster": {"server": server, "certificate-authority-data": _encoded(authority)},
            }
        ],
        "users": [{"name": user, "user": dict(credentials)}],
        "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": user}}],
        "current-context": "context",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(content, file)
    beside.replace(path)
    return path


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
