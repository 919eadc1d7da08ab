"""The catalog: which data sets and weights there are, and where each comes from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from core.errors import ConfigError
from core.schema import read_yaml, suggestion

CATALOG = Path(__file__).with_name("catalog.yaml")
SCHEMA = Path(__file__).with_name("catalog.schema.yaml")

# Part of every entry's digest. Raise it when the same archive is prepared differently (another
# way of resizing, another layout of the arrays), so that folders made before are made again.
PREPARATION = 1


@dataclass(frozen=True)
class Download:
    """One file that is fetched over HTTP, copied from a mirror or put there by hand.

    `filename` may hold a folder: downloads folders and mirrors have the same layout. `checksum`
    is what the publisher gives of it: all, its first digits, or nothing (an empty text).
    """

    filename: str
    algorithm: Literal["sha256", "md5"]
    checksum: str
    size: int | None
    member: tuple[str, ...]

    def matches(self, checksum: str) -> bool:
        """Whether a file's checksum agrees with as much of it as is published."""
        return checksum.startswith(self.checksum)

    @property
    def digits(self) -> str:
        """As much of the checksum as is published, for messages."""
        whole = 2 * hashlib.new(self.algorithm).digest_size
        return self.checksum + ("…" if 0 < len(self.checksum) < whole else "")

    @property
    def expected(self) -> str:
        """All that is known of the file, for messages."""
        known = f"{self.algorithm} {self.digits}" if self.checksum else "no checksum published"
        return f"{known}, {self.size} bytes" if self.size else known


@dataclass(frozen=True)
class Package(Download):
    """A file of a project on the package index."""

    project: str
    version: str


@dataclass(frozen=True)
class Url(Download):
    """A file at an address."""

    url: str


@dataclass(frozen=True)
class Tfds:
    """A data set of tensorflow-datasets."""

    name: str
    version: str
    config: str | None = None

    @property
    def spec(self) -> str:
        """Name as `tfds.load` takes it, with the version pinned."""
        return "/".join(filter(None, (self.name, self.config))) + f":{self.version}"


@dataclass(frozen=True)
class Torchvision:
    """A class of torchvision.datasets."""

    dataset: str


@dataclass(frozen=True)
class Local:
    """A folder of class folders; a relative path starts in the mirror or the downloads folder."""

    folder: str


@dataclass(frozen=True)
class Generated:
    """Made by this project: pictures from so many places on a ring for each elevation, degrees."""

    azimuths: int
    elevations: tuple[int, ...]


Source = Package | Url | Tfds | Torchvision | Local | Generated


@dataclass(frozen=True)
class Fraction:
    """Split by a share of every class."""

    test: float
    seed: int


@dataclass(frozen=True)
class Published:
    """Split by the authors: how many samples each part has."""

    train: int
    test: int


@dataclass(frozen=True)
class Latest:
    """Split by time: the latest share of every user's ratings is for testing.

    ratings: how many there are, as published.
    """

    test: float
    ratings: int


@dataclass(frozen=True)
class Reader:
    """How an archive is laid out, and which part of it is wanted."""

    layout: str
    module_type: str | None = None


@dataclass(frozen=True)
class Entry:
    """One data set or one set of weights, as the catalog describes it."""

    name: str
    kind: Literal["images", "text", "chairs", "ratings", "weights"]
    title: str
    task: str
    licence: str
    citation: str
    sources: tuple[Source, ...]
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    splits: Fraction | Published | Latest | None = None
    reader: Reader | None = None

    def digest(self) -> str:
        """Checksum of everything that decides what is fetched; wording does not count."""
        content = asdict(self)
        for wording in ("title", "task", "licence", "citation"):
            del content[wording]
        content["preparation"] = PREPARATION
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def load(path: Path = CATALOG) -> dict[str, Entry]:
    """All entries by name. Raises ConfigError that names the key when the file is not valid."""
    content = read_yaml(path)
    _validate(content, path)
    return {name: _entry(name, fields) for name, fields in content.items()}


def entry(name: str) -> Entry:
    """The entry of that name. Raises ConfigError that lists the names there are."""
    entries = load()
    if name in entries:
        return entries[name]
    raise ConfigError(
        f"no data set or weights called {name!r} in the catalog ({suggestion(name, list(entries))})"
    )


def environment(entry: Entry) -> Literal["main", "tensorflow"]:
    """The environment that can fetch every source of the entry."""
    needs_tensorflow = any(isinstance(source, Tfds) for source in entry.sources)
    return "tensorflow" if needs_tensorflow else "main"


def _validate(content: Any, path: Path) -> None:
    error = best_match(Draft202012Validator(read_yaml(SCHEMA)).iter_errors(content))
    if error is not None:
        where = "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path
        )
        raise ConfigError(f"{path}: {where.lstrip('.') or 'the whole file'}: {error.message}")


def _entry(name: str, fields: Mapping[str, Any]) -> Entry:
    kept = {key: fields[key] for key in ("kind", "title", "task", "licence", "citation")}
    names = fields.get("class_names")
    return Entry(
        name=name,
        **kept,
        sources=tuple(_source(name, source) for source in fields["sources"]),
        classes=fields.get("classes"),
        class_names=tuple(names) if names else None,
        splits=_splits(fields["splits"]) if "splits" in fields else None,
        reader=Reader(**fields["reader"]) if "reader" in fields else None,
    )


def _splits(fields: Mapping[str, Any]) -> Fraction | Published | Latest:
    if fields["how"] == "fraction":
        return Fraction(fields["test"], fields["seed"])
    if fields["how"] == "latest":
        return Latest(fields["test"], fields["ratings"])
    return Published(fields["train"], fields["test"])


def _source(name: str, fields: Mapping[str, Any]) -> Source:
    given = {key: value for key, value in fields.items() if key != "kind"}
    match fields["kind"]:
        case "package":
            return Package(**_file(given), project=given["project"], version=given["version"])
        case "url":
            address = given["url"]
            return Url(**_file({"filename": address.rsplit("/", 1)[1], **given}), url=address)
        case "tfds":
            return Tfds(**given)
        case "torchvision":
            return Torchvision(**given)
        case "generated":
            return Generated(given["azimuths"], tuple(given["elevations"]))
        case _:
            return Local(given.get("folder", name))


def _file(given: Mapping[str, Any]) -> dict[str, Any]:
    kinds = ("sha256", "sha256_prefix", "md5")
    return {
        "filename": given["filename"],
        "algorithm": "md5" if "md5" in given else "sha256",
        # None of them: the entry says that none is published.
        "checksum": next((given[kind] for kind in kinds if kind in given), ""),
        "size": given.get("size"),
        "member": tuple(given.get("member", ())),
    }
