"""The cluster's own certificate authority, by the openssl program: one certificate per component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.commands import run

VALID_DAYS = "3650"


@dataclass(frozen=True)
class Certificate:
    """Files in PEM."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates with the key in `folder`; makes that key first where there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.own = Certificate(folder / "ca.crt", folder / "ca.key")
        if not self.own.cert.exists():
            self._request("ca", "hami-dra-cluster", (), _ca_extensions(), signed_by=None)

    def issue(
        self, name: str, common_name: str, *, groups: Sequence[str] = (), addresses: Sequence[str] = ()
    ) -> Certificate:
        """A certificate for a client (`common_name` = user, `groups` = organisations).

        With `addresses` (DNS names and IPv4 addresses) it is one for a server as well.
        """
        return self._request(name, common_name, groups, _leaf_extensions(addresses), signed_by=self.own)

    def _request(
        self,
        name: str,
        common_name: str,
        groups: Sequence[str],
        extensions: Sequence[str],
        signed_by: Certificate | None,
    ) -> Certificate:
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        config = self._folder / f"{name}.cnf"
        config.write_text(_request_config(common_name, groups, extensions))
        signer = () if signed_by is None else ("-CA", str(signed_by.cert), "-CAkey", str(signed_by.key))
        run(
            (
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-noenc", "-days", VALID_DAYS, "-config", str(config), "-keyout", str(made.key)),
                *("-out", str(made.cert), *signer),
            )
        )
        config.unlink()
        return made

    def service_account_keys(self) -> tuple[Path, Path]:
        """The (private, public) key for service-account tokens."""
        private, public = self._folder / "sa.key", self._folder / "sa.pub"
        run(("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(private)))
        run(("openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)))
        return private, public


def _ca_extensions() -> list[str]:
    return ["basicConstraints = critical,CA:TRUE", "keyUsage = critical,keyCertSign,cRLSign,digitalSignature"]


def _leaf_extensions(addresses: Sequence[str]) -> list[str]:
    usages = "clientAuth,serverAuth" if addresses else "clientAuth"
    lines = [
        "basicConstraints = critical,CA:FALSE",
        "keyUsage = critical,digitalSignature",
        f"extendedKeyUsage = {usages}",
    ]
    if addresses:
        named = (f"IP:{one}" if one.replace(".", "").isdigit() else f"DNS:{one}" for one in addresses)
        lines.append(f"subjectAltName = {','.join(named)}")
    return lines


def _request_config(common_name: str, groups: Sequence[str], extensions: Sequence[str]) -> str:
    organisations = [f"{number}.O = {group}" for number, group in enumerate(groups)]
    request = ["[req]", "prompt = no", "distinguished_name = subject", "x509_extensions = extensions"]
    subject = ["[subject]", *organisations, f"CN = {common_name}"]
    return "\n".join([*request, *subject, "[extensions]", *extensions, ""])
