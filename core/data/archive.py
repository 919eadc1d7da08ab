"""Reading members of archives without unpacking them: zip (wheels) and tar, also nested.

Nothing is ever written to disk from an archive. Names that would leave a folder are refused
all the same, so that no later caller can be tricked by one.
"""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Protocol

from core.errors import DataError

LIMIT = 2 << 30  # bytes of one member in memory; far above any image or weights file

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    OSError,  # gzip and bz2 report damage so
    RuntimeError,  # zipfile: the member is encrypted
    NotImplementedError,  # zipfile: a compression that it does not know
)


class Archive(Protocol):
    """An open archive."""

    def names(self) -> list[str]:
        """Paths of the files in it, in the order of the archive."""

    def read(self, name: str, limit: int = LIMIT) -> bytes:
        """One file. Raises DataError when missing, damaged or longer than `limit` bytes."""


@contextmanager
def opened(path: Path, nested: Sequence[str] = (), limit: int = LIMIT) -> Iterator[Archive]:
    """Open the archive at `path`, then each archive inside it that `nested` names.

    Raises DataError when one is damaged, too long or holds a path that leaves its folder.
    """
    with path.open("rb") as file:
        archive = _open(file, str(path))
        for name in nested:
            archive = _open(io.BytesIO(archive.read(name, limit)), f"{path}, {name}")
        yield archive


def read_member(path: Path, member: Sequence[str], limit: int = LIMIT) -> bytes:
    """The file at `member`: its path, after those of the archives that it is nested in.

    Raises DataError as `opened` and `Archive.read` do.
    """
    *nested, name = member
    with opened(path, nested, limit) as archive:
        return archive.read(name, limit)


class _Zip:
    def __init__(self, file: IO[bytes], label: str) -> None:
        self._label = label
        self._zip = zipfile.ZipFile(file)

    def names(self) -> list[str]:
        return [item.filename for item in self._zip.infolist() if not item.is_dir()]

    def read(self, name: str, limit: int = LIMIT) -> bytes:
        try:
            size = self._zip.getinfo(name).file_size
        except KeyError:
            raise _missing(name, self._label) from None
        _check_size(name, size, limit, self._label)
        with _damage(self._label):
            return self._zip.read(name)


class _Tar:
    def __init__(self, file: IO[bytes], label: str) -> None:
        self._label = label
        self._tar = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115 (the caller closes it)
        # Links and devices are left out: only what is stored here can be read here.
        self._files = {item.name: item for item in self._tar.getmembers() if item.isreg()}

    def names(self) -> list[str]:
        return list(self._files)

    def read(self, name: str, limit: int = LIMIT) -> bytes:
        item = self._files.get(name)
        if item is None:
            raise _missing(name, self._label)
        _check_size(name, item.size, limit, self._label)
        with _damage(self._label):
            stream = self._tar.extractfile(item)
            content = stream.read() if stream else b""
            if len(content) != item.size:
                raise EOFError(f"{name} ends early")
            return content


def _open(file: IO[bytes], label: str) -> Archive:
    # By its first bytes: a tar that ends in a zip also ends like one.
    is_zip = file.read(2) == b"PK"
    file.seek(0)
    with _damage(label):
        archive: Archive = _Zip(file, label) if is_zip else _Tar(file, label)
    for name in archive.names():
        _refuse_escape(name, label)
    return archive


def _refuse_escape(name: str, label: str) -> None:
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise DataError(f"{label}: refused, its member {name!r} points outside the archive")


def _missing(name: str, label: str) -> DataError:
    return DataError(f"{label}: holds no file {name!r}")


def _check_size(name: str, size: int, limit: int, label: str) -> None:
    if size > limit:
        raise DataError(f"{label}: {name!r} has {size} bytes, more than the {limit} allowed")


@contextmanager
def _damage(label: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(
            f"{label}: damaged or not an archive ({reason}); delete it and fetch again"
        ) from error
