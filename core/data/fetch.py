"""Fetching one entry of the catalog into a folder: the one function that the CLI calls."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.data import catalog, manifest, weights
from core.data.catalog import Download, Entry, Local, Source
from core.data.download import download, mirror_folder
from core.data.kinds import KINDS, reader_of
from core.errors import ConfigError, DataError
from core.files import digest, exclusive, replacing_folder

log = logging.getLogger("core.data")

SMALLEST, LARGEST = 8, 1024  # pixels, words, or movies

# All that a fetched folder may hold; Snakemake adds its time stamp to the folders it makes.
_FILES = (*weights.FILES, *(file for kind in KINDS.values() for file in kind.files))
_OURS = frozenset([manifest.NAME, *_FILES, ".snakemake_timestamp"])


def fetch(name: str, out: Path, size: int | None, downloads: Path) -> Path:
    """Bring the data set or weights called `name` to the folder `out`; the path of its manifest.

    Images are made `size` pixels square, texts `size` words long, histories of ratings `size`
    movies; weights take None. Archives are kept in the folder `downloads`. Does nothing when `out`
    holds this entry in this size already.
    Raises ConfigError for a wrong name or size, DataError when it cannot be had, StorageError when
    it cannot be written, MissingPackageError in the wrong environment.
    """
    return fetch_entry(catalog.entry(name), out, size, downloads)


def fetch_entry(entry: Entry, out: Path, size: int | None, downloads: Path) -> Path:
    """`fetch` for an entry that need not be in the catalog."""
    _check_size(entry, size)
    path = out / manifest.NAME
    with exclusive(out.parent / f".{out.name}.lock"):
        if _is_current(entry, out, size):
            log.info("%s: already in %s", entry.name, out)
            return path
        with replacing_folder(out, _OURS) as fresh:
            _prepare_any(entry, size, downloads, fresh)
        log.info("%s: ready in %s", entry.name, out)
    return path


def _check_size(entry: Entry, size: int | None) -> None:
    if entry.kind == "weights":
        if size is not None:
            raise ConfigError(f"{entry.name}: weights have no size, {size} was given")
    elif size is None or not SMALLEST <= size <= LARGEST:
        unit = KINDS[entry.kind].unit
        raise ConfigError(f"{entry.name}: size {size}; expected {SMALLEST} to {LARGEST} {unit}")


def _is_current(entry: Entry, out: Path, size: int | None) -> bool:
    try:
        content = manifest.read(out, entry.kind)
        if entry.kind != "weights":
            KINDS[entry.kind].opened(out)
    except DataError as problem:
        if out.is_dir() and any(out.iterdir()):
            log.info("%s: made anew: %s", entry.name, problem)
        return False
    made = content.get(manifest.SIZES.get(entry.kind, ""))
    return content.get("entry") == entry.digest() and made == size


def _prepare_any(entry: Entry, size: int | None, downloads: Path, folder: Path) -> None:
    """Fill `folder` from the first source that works."""
    problems = []
    for source in entry.sources:
        kind = type(source).__name__.lower()
        if isinstance(source, Local) and not _is_there(source, downloads):
            problems.append(f"local: no train/ in {_local_folder(source, downloads).resolve()}")
            continue
        try:
            log.info("%s: source %s", entry.name, kind)
            _prepare(entry, source, size, downloads, folder)
            return
        except DataError as problem:
            # A folder that somebody put there is meant: going on without it would hide a mistake.
            if isinstance(source, Local):
                raise
            problems.append(f"{kind}: {problem}")
    lines = "\n".join(problems)
    raise DataError(f"{entry.name}: none of its sources can be used\n{lines}")


def _prepare(entry: Entry, source: Source, size: int | None, downloads: Path, folder: Path) -> None:
    path, archive = _locate(source, downloads)
    content: dict[str, Any] = {
        key: getattr(entry, key) for key in ("kind", "name", "title", "task", "licence", "citation")
    }
    content |= {"entry": entry.digest(), "source": _describe(source), "archive": archive}
    if size is None:
        assert isinstance(source, Download)  # by the schema
        files = [weights.prepare(entry, source, path, folder)]
        content["file"] = files[0]
    else:
        kind = KINDS[entry.kind]
        found = reader_of(entry, source)(entry, source, path)
        content |= kind.prepare(entry, found, size, folder)
        files = [*kind.files]
    manifest.write(folder, content, files)


def _locate(source: Source, downloads: Path) -> tuple[Path, dict[str, Any] | None]:
    """Where the reader finds the data, and the archive they come in, where there is one."""
    match source:
        case Download():
            path = download(source, downloads)
            return path, {"file": source.filename, source.algorithm: digest(path, source.algorithm)}
        case Local():
            return _local_folder(source, downloads), None
    return downloads, None


def _local_folder(source: Local, downloads: Path) -> Path:
    """Full paths as they are; others in the mirror, where it is a folder and has it, or here."""
    folder = Path(source.folder).expanduser()
    mirror = mirror_folder()
    if mirror and (mirror / folder / "train").is_dir():
        return mirror / folder
    return downloads / folder


def _is_there(source: Local, downloads: Path) -> bool:
    return (_local_folder(source, downloads) / "train").is_dir()


def _describe(source: Source) -> dict[str, Any]:
    return {"kind": type(source).__name__.lower(), **asdict(source)}
