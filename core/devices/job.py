"""What is carried to a board: a command of core, the files that it reads, and where it writes."""

import hashlib
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from core import PROJECT
from core.errors import ConfigError, DataError
from core.files import digest
from core.spec import RunSpec
from core.training import run_folder

CODE = (
    "core/**/*.py",
    "core/**/*.yaml",
    "core/**/*.csv",
    "core/**/*.proto",
    "config/contexts/*.yaml",
    "envs/*",
    "pyproject.toml",
)


@dataclass(frozen=True)
class Sent:
    """A file: where it is here, its path there, and whether the run there may write into it."""

    source: Path
    path: str
    sha256: str
    how: Literal["link", "copy"]

    @classmethod
    def of(cls, source: Path, path: str, how: Literal["link", "copy"] = "link") -> "Sent":
        return cls(source, path, digest(source), how)

    def words(self) -> list[str]:
        """As the board wants it."""
        return [self.path, self.sha256, self.how]


@dataclass(frozen=True)
class Job:
    """words: of the command, after `python -m core`. spec: the file among them; None for making an
    environment. out: folder or file that the command writes; paths are relative to the working
    directory here, and to the folder of this checkout there.

    Of a run with a side on each of two devices, a job is one side. That with the first blocks
    leads: its end is that of the run. part: of the other one, its name; it is needed until then,
    and begun again whatever it died of.
    """

    words: tuple[str, ...]
    environment: str
    spec: Path | None = None
    out: Path | None = None
    there: tuple[str, ...] | None = None  # the words on the board, where they differ
    secrets: tuple[Path, ...] = ()  # files that only the run may read
    part: str = ""
    data: tuple[str, ...] | None = None  # files of the data set that it reads; None is all
    beside: tuple[Path, ...] | None = None  # what it goes on from; None is all that lies beside out
    writes: tuple[Path, ...] = ()  # of a part: what it adds to the results

    @classmethod
    def of(cls, words: Sequence[str], environment: str) -> "Job":
        """From a command line. Raises ConfigError where spec or --out are missing, or lie
        elsewhere."""
        specs = [word for word in words if word.endswith(".yaml")]
        outs = [after for word, after in pairwise(words) if word == "--out"]
        if len(specs) != 1 or len(outs) != 1:
            raise ConfigError(
                f"{' '.join(words)}: on a board only commands run that have one spec (YAML) and "
                "one --out"
            )
        for path in (specs[0], outs[0]):
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ConfigError(
                    f"{path}: name it relative to the working directory, and below it"
                )
        return cls(tuple(words), environment, Path(specs[0]), Path(outs[0]))

    @property
    def name(self) -> str:
        """Of its folder on the board: the same command line finds it again."""
        return name_of(str(self.out) if self.out else self.environment, self.part)

    @property
    def title(self) -> str:
        """For people."""
        what = str(self.out) if self.out else f"environment {self.environment}"
        return f"the {self.part} of {what}" if self.part else what

    @property
    def digest(self) -> str:
        """Of what is asked."""
        content = self.spec.read_bytes() if self.spec else b""
        asked = json.dumps([*self.words, *filter(None, [self.part])])
        profiles = "".join(digest(path) for path in self._profiles()) if self.spec else ""
        return hashlib.sha256(asked.encode() + content + profiles.encode()).hexdigest()

    @property
    def snapshots(self) -> tuple[Path, ...]:
        """Files and folders that the run goes on from."""
        if self.beside is not None:
            return self.beside
        return (run_folder.snapshots(self.out),) if self.out else ()

    @property
    def results(self) -> tuple[Path, ...]:
        """What is brought back at the end."""
        if self.part:
            return (*self.snapshots, *self.writes)
        return (self.out,) if self.out else ()

    def inputs(self) -> Iterator[Sent]:
        """Spec, data, weights and profile. Raises DataError for what is missing here."""
        if self.spec is None or self.out is None:
            return
        yield Sent.of(self.spec, str(self.spec))
        spec = RunSpec.load(self.spec)
        # Blocks are profiled on random inputs.
        if self.words[:2] != ("split", "profile"):
            yield from _folder(spec["data"]["folder"], self.data)
        if spec["model"]["weights"]:
            yield from _folder(spec["model"]["weights"])
        for path in self.secrets:
            yield Sent.of(path, str(path), "copy")
        for path in self._profiles():
            yield Sent.of(path, str(path))

    def _profiles(self) -> Iterator[Path]:
        """Those that it goes by, where they are here."""
        assert self.spec is not None
        profiles = RunSpec.load(self.spec)["profile"]
        for path in map(Path, profiles.values() if isinstance(profiles, dict) else [profiles]):
            if path != self.out and path.exists():
                yield path

    def made_anew(self) -> Iterator[Path]:
        """What a board removes before it does again what was brought already: the results, and
        snapshots whose folder is gone here, as for a run that is to begin from the start."""
        if self.out is not None and not self.part:
            yield self.out
        yield from (path for path in self.snapshots if not path.exists())

    def snapshots_here(self) -> Iterator[Sent]:
        """Those that lie here: of a run that began elsewhere, or on a board that died."""
        for path in self.snapshots:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and not file.name.startswith("."):
                    yield Sent.of(file, str(file), "copy")


def name_of(what: str, part: str = "") -> str:
    """Of the job that writes into this path, on a board. part: of the run, as of Job."""
    return hashlib.sha256(f"{base()} {what} {part}".rstrip().encode()).hexdigest()[:20]


def _folder(name: str, files: Sequence[str] | None = None) -> Iterator[Sent]:
    """What lies in a folder that was fetched; of its files, these alone. Raises DataError."""
    folder = Path(name)
    if not (folder / "manifest.json").exists():
        raise DataError(f"{folder} is not there or not whole; fetch it here first (core fetch)")
    for path in sorted(folder.rglob("*")):
        wanted = files is None or path.relative_to(folder).as_posix() in files
        if wanted and path.is_file() and not path.name.startswith("."):
            yield Sent.of(path, str(path))


def code() -> list[Sent]:
    """The files of the project that a board needs."""
    found = {path for pattern in CODE for path in PROJECT.glob(pattern) if path.is_file()}
    return [Sent.of(path, str(path.relative_to(PROJECT))) for path in sorted(found)]


def base() -> str:
    """Of this working directory on this host: two of them do not mix on a board."""
    return hashlib.sha256(f"{socket.gethostname()}:{Path.cwd()}".encode()).hexdigest()[:16]
