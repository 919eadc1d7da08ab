"""core.split.certificates: made whole, readable by nobody else, checked before they are used."""

import logging
import shutil
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import ConfigError
from core.split.certificates import Security, fit, make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "tls", ("cloud", "edge"), hosts=("example.org", "192.0.2.7"))
    return tmp_path / "tls"


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_each_side_has_a_certificate_and_a_key_that_only_it_can_read(folder: Path) -> None:
    names = {"ca.crt", "cloud.crt", "cloud.key", "edge.crt", "edge.key"}
    assert {file.name for file in folder.iterdir()} == names
    for side in ("cloud", "edge"):
        assert stat.S_IMODE((folder / f"{side}.key").stat().st_mode) == 0o600
        security = Security.load(folder, side)
        assert security.authority == (folder / "ca.crt").read_bytes()
        assert security.certificate == (folder / f"{side}.crt").read_bytes()
        assert security.key == (folder / f"{side}.key").read_bytes()


def test_the_clouds_names_its_hosts_and_each_its_purpose(folder: Path) -> None:
    hosts = certificate(folder / "cloud.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert set(hosts.value.get_values_for_type(x509.DNSName)) == {
        "cloud", "localhost", "example.org",
    }  # fmt: skip
    addresses = set(map(str, hosts.value.get_values_for_type(x509.IPAddress)))
    assert addresses == {"127.0.0.1", "::1", "192.0.2.7"}
    for side, purpose in (
        ("cloud", ExtendedKeyUsageOID.SERVER_AUTH),
        ("edge", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        found = certificate(folder / f"{side}.crt")
        use = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(use.value) == [purpose]
        assert found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == side


def test_they_last_as_long_as_asked(tmp_path: Path) -> None:
    make(tmp_path, ("cloud", "a", "b"), days=3)
    for name in ("ca", "cloud", "a", "b"):
        left = certificate(tmp_path / f"{name}.crt").not_valid_after_utc - datetime.now(
            timezone.utc
        )
        assert timedelta(days=2, hours=23) < left <= timedelta(days=3)


def test_they_fit_while_all_are_whole_and_the_clouds_names_the_host(folder: Path) -> None:
    sides = ("cloud", "edge")
    assert fit(folder, sides, "192.0.2.7")
    assert not fit(folder, sides, "192.0.2.8")
    (folder / "edge.key").rename(folder / "aside")
    assert not fit(folder, sides, "192.0.2.7")  # half made
    (folder / "aside").rename(folder / "edge.key")
    make(folder / "other", sides)
    shutil.copy(folder / "other/ca.crt", folder)  # made again, and that was killed
    assert not fit(folder, sides, "192.0.2.7")
    make(folder, sides, days=0, hosts=("192.0.2.7",), replace=True)
    assert not fit(folder, sides, "192.0.2.7")  # expired


def test_what_is_there_is_not_overwritten_unless_asked(folder: Path) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"holds ca.crt, cloud.crt, .* already; name another"):
        make(folder)
    with pytest.raises(ConfigError, match=r"holds ca.crt already"):
        make(folder, ("x", "y"))
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    make(folder, replace=True)
    assert all(file.read_bytes() != content for file, content in before.items())
    Security.load(folder, "edge")


@pytest.mark.parametrize("name", ["ca", "", "../edge", "a/b", "a.b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a side"):
        make(tmp_path / "tls", ("cloud", name))
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize(("days", "host"), [(30, "bücher.example"), (10**8, "cloud.example")])
def test_what_no_certificate_can_say_is_refused_and_leaves_no_half(
    tmp_path: Path, days: int, host: str
) -> None:
    with pytest.raises(ConfigError, match=f"certificates for .*{host}.*, {days} days: "):
        make(tmp_path / "c", days=days, hosts=[host])
    assert not (tmp_path / "c").exists()
    make(tmp_path / "c", hosts=["cloud.example"])


@pytest.mark.parametrize("name", ["ca.crt", "edge.crt", "edge.key"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name} cannot be read \(No such file .*copy ca.crt"):
        Security.load(folder, "edge")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ca.crt", "ca.crt holds no certificate in PEM form"),
        ("edge.crt", "edge.crt holds no certificate in PEM form"),
        ("edge.key", "edge.key holds no plain private key in PEM form"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_holds_something_else_is_named(
    folder: Path, name: str, text: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=text):
        Security.load(folder, "edge")


def test_a_key_with_a_password_is_refused(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (folder / "edge.key").write_bytes(locked)
    with pytest.raises(ConfigError, match="holds no plain private key"):
        Security.load(folder, "edge")


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    shutil.copy(folder / "cloud.key", folder / "edge.key")
    with pytest.raises(ConfigError, match=r"edge.key does not belong to edge.crt"):
        Security.load(folder, "edge")


def test_a_certificate_of_another_authority_is_refused(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "ca.crt", folder / "ca.crt")
    with pytest.raises(ConfigError, match=r"edge.crt is not from the authority ca.crt; make all"):
        Security.load(folder, "edge")


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (-1, r"ca.crt expired on 20\d\d-\d\d-\d\d \d\d:\d\d UTC; make all of them again"),
        (1, r"ca.crt is not valid before .* UTC; set this machine's clock, or make"),
    ],
)
def test_one_that_is_out_of_date_is_refused(tmp_path: Path, monkeypatch, days, text) -> None:
    from core.split import certificates

    class Elsewhen(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(timezone.utc) + timedelta(days=days)

    with monkeypatch.context() as patched:
        patched.setattr(certificates, "datetime", Elsewhen)
        make(tmp_path, days=0 if days < 0 else 30)
    with pytest.raises(ConfigError, match=text):
        Security.load(tmp_path, "edge")


def test_a_key_that_others_can_read_is_warned_about(folder: Path, caplog) -> None:
    (folder / "edge.key").chmod(0o640)
    with caplog.at_level(logging.WARNING):
        Security.load(folder, "edge")
    assert "others can read" in caplog.text
    assert "chmod 600" in caplog.text


def signed(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    ca: bool,
) -> bytes:
    """A certificate as somebody else's authority would make it."""
    now = datetime.now(timezone.utc)
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)]) for value in (issuer, name)
    ]
    return (
        x509.CertificateBuilder(names[0], names[1], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(by, SHA256())
        .public_bytes(Encoding.PEM)
    )


def test_own_certificates_may_come_with_those_between(tmp_path: Path) -> None:
    root, middle, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    between = signed("middle", "root", middle, root, True)
    leaf = signed("edge", "middle", own, middle, False)
    (tmp_path / "ca.crt").write_bytes(signed("root", "root", root, root, True))
    private = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "edge.key").write_bytes(private)
    (tmp_path / "edge.key").chmod(0o600)
    (tmp_path / "edge.crt").write_bytes(leaf + between)
    assert Security.load(tmp_path, "edge").certificate == leaf + between
    (tmp_path / "edge.crt").write_bytes(leaf)
    with pytest.raises(ConfigError, match="is not from the authority"):
        Security.load(tmp_path, "edge")
