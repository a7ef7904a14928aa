"""Credentials are read from a pod's service account or from a kubeconfig, and what is wrong with them is named."""

from __future__ import annotations

import base64
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dra_driver.errors import SettingsRejected
from dra_driver.kube.credentials import TokenFile, of_kubeconfig, of_service_account


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=someone", "-days", "1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def kubeconfig(folder: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "other", "cluster": {}}, {"name": "k", "cluster": cluster or {"server": "http://a:1/"}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


def service_account(folder: Path, certificate: Path) -> Path:
    (folder / "token").write_text("first\n")
    (folder / "ca.crt").write_bytes(certificate.read_bytes())
    return folder


@pytest.mark.parametrize(("host", "url"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")])
def test_a_pod_uses_its_service_account(tmp_path: Path, certificate: tuple[Path, Path], host: str, url: str) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    credentials = of_service_account(environment, service_account(tmp_path, certificate[0]))
    assert (credentials.server, credentials.token()) == (url, "first")
    assert credentials.tls is not None
    assert credentials.tls.verify_mode is ssl.CERT_REQUIRED


def test_a_service_account_without_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(SettingsRejected, match="service account"):
        of_service_account({"KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "1"}, tmp_path)


def test_a_rotated_token_is_read_again_within_a_minute(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "token"
    path.write_text("first")
    token = TokenFile(path, clock=lambda: now)
    assert token() == "first"
    path.write_text("second")
    assert token() == "first"
    now = 60.0
    assert token() == "second"
    path.unlink()
    now = 120.0
    assert token() == "second"


def test_a_kubeconfig_without_tls_has_a_token_or_none(tmp_path: Path) -> None:
    assert of_kubeconfig(kubeconfig(tmp_path)).token() == ""
    credentials = of_kubeconfig(kubeconfig(tmp_path, user={"token": "t"}))
    assert (credentials.server, credentials.tls, credentials.token()) == ("http://a:1", None, "t")


def test_files_are_named_relative_to_the_kubeconfig(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    for file in certificate:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "token").write_text("t")
    cluster = {"server": "https://a:1", "certificate-authority": "cert.pem"}
    user = {"client-certificate": "cert.pem", "client-key": "key.pem", "tokenFile": "token"}
    credentials = of_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user))
    assert credentials.tls is not None
    assert credentials.token() == "t"
    assert [subject["subject"] for subject in credentials.tls.get_ca_certs()] == [((("commonName", "someone"),),)]


def test_certificates_may_be_in_the_file_itself(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = (base64.b64encode(file.read_bytes()).decode() for file in certificate)
    cluster = {"server": "https://a:1", "certificate-authority-data": cert}
    user = {"client-certificate-data": cert, "client-key-data": key}
    assert of_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user)).tls is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kubeconfig"], "no key is written to disk"


def test_verification_is_off_only_where_the_kubeconfig_says_so(tmp_path: Path) -> None:
    cluster = {"server": "https://a:1", "insecure-skip-tls-verify": True}
    credentials = of_kubeconfig(kubeconfig(tmp_path, cluster=cluster))
    assert credentials.tls is not None
    assert credentials.tls.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("cluster", "user", "problem"),
    [
        ({"x": 1}, {}, "server is missing"),
        ({"server": "https://a:1", "certificate-authority-data": "%"}, {}, "certificate-authority-data"),
        ({"server": "https://a:1", "certificate-authority": "nowhere.pem"}, {}, "nowhere.pem"),
        (None, {"exec": {"command": "aws"}}, r"users\[\].user.exec is not supported"),
        (None, {"tokenFile": "nowhere"}, "nowhere"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_named(
    tmp_path: Path, cluster: dict[str, Any] | None, user: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SettingsRejected, match=problem):
        of_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user))


@pytest.mark.parametrize("text", ["", "[]", "a: b: c", "current-context: c\ncontexts: 7\n"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(SettingsRejected, match="kubeconfig"):
        of_kubeconfig(path)
