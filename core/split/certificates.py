"""Certificates for the connection between the sides, made per run, or brought by the user.

A folder holds `ca.crt` (the authority that both sides trust) and for each side `SIDE.crt` and
`SIDE.key`, all PEM. SIDE is `cloud`, `edge`, `server`, or the name of a party; the name stands in
the certificate, as its common name or among its alternative names, and who listens refuses a
caller that calls itself otherwise. The certificate of the side that listens names its hosts too,
which callers check.
A side needs `ca.crt` and its own two files, nothing of the others.
"""

import ipaddress
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import ConfigError
from core.files import replacing

log = logging.getLogger(__name__)

AUTHORITY, CLOUD = "ca", "cloud"
LISTENING = (CLOUD, "server")  # sides that are called
LOCAL = ("localhost", "127.0.0.1", "::1")
SKEW = timedelta(hours=1)  # between the clocks of the sides
AGAIN = "make all of them again (`split certificates`), or bring others"


@dataclass(frozen=True)
class Security:
    """PEM texts for mutual TLS: the authority's certificate, this side's own, its private key."""

    authority: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def load(cls, folder: Path, side: str) -> "Security":
        """Read and check `side`'s files. Raises ConfigError that says what to do."""
        names = (f"{AUTHORITY}.crt", f"{side}.crt", f"{side}.key")
        authority, certificate, key = (_read(folder / name) for name in names)
        trusted = _certificates(folder / names[0], authority)
        own = _certificates(folder / names[1], certificate)
        for file, checked in ((names[0], trusted[0]), (names[1], own[0])):
            _check_dates(folder / file, checked)
        if not _leads_to(own[0], own[1:], trusted):
            raise ConfigError(f"{folder / names[1]} is not from the authority {names[0]}; {AGAIN}")
        _check_key(folder / names[2], key, own[0])
        return cls(authority, certificate, key)


def fit(folder: Path, names: Sequence[str], host: str) -> bool:
    """Whether each of these sides has a certificate that can be used now, and the one that is
    called is called at this host."""
    try:
        own = {name: Security.load(folder, name) for name in names}
    except ConfigError:
        return False
    hosts = [_hosts(own[name].certificate) for name in names if name in LISTENING]
    return all(host in found for found in hosts)


def _hosts(certificate: bytes) -> list[str]:
    extensions = x509.load_pem_x509_certificates(certificate)[0].extensions
    found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def make(
    folder: Path,
    names: Sequence[str] = (CLOUD, "edge"),
    days: int = 30,
    hosts: Sequence[str] = (),
    replace: bool = False,
) -> None:
    """Make an authority of the run's own, and a certificate and key (mode 0600) for each name.

    The authority's key is not kept: nobody can add a side later, so make all of them at once.
    hosts: names or addresses of the side that listens, beside localhost. Raises ConfigError for a
    bad name, host or number of days, and when there are certificates already and `replace` is not
    given; StorageError. Nothing is written before all of them are made.
    """
    for name in names:
        if name == AUTHORITY or not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise ConfigError(
                f"{name!r} cannot be the name of a side; use letters, digits, - and _"
            )
    files = [folder / f"{AUTHORITY}.crt"]
    files += [folder / f"{name}.{end}" for name in names for end in ("crt", "key")]
    there = [file.name for file in files if file.exists()]
    if there and not replace:
        raise ConfigError(
            f"{folder} holds {', '.join(there)} already; name another folder or ask to replace them"
        )
    try:
        contents = _signed(names, days, hosts)
    except (ValueError, OverflowError) as error:  # what the library says of hosts and dates
        raise ConfigError(f"certificates for {[*hosts]}, {days} days: {error}") from None
    for file, content in contents.items():
        _write(folder / file, content, 0o600 if file.endswith(".key") else 0o644)


def _signed(names: Sequence[str], days: int, hosts: Sequence[str]) -> dict[str, bytes]:
    """Content of every file. Raises ValueError, OverflowError."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, days)
    found = {f"{AUTHORITY}.crt": authority.public_bytes(Encoding.PEM)}
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _issue(name, key.public_key(), authority, authority_key, hosts)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        found[f"{name}.key"] = private
        found[f"{name}.crt"] = certificate.public_bytes(Encoding.PEM)
    return found


def _authority(key: ec.EllipticCurvePrivateKey, days: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "split training, one run")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = _usage(key_cert_sign=True, crl_sign=True)
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )


def _issue(
    name: str,
    key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
) -> x509.Certificate:
    """A certificate of one side: for those that are called, or for those that call."""
    server = name in LISTENING
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    alternative = [x509.DNSName(name), *(_general(h) for h in (*LOCAL, *hosts) if server)]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(issuer, critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, SHA256())
    )


def _usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    with replacing(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); make certificates, or copy "
            f"{AUTHORITY}.crt and this side's .crt and .key there"
        ) from error


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate in PEM form; {AGAIN}") from error


def _check_dates(path: Path, certificate: x509.Certificate) -> None:
    now = datetime.now(timezone.utc)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        raise ConfigError(f"{path} expired on {last:%Y-%m-%d %H:%M} UTC; {AGAIN}")
    if now < first:
        raise ConfigError(
            f"{path} is not valid before {first:%Y-%m-%d %H:%M} UTC; set this machine's clock, "
            f"or {AGAIN}"
        )


def _leads_to(
    certificate: x509.Certificate,
    between: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
) -> bool:
    """Whether a trusted one issued it, itself or by way of those between, which are in order."""
    for step in (certificate, *between):
        if step is not certificate and not _issued(certificate, step):
            return False
        certificate = step
        if any(_issued(step, authority) for authority in trusted):
            return True
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_key(path: Path, content: bytes, certificate: x509.Certificate) -> None:
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no plain private key in PEM form; {AGAIN}") from error
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*spki) != certificate.public_key().public_bytes(*spki):
        raise ConfigError(f"{path} does not belong to {path.stem}.crt; {AGAIN}")
    if path.stat().st_mode & 0o077:
        log.warning("others can read %s; take that right away (chmod 600)", path)
