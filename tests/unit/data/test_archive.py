"""core.data.archive on archives made by the tests."""

import io
import tarfile
import zipfile

import pytest

from core.data.archive import opened, read_member
from core.errors import DataError


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def stored(tmp_path):
    """stored(content) -> path of a file with it."""

    def store(content: bytes):
        path = tmp_path / "archive"
        path.write_bytes(content)
        return path

    return store


@pytest.mark.parametrize(
    "content",
    [zipped(a__b=b"hello"), tarred({"a/b": b"hello"}), tarred({"a/b": b"hello"}, "w")],
    ids=["zip", "tar.gz", "tar"],
)
def test_members_are_listed_and_read(stored, content):
    with opened(stored(content)) as archive:
        assert archive.names() == ["a/b"]
        assert archive.read("a/b") == b"hello"


def test_an_archive_inside_an_archive_is_read(stored):
    inner = tarred({"notes/text": b"inside"})
    path = stored(tarred({"sdist-1.0/more.tar.gz": inner}))
    assert read_member(path, ["sdist-1.0/more.tar.gz", "notes/text"]) == b"inside"


def test_a_tar_that_ends_in_a_zip_is_a_tar(stored):
    path = stored(tarred({"inner.zip": zipped(a=b"deep")}, "w"))
    assert read_member(path, ["inner.zip", "a"]) == b"deep"


def test_a_missing_member_is_named(stored):
    with pytest.raises(DataError, match="holds no file 'b'"):
        read_member(stored(zipped(a=b"")), ["b"])


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("make", [lambda name: zipped(**{name: b""}), lambda n: tarred({n: b""})])
def test_a_member_that_points_outside_is_refused(stored, make, name):
    path = stored(make(name))
    with pytest.raises(DataError, match="points outside the archive"), opened(path):
        pass


def test_a_link_in_a_tar_is_not_followed(stored):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(DataError, match="holds no file 'link'"):
        read_member(stored(buffer.getvalue()), ["link"])


@pytest.mark.parametrize("make", [lambda c: zipped(a=c), lambda c: tarred({"a": c})])
def test_a_member_that_unpacks_to_too_much_is_refused(stored, make):
    path = stored(make(b"\0" * 1_000_000))
    with pytest.raises(DataError, match="'a' has 1000000 bytes, more than the 1000 allowed"):
        read_member(path, ["a"], limit=1000)


@pytest.mark.parametrize(
    "content",
    [
        zipped(a=bytes(range(256)) * 50)[:-40],
        tarred({"a": bytes(range(256)) * 50})[:-40],
        tarred({"a": bytes(20_000)}, "w")[:15_000],
        b"PK, but not an archive",
        b"not an archive at all",
        b"",
    ],
    ids=["zip", "tar.gz", "tar", "false zip", "text", "empty"],
)
def test_a_truncated_or_foreign_archive_is_damage(stored, content):
    with pytest.raises(DataError, match=r"damaged or not an archive .* delete it and fetch again"):
        read_member(stored(content), ["a"])


def test_a_flipped_bit_is_damage(stored):
    content = bytearray(zipped(a=b"x" * 100))
    content[35] ^= 0xFF
    with pytest.raises(DataError, match="damaged or not an archive"):
        read_member(stored(bytes(content)), ["a"])
