"""Writing a bundle, checking it, and unpacking it: a compressed tar, which keeps the times of files
that Snakemake goes by, with a checksum of every file."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from core.bundle.contents import Content, GoneError, check_result, is_result
from core.bundle.crate import METADATA, metadata
from core.errors import DataError
from core.files import CHUNK, digest, replacing

CHECKSUMS = "checksums.sha256"  # as `sha256sum --check` reads them
LARGEST = 64 << 20  # bytes of what is read as a whole
LATEST = 1 << 33  # seconds since 1970, as which file systems keep times

AGAIN = "get the bundle again from where it was made"


def write(files: Mapping[str, Content], licence: str, out: Path) -> None:
    """Write a bundle of these files. Raises StorageError, DataError for a damaged result."""
    sizes: dict[str, int] = {}
    sums: dict[str, str] = {}
    results = {}
    with replacing(out) as temporary, _packing(temporary) as archive:

        def add(name: str, content: bytes, made: float) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            entry.mtime = made  # type: ignore[assignment]  # parts of a second are kept
            archive.addfile(entry, io.BytesIO(content))
            sizes[name], sums[name] = len(content), hashlib.sha256(content).hexdigest()

        for name, source in files.items():
            try:
                content, made = source.read()  # once: a log may grow meanwhile
            except GoneError:
                if f"{PurePosixPath(name).parent}/result.json" in files:
                    raise
                continue  # of no finished run
            if is_result(name):
                results[name] = check_result(content, name)
            add(name, content, made)
        now = time.time()
        add(METADATA, json.dumps(metadata(sizes, results, licence, now), indent=1).encode(), now)
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
        add(CHECKSUMS, lines.encode(), now)


@contextmanager
def _packing(path: Path) -> Iterator[tarfile.TarFile]:
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        yield archive


@dataclass
class Seen:
    """What a bundle holds: the checksum of each file, results of runs, and the listed checksums."""

    sums: dict[str, str] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    listed: bytes | None = None


def verify(path: Path) -> dict[str, str]:
    """The checksums of a bundle, packed or unpacked, all of which hold. Raises DataError that names
    what was changed, is missing, does not belong, or is not what its result says."""
    seen = _unpacked(path) if path.is_dir() else _packed(path)
    if seen.listed is None:
        raise DataError(f"{path} has no {CHECKSUMS}: it is no bundle; {AGAIN}")
    expected = _parse(seen.listed, path)
    _agree(expected, seen.sums, path)
    for name, content in seen.results.items():
        check_result(content, f"{path}: {name}")
    return expected


def _agree(expected: Mapping[str, str], seen: Mapping[str, str], path: Path) -> None:
    for name, checksum in expected.items():
        if name not in seen:
            raise DataError(f"{path}: {name} is missing; {AGAIN}")
        if seen[name] != checksum:
            raise DataError(f"{path}: {name} was changed since it was bundled; {AGAIN}")
    if more := sorted(seen.keys() - expected.keys()):
        raise DataError(f"{path}: {more[0]} does not belong to the bundle; {AGAIN}")
    if METADATA not in seen:
        raise DataError(f"{path} has no {METADATA}; {AGAIN}")


def _parse(text: bytes, path: Path) -> dict[str, str]:
    found = {}
    for line in text.decode(errors="replace").splitlines():
        checksum, _, name = line.partition("  ")
        if len(checksum) != 64 or not name or not _safe(name):
            raise DataError(f"{path}: {CHECKSUMS} has the line {line[:80]!r}; {AGAIN}")
        found[name] = checksum
    return found


def _safe(name: str) -> bool:
    """Whether a name stays below the folder into which it is unpacked."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


Entry = tuple[tarfile.TarInfo, IO[bytes]]


def _packed(path: Path) -> Seen:
    """What an archive holds."""
    seen = Seen()
    with _entries(path) as entries:
        for entry, file in entries:
            if entry.name in seen.sums:
                raise DataError(f"{path} holds {entry.name} twice; {AGAIN}")
            _look(seen, entry, file, path)
    return seen


def _look(seen: Seen, entry: tarfile.TarInfo, file: IO[bytes], path: Path) -> None:
    """Add a file of an archive to what was seen."""
    if not is_result(entry.name) and entry.name != CHECKSUMS:
        hasher = hashlib.sha256()
        while block := file.read(CHUNK):
            hasher.update(block)
        seen.sums[entry.name] = hasher.hexdigest()
        return
    if entry.size > LARGEST:
        raise DataError(f"{path}: {entry.name} has {entry.size} bytes, too many; {AGAIN}")
    content = file.read()
    if entry.name == CHECKSUMS:
        seen.listed = content
    else:
        seen.results[entry.name] = content
        seen.sums[entry.name] = hashlib.sha256(content).hexdigest()


@contextmanager
def _entries(path: Path) -> Iterator[Iterator[Entry]]:
    """Regular files of an archive, one after another. What goes wrong in reading is a DataError."""
    try:
        opened = tarfile.open(path, "r:gz")  # noqa: SIM115  # what writing raises is not its own
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a bundle, or the folder of one") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read as a bundle ({error}); {AGAIN}") from None
    try:
        with opened as archive:
            yield (_file(archive, entry, path) for entry in archive)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be read as a bundle ({error}); {AGAIN}") from None


def _file(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> Entry:
    content = archive.extractfile(entry) if entry.isfile() else None
    if content is None or not _safe(entry.name) or not 0 <= entry.mtime < LATEST:
        raise DataError(
            f"{path} holds {entry.name}, which is no file below it with a time; {AGAIN}"
        )
    return entry, content


def _unpacked(path: Path) -> Seen:
    """What a folder holds of what is listed: more may have been made there since."""
    file, seen = path / CHECKSUMS, Seen()
    seen.listed = file.read_bytes() if file.is_file() else None
    for name in _parse(seen.listed or b"", path):
        if (path / name).is_file():
            seen.sums[name] = digest(path / name)
            if is_result(name):
                seen.results[name] = (path / name).read_bytes()
    return seen


def unpack(path: Path, folder: Path) -> None:
    """Check a packed bundle and put its files into a new or an empty folder, with their times.
    Raises DataError."""
    if path.is_dir():
        raise DataError(f"{path} is unpacked already: draw from it, or name a packed bundle")
    verify(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty: name a new folder to unpack into")
    with _entries(path) as entries:
        for entry, source in entries:
            target = folder / entry.name
            with replacing(target) as temporary, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)
            os.utime(target, (entry.mtime, entry.mtime))
