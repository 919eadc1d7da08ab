"""Files and folders that are whole or not there; locks; checksums; disk errors of one kind."""

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import StorageError

log = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes

_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = {
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal checksum of a file."""
    hasher = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            hasher.update(block)
    return hasher.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a disk into StorageError that names `path`; others pass through."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"the disk is full: {path} was not written; free some space"
            ) from error
        if error.errno in _UNWRITABLE:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there takes its place at the end.

    Survives being killed at any moment: either the old file or the new one is there. Raises
    StorageError when the disk is full or the folder cannot be written; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises StorageError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raises StorageError when `folder` is on a disk with less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"the disk is full: {what} needs {needed} bytes, {folder} has {free} left; "
            "free some space or name another folder"
        )


def flush(path: Path) -> None:
    """Make a file or a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; a second process waits. Freed when the process dies.

    Raises StorageError when the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # Snakemake, which writes specs, does not bring it

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process that holds %s", path)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing_folder(folder: Path, ours: frozenset[str]) -> Iterator[Path]:
    """An empty folder beside `folder`; it takes its place at the end, or vanishes on an error.

    `ours` names the files that a fetched folder may hold. Raises StorageError when `folder`
    holds anything else (a mistyped path must not cost anybody a folder), or cannot be written.
    Call it under a lock: the folder beside has a fixed name, so that a later call clears up
    after one that was killed.
    """
    folder = folder.resolve()
    _refuse_foreign(folder, ours)
    fresh = folder.with_name(f".{folder.name}.part")
    replaced = folder.with_name(f".{folder.name}.replaced")
    try:
        with writing(folder):
            for leftover in (fresh, replaced):
                shutil.rmtree(leftover, ignore_errors=True)
            fresh.mkdir(parents=True)
        yield fresh
        with writing(folder):
            flush(fresh)
            if folder.is_dir() and any(folder.iterdir()):
                folder.rename(replaced)
            fresh.rename(folder)
            flush(folder.parent)
    finally:
        for leftover in (fresh, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def _refuse_foreign(folder: Path, ours: frozenset[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file; name a folder to fetch into")
    foreign = sorted(set(os.listdir(folder)) - ours) if folder.is_dir() else []
    if foreign:
        raise StorageError(
            f"{folder} holds files that were not fetched ({', '.join(foreign[:3])}); "
            "name an empty or a new folder"
        )
