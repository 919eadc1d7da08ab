"""core.data.download against real servers on loopback."""

import hashlib
import json
import logging
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest

from core.data.catalog import Url
from core.data.download import Backoff, download
from core.errors import DataError, StorageError

CONTENT = bytes(range(256)) * 16384  # 4 MiB: several blocks
HALF = len(CONTENT) // 2


def begun(folder: Path, source: Url, content: bytes, validator: str = '"one"') -> None:
    """What a fetcher that was killed leaves behind."""
    folder.mkdir(exist_ok=True)
    (folder / "thing.bin.part").write_bytes(content)
    state = {"address": source.url, "validator": validator}
    (folder / "thing.bin.part.json").write_text(json.dumps(state))


def unreachable() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_file_arrives_whole_and_nothing_else_stays(tmp_path, serve):
    path = download(serve(CONTENT), tmp_path)
    assert path.read_bytes() == CONTENT
    assert not list(tmp_path.glob("*.part*"))


def test_a_file_already_there_needs_no_network(tmp_path, serve, server):
    (tmp_path / "thing.bin").write_bytes(CONTENT)
    download(serve(CONTENT), tmp_path)
    assert server.asked == []


def test_a_transfer_that_breaks_off_goes_on_where_it_was(tmp_path, serve, server, hurried):
    source = serve(CONTENT, cut_first=[HALF])
    assert download(source, tmp_path, hurried).read_bytes() == CONTENT
    (_, first), (_, second) = server.asked
    assert first is None
    assert second is not None
    assert 0 < int(second[len("bytes=") : -1]) <= HALF


def test_a_killed_fetcher_is_continued(tmp_path, serve, server):
    source = serve(CONTENT)
    begun(tmp_path, source, CONTENT[:HALF])
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/thing.bin", f"bytes={HALF}-")]


def test_a_fetcher_killed_before_the_renaming_needs_no_network(tmp_path, serve, server):
    source = replace(serve(CONTENT), size=len(CONTENT))
    begun(tmp_path, source, CONTENT)
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_file_that_changed_on_the_server_starts_over(tmp_path, serve):
    source = serve(CONTENT, etag='"two"')
    begun(tmp_path, source, b"x" * HALF, validator='"one"')
    assert download(source, tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(tmp_path, serve):
    source = serve(CONTENT, ranges=False)
    begun(tmp_path, source, CONTENT[:HALF])
    assert download(source, tmp_path).read_bytes() == CONTENT


def test_a_beginning_nobody_can_vouch_for_is_not_continued(tmp_path, serve, server):
    source = serve(CONTENT, etag=None)
    begun(tmp_path, source, CONTENT[:HALF], validator="")
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/thing.bin", None)]


def test_a_beginning_damaged_by_a_power_cut_is_fetched_again(tmp_path, serve, server):
    source = serve(CONTENT)
    begun(tmp_path, source, b"\0" * HALF)
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [f"bytes={HALF}-", None]
    assert not list(tmp_path.glob("*.rejected"))


def test_a_busy_server_is_asked_again(tmp_path, serve, server, hurried):
    assert download(serve(CONTENT, statuses=[503, 429]), tmp_path, hurried).exists()
    assert len(server.asked) == 3


def test_patience_starts_again_when_the_transfer_goes_on(tmp_path, serve, hurried):
    source = serve(CONTENT, cut_first=[1 << 20] * 3)  # more breaks than tries
    assert download(source, tmp_path, hurried).read_bytes() == CONTENT


def test_pauses_grow_and_end():
    assert list(Backoff(5, 1.0, 3.0, 10.0).pauses()) == [1.0, 3.0, 9.0, 10.0]


def test_a_file_that_is_not_there_is_not_asked_for_twice(tmp_path, serve, server, hurried):
    source = serve(CONTENT)
    server.files.clear()
    with pytest.raises(DataError, match="HTTP status 404"):
        download(source, tmp_path, hurried)
    assert len(server.asked) == 1


def test_a_wrong_checksum_is_set_aside_and_named(tmp_path, serve, hurried):
    source = replace(serve(CONTENT), checksum="0" * 64)
    with pytest.raises(DataError) as caught:
        download(source, tmp_path, hurried)
    message = str(caught.value)
    assert f"its sha256 is {hashlib.sha256(CONTENT).hexdigest()}" in message
    assert f"the catalog expects {'0' * 64}" in message
    assert f"set aside as {tmp_path / 'thing.bin.rejected'}" in message
    assert (tmp_path / "thing.bin.rejected").read_bytes() == CONTENT
    assert not (tmp_path / "thing.bin").exists()


def test_a_wrong_file_put_there_by_hand_is_set_aside_and_fetched(tmp_path, serve):
    (tmp_path / "thing.bin").write_bytes(b"something else")
    assert download(serve(CONTENT), tmp_path).read_bytes() == CONTENT
    assert (tmp_path / "thing.bin.rejected").read_bytes() == b"something else"


def test_md5_is_enough_where_the_publisher_gives_only_that(tmp_path, serve):
    md5 = hashlib.md5(CONTENT).hexdigest()
    source = replace(serve(CONTENT), algorithm="md5", checksum=md5)
    assert download(source, tmp_path).exists()


def test_the_first_digits_are_enough_where_the_publisher_gives_only_them(
    tmp_path, serve, server, hurried, caplog
):
    source = serve(CONTENT)
    with caplog.at_level(logging.INFO, "core.data"):
        download(replace(source, checksum=source.checksum[:8]), tmp_path, hurried)
    assert f"thing.bin: sha256 {source.checksum} is right" in caplog.messages
    (tmp_path / "thing.bin").unlink()
    with pytest.raises(DataError, match=r"the catalog expects 00000000…; set aside as"):
        download(replace(source, checksum="0" * 8), tmp_path, hurried)


@pytest.fixture
def unvouched(serve, server, certificate, monkeypatch):
    """A file without a published checksum, on a server with TLS that this process trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("PIP_CERT", str(certificate))
    plain = serve(CONTENT)
    address = plain.url.replace("http://", "https://")
    return replace(plain, url=address, checksum="", size=len(CONTENT))


def test_without_a_published_checksum_the_one_found_is_shown(tmp_path, unvouched, hurried, caplog):
    with caplog.at_level(logging.WARNING, "core.data"):
        path = download(unvouched, tmp_path / "downloads", hurried)
    assert path.read_bytes() == CONTENT
    assert caplog.messages == [
        "thing.bin: no checksum is published, so nothing but the way it came vouches for it; "
        f"its sha256 is {hashlib.sha256(CONTENT).hexdigest()}"
    ]


def test_without_a_published_checksum_a_connection_without_tls_is_refused(tmp_path, serve, hurried):
    source = replace(serve(CONTENT), checksum="", size=len(CONTENT))
    with pytest.raises(DataError, match="no checksum is published, so only https will do"):
        download(source, tmp_path, hurried)
    assert not (tmp_path / "thing.bin").exists()


def test_without_a_published_checksum_a_way_over_http_is_refused(
    tmp_path, unvouched, server, other_server, redirected, hurried
):
    """The server with TLS sends on to one without."""
    other_server.files["/thing.bin"] = server.files["/thing.bin"]
    server.files["/thing.bin"] = redirected(f"{other_server.base}/thing.bin")
    with pytest.raises(DataError, match="no checksum is published, so only https will do"):
        download(unvouched, tmp_path / "downloads", hurried)
    assert other_server.asked


def test_without_a_published_checksum_what_was_begun_is_not_continued(
    tmp_path, unvouched, server, hurried
):
    folder = tmp_path / "downloads"
    begun(folder, unvouched, b"\0" * len(CONTENT))
    assert download(unvouched, folder, hurried).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None]


def test_without_a_published_checksum_the_size_must_be_right(tmp_path, unvouched, hurried):
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "thing.bin").write_bytes(b"something else")
    assert download(unvouched, folder, hurried).read_bytes() == CONTENT
    assert (folder / "thing.bin.rejected").read_bytes() == b"something else"
    (folder / "thing.bin").write_bytes(b"something else")
    gone = replace(unvouched, url=f"{unreachable()}/thing.bin")
    with pytest.raises(DataError) as caught:
        download(gone, folder, hurried)
    message = str(caught.value)
    assert f"it has 14 bytes, the catalog expects {len(CONTENT)}; set aside as" in message
    assert f"(no checksum published, {len(CONTENT)} bytes)" in message


def test_another_size_than_the_catalog_says_is_refused_at_once(tmp_path, serve, hurried):
    source = replace(serve(CONTENT), size=10)
    with pytest.raises(DataError, match=f"offers {len(CONTENT)} bytes, the catalog expects 10"):
        download(source, tmp_path, hurried)
    assert not (tmp_path / "thing.bin.part").exists()


def test_a_file_larger_than_the_disk_is_refused_before_it_is_fetched(tmp_path, serve, hurried):
    with pytest.raises(StorageError, match=r"the disk is full: thing\.bin needs \d+ bytes"):
        download(serve(CONTENT, announced=1 << 60), tmp_path, hurried)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_a_clear_error(tmp_path, serve, hurried):
    (tmp_path / "thing.bin.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"the disk is full: .* free some space"):
        download(serve(CONTENT), tmp_path, hurried)


def test_a_body_is_kept_as_it_was_sent(tmp_path, serve):
    source = serve(CONTENT, headers={"Content-Encoding": "x-gzip"})
    assert download(source, tmp_path).read_bytes() == CONTENT


def test_a_mirror_folder_comes_first(tmp_path, serve, server, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "thing.bin").write_bytes(CONTENT)
    monkeypatch.setenv("DATA_MIRROR", str(mirror))
    assert download(serve(CONTENT), tmp_path / "downloads").read_bytes() == CONTENT
    assert server.asked == []


def test_a_mirror_address_comes_first(tmp_path, serve, server, monkeypatch):
    source = serve(CONTENT)
    server.files["/mirror/thing.bin"] = server.files.pop("/thing.bin")
    monkeypatch.setenv("DATA_MIRROR", f"{server.base}/mirror/")
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/mirror/thing.bin", None)]


def test_a_mirror_with_a_wrong_file_is_passed_over_and_left_alone(tmp_path, serve, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "thing.bin").write_bytes(b"old")
    monkeypatch.setenv("DATA_MIRROR", str(mirror))
    assert download(serve(CONTENT), tmp_path / "downloads").read_bytes() == CONTENT
    assert (mirror / "thing.bin").read_bytes() == b"old"


def test_offline_says_what_to_put_where(tmp_path, hurried):
    source = Url("thing.bin", "sha256", "a" * 64, 7, (), f"{unreachable()}/thing.bin")
    with pytest.raises(DataError) as caught:
        download(source, tmp_path, hurried)
    message = str(caught.value)
    assert message.startswith("thing.bin could not be fetched:\n  - http://127.0.0.1:")
    assert "no connection" in message
    assert f"Put the file by hand at\n  {tmp_path / 'thing.bin'}\n" in message
    assert f"(sha256 {'a' * 64}, 7 bytes)" in message
    assert "or set DATA_MIRROR to a folder or an http(s) address that holds thing.bin" in message


def test_a_password_in_an_address_is_not_shown(tmp_path, hurried):
    address = unreachable().replace("http://", "http://user:secret@")
    source = Url("thing.bin", "sha256", "a" * 64, None, (), f"{address}/thing.bin")
    with pytest.raises(DataError) as caught:
        download(source, tmp_path, hurried)
    assert "secret" not in str(caught.value)


def test_the_package_index_is_asked_for_the_pinned_file(tmp_path, package_index, server):
    source = package_index("thing-1.0-py3-none-any.whl", CONTENT)
    path = download(source, tmp_path)
    assert path.name == "thing-1.0-py3-none-any.whl"
    assert path.read_bytes() == CONTENT
    assert [asked for asked, _ in server.asked] == ["/simple/thing/", f"/files/{path.name}"]


def test_an_index_that_lists_another_checksum_is_not_used(tmp_path, package_index, hurried):
    source = package_index("thing-1.0-py3-none-any.whl", CONTENT, listed="b" * 64)
    with pytest.raises(DataError, match=f"lists sha256 {'b' * 64}, the catalog expects"):
        download(source, tmp_path, hurried)


@pytest.mark.parametrize(
    ("gone", "message"),
    [("/simple/thing/", "has no project thing"), ("page", "has no file thing-1.0.tar.gz")],
)
def test_a_project_or_file_gone_from_the_index_is_named(
    tmp_path, package_index, server, hurried, gone, message
):
    source = package_index("thing-1.0.tar.gz", CONTENT)
    if gone == "page":
        server.files["/simple/thing/"].content = b"<!DOCTYPE html><html></html>"
    else:
        del server.files[gone]
    with pytest.raises(DataError, match=message):
        download(source, tmp_path, hurried)


@pytest.fixture
def certificate(tmp_path):
    """A certificate for this machine that nobody has signed, with its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "this machine")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.mark.parametrize("trusted", [False, True])
def test_a_certificate_is_trusted_when_pip_cert_names_it(
    tmp_path, serve, server, certificate, monkeypatch, hurried, trusted
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    plain = serve(CONTENT)
    source = replace(plain, url=plain.url.replace("http://", "https://"))
    if trusted:
        monkeypatch.setenv("PIP_CERT", str(certificate))
        assert download(source, tmp_path / "downloads", hurried).read_bytes() == CONTENT
    else:
        monkeypatch.delenv("PIP_CERT", raising=False)
        with pytest.raises(DataError, match=r"certificate is not trusted here .* PIP_CERT can"):
            download(source, tmp_path / "downloads", hurried)


def test_two_fetchers_at_once_download_once(tmp_path, serve, server):
    source = serve(CONTENT, pause=1.0)
    code = (
        "import sys; from pathlib import Path; from core.data.catalog import Url; "
        "from core.data.download import download; "
        "print(download(Url('thing.bin', 'sha256', sys.argv[1], None, (), sys.argv[2]), "
        "Path(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, source.checksum, source.url, str(tmp_path)]
    fetchers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [fetcher.communicate(timeout=60)[0].strip() for fetcher in fetchers]
    assert answers == [str(tmp_path / "thing.bin")] * 2
    assert len(server.asked) == 1
