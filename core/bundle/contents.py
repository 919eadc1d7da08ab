"""What goes into a bundle, and whether its results are what they say."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core import PROJECT
from core.declared import Config
from core.errors import DataError
from core.spec import RunSpec

# Of `results`: what can be fetched again is left where it is, with a copy of what it was.
FETCHED = ("data", "weights", "downloads")
FOLDERS = ("results", "figures", "logs")
SHIPPED = (
    "envs/*.txt",
    "envs/*.yaml",
    "config/claims.yaml",
    "config/devices/*.yaml",
    "config/contexts/*.yaml",
    "CITATION.cff",
    "LICENSE",
)
MANIFESTS = "provenance"
CONFIGURATION = "configuration.yaml"


class GoneError(DataError):
    """A file was there when the bundle was begun."""


@dataclass(frozen=True)
class Content:
    """A file of a bundle: its bytes are those of `file`, or `text`."""

    file: Path | None = None
    text: str | None = None

    def read(self) -> tuple[bytes, float]:
        """All of it, and when it was written, in seconds since 1970. Raises GoneError, DataError
        where it cannot be read."""
        if self.file is None:
            return (self.text or "").encode(), time.time()
        try:
            return self.file.read_bytes(), self.file.stat().st_mtime
        except FileNotFoundError:
            raise GoneError(
                f"{self.file} was removed meanwhile: its run is trained again; bundle once more "
                "when that has ended"
            ) from None
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}") from None


def contents(config: Config, logs: bool) -> dict[str, Content]:
    """Files of this folder and of the project, by their names in the bundle, in order.

    Raises DataError where there is no finished run, or one that is not what its result says.
    """
    found = {CONFIGURATION: Content(text=yaml.safe_dump(dict(config), sort_keys=True))}
    for pattern in SHIPPED:
        for path in PROJECT.glob(pattern):
            found[path.relative_to(PROJECT).as_posix()] = Content(path)
    for folder in FOLDERS if logs else FOLDERS[:-1]:
        found |= {path.as_posix(): Content(path) for path in _files(Path(folder))}
    for name in FETCHED[:-1]:
        for path in Path("results", name).glob("*/manifest.json"):
            found[f"{MANIFESTS}/{path.as_posix()}"] = Content(path)
    results = [name for name in found if is_result(name)]
    if not results:
        raise DataError(f"{Path.cwd() / 'results'} holds no finished run to bundle")
    for name in results:
        check_result(found[name].read()[0], name)
    return dict(sorted(found.items()))


def _files(folder: Path) -> Iterator[Path]:
    """Regular files, without what is fetched, snapshots, and what is written at the moment."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_file():
            yield path
        elif not path.name.endswith(".snapshots") and path.parts[:2] not in _LEFT:
            yield from _files(path)


_LEFT = [("results", name) for name in FETCHED]


def is_result(name: str) -> bool:
    """Whether a file of this name is what a run left."""
    return name.startswith("results/") and name.endswith("/result.json")


def check_result(content: bytes, name: str) -> Mapping[str, Any]:
    """A result of a run. Raises DataError for one whose spec is not the one that ran."""
    try:
        result: dict[str, Any] = json.loads(content)
        said, is_now = str(result["provenance"]["digest"]), RunSpec(result["spec"]).digest
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{name} is not the result of a run; run it again") from None
    if said != is_now:
        raise DataError(
            f"{name}: its spec has the digest {is_now[:12]}, and {said[:12]} ran: it was changed "
            "since, or is of another version; run it again"
        )
    return result
