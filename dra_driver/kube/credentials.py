"""Where the API server is and who we are there: the pod's service account, or a kubeconfig file.

Read here and not by the client library, whose import brings hundreds of generated models that nothing here uses:
a fifth of a second at every start and 16 MiB on every node.
Source: k8s.io/client-go/tools/clientcmd/api/v1/types.go, k8s.io/client-go/rest/config.go (InClusterConfig).
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dra_driver.errors import SettingsRejected

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet rotates a pod's token in its file long before it ends; client-go reads it once a minute too.
_TOKEN_SECONDS = 60.0

Token = Callable[[], str]


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server. `server` is a URL; `tls` is None for plain HTTP; `token` may be empty."""

    server: str
    tls: ssl.SSLContext | None
    token: Token


class TokenFile:
    """A token that is replaced in its file now and then."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._until = float("-inf")

    def __call__(self) -> str:
        """Return the token, read anew once a minute; the last one when the file cannot be read. Raises OSError."""
        if self._clock() >= self._until:
            try:
                self._token = self._path.read_text().strip()
            except OSError:
                if not self._token:
                    raise
            self._until = self._clock() + _TOKEN_SECONDS
        return self._token


def read_credentials(kubeconfig: str, environment: Mapping[str, str]) -> Credentials:
    """Read a kubeconfig file where one is named, the pod's service account otherwise. Raises SettingsRejected."""
    return of_kubeconfig(Path(kubeconfig)) if kubeconfig else of_service_account(environment)


def of_service_account(environment: Mapping[str, str], folder: Path = _SERVICE_ACCOUNT) -> Credentials:
    """Read what the kubelet gives to every pod. Raises SettingsRejected."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise _absent("the pod's service account", "KUBERNETES_SERVICE_HOST and _PORT are not set")
    token = TokenFile(folder / "token")
    try:
        token()
        tls = ssl.create_default_context(cafile=folder / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        raise _absent("the pod's service account", str(error)) from error
    return Credentials(f"https://{f'[{host}]' if ':' in host else host}:{port}", tls, token)


def of_kubeconfig(path: Path) -> Credentials:
    """Read the current context of a kubeconfig file. Raises SettingsRejected with the field's name."""
    # Only where there is a kubeconfig: in a pod nothing needs YAML.
    import yaml

    where = f"kubeconfig {path}"
    try:
        content = yaml.safe_load(path.read_text())
        context = _entry(content, "contexts", "context", _field(content, "current-context"))
        cluster = _entry(content, "clusters", "cluster", _field(context, "cluster"))
        user = _entry(content, "users", "user", str(context.get("user") or ""))
        server = _field(cluster, "server").rstrip("/")
        tls = _tls(cluster, user, path.parent) if server.startswith("https://") else None
        return Credentials(server, tls, _token(user, path.parent))
    except (OSError, ValueError, yaml.YAMLError, ssl.SSLError) as error:
        raise _absent(where, str(error)) from error


def _absent(where: str, problem: str) -> SettingsRejected:
    return SettingsRejected(f"no credentials for the API server from {where}: {problem}")


def _field(section: object, name: str) -> str:
    value = section.get(name) if isinstance(section, dict) else None
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing")
    return value


def _entry(content: Mapping[str, Any], group: str, kind: str, name: str) -> Mapping[str, Any]:
    """Find `<kind>` of the entry called `name` in the list `<group>`."""
    entries = content.get(group)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(kind)
            return found if isinstance(found, dict) else {}
    raise ValueError(f"{group}: there is none called {name!r}")


def _token(user: Mapping[str, Any], folder: Path) -> Token:
    for unknown in ("exec", "auth-provider", "username"):
        if user.get(unknown):
            raise ValueError(f"users[].user.{unknown} is not supported: use a token or a client certificate")
    if user.get("tokenFile"):
        token = TokenFile(folder / str(user["tokenFile"]))
        token()
        return token
    fixed = str(user.get("token") or "")
    return lambda: fixed


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify") is True:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _content(user, "client-certificate", folder)
    if certificate:
        load_certificate(context, certificate, _content(user, "client-key", folder))
    return context


def _content(section: Mapping[str, Any], name: str, folder: Path) -> bytes:
    """Return what `<name>-data` holds or the file `<name>` names; nothing where there is neither."""
    encoded = section.get(f"{name}-data")
    if encoded:
        try:
            return base64.b64decode(str(encoded), validate=True)
        except binascii.Error as error:
            raise ValueError(f"{name}-data: {error}") from error
    named = section.get(name)
    return (folder / str(named)).read_bytes() if named else b""


def load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a context a certificate of one's own and its key. Raises ssl.SSLError, OSError.

    Python's ssl takes them from a file only: from one without a name, in memory.
    """
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
