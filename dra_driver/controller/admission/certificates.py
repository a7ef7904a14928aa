"""Certificates for the webhook server: made here, so that an installation needs nothing else to be secure.

Each generation is an authority and one serving certificate that it has signed. The authority's key is thrown away at
once: whoever steals what is stored can play this server until the certificate ends, and can sign nothing.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# The API server's clock may be behind ours.
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A serving certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Generation:
    """A serving certificate, and the authority (in PEM) that callers must trust for it."""

    authority: bytes
    serving: Pair


def make_generation(names: Sequence[str], *, now: datetime, lifetime: timedelta) -> Generation:
    """Make an authority and a certificate for those host names and IP addresses."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # Authorities of several generations are trusted at once, and told apart by their names.
    authority_name = _named(f"hami-dra admission {secrets.token_hex(8)}")
    authority = (
        _builder(authority_name, authority_name, authority_key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    # What names the certificate is in the extension: a common name is at most 64 characters, and nobody reads it.
    certificate = (
        _builder(_named("hami-dra admission"), authority_name, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Generation(_pem(authority), Pair(_pem(certificate), _key_pem(key)))


@dataclass(frozen=True)
class Facts:
    """What a certificate says of itself."""

    begins: datetime
    ends: datetime
    names: frozenset[str]


def facts(certificate: bytes) -> Facts:
    """Read a certificate in PEM, the first one of a chain. Raises ValueError."""
    read = x509.load_pem_x509_certificates(certificate)[0]
    return Facts(read.not_valid_before_utc, read.not_valid_after_utc, _names_of(read))


def belongs(pair: Pair) -> bool:
    """Whether the key is the certificate's."""
    try:
        key = serialization.load_pem_private_key(pair.key, password=None)
        return key.public_key() == x509.load_pem_x509_certificates(pair.certificate)[0].public_key()
    except (ValueError, TypeError):
        return False


def signed_by(certificate: bytes, authorities: Iterable[bytes]) -> bool:
    """Whether one of the authorities has signed the certificate."""
    (read, *_) = x509.load_pem_x509_certificates(certificate)
    return any(_issued(read, authority) for authority in authorities)


def valid_authorities(bundle: bytes, *, now: datetime) -> tuple[bytes, ...]:
    """The certificates of a bundle that have not ended, each in PEM. Raises ValueError."""
    read = x509.load_pem_x509_certificates(bundle) if bundle.strip() else []
    return tuple(_pem(one) for one in read if one.not_valid_after_utc > now)


def utc_now() -> datetime:
    """Now, as certificates count it."""
    return datetime.now(UTC)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_alternative(name) for name in dict.fromkeys(names)]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return frozenset((*found.get_values_for_type(x509.DNSName), *addresses))


def _issued(certificate: x509.Certificate, authority: bytes) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
