"""Contexts: what network lies between edge and cloud. One YAML file each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from core import PROJECT, schema
from core.errors import ConfigError, DataError
from core.files import digest
from core.split.traces import MBIT, Fading, Trace, read_csv, read_mahimahi, synthetic

SHIPPED = PROJECT / "config" / "contexts"


class Way(NamedTuple):
    """One direction. Mbit/s and milliseconds, as in the file; jitter comes on top of the delay."""

    rate_mbit: float
    delay_ms: float
    jitter_ms: float


class Outage(NamedTuple):
    """A break of the link, in seconds since the first byte."""

    at_s: float
    for_s: float
    kind: Literal["stall", "drop"]


_FADING = tuple(field.name for field in fields(Fading))
_KEYS = {
    "synthetic": ("seed", *_FADING),
    "mahimahi": ("up", "down"),
    "csv": ("up", "down"),
}


@dataclass(frozen=True)
class Context:
    """A network condition. up and down are None where nothing is emulated.

    trace: as in the file, paths absolute, each with the sha256 of its file (`up_sha256`); None
        where the rates are constant.
    """

    name: str
    title: str
    timing: Literal["measured", "emulated"]
    up: Way | None
    down: Way | None
    trace: dict[str, Any] | None = None
    outages: tuple[Outage, ...] = ()

    @property
    def emulated(self) -> bool:
        return self.timing == "emulated"

    def traces(self) -> tuple[Trace, Trace]:
        """Rates over time, up and down. Raises DataError for a trace file that cannot be used."""
        if self.up is None or self.down is None:
            raise ConfigError(f"context {self.name} emulates no network and has no rates")
        up, down = (way.rate_mbit * MBIT for way in (self.up, self.down))
        if self.trace is None:
            return Trace.constant(up), Trace.constant(down)
        if self.trace["kind"] == "synthetic":
            fading = Fading(**{key: self.trace[key] for key in _FADING})
            return synthetic(up, down, fading, self.trace["seed"])
        read = read_mahimahi if self.trace["kind"] == "mahimahi" else read_csv
        for key in ("up", "down"):
            file = Path(self.trace[key])
            if not file.is_file() or digest(file) != self.trace.get(f"{key}_sha256"):
                raise DataError(
                    f"trace {file} is not the file that the spec was written with; put "
                    "it back, or let Snakemake write the spec again"
                )
        return read(Path(self.trace["up"])), read(Path(self.trace["down"]))

    def plain(self) -> dict[str, Any]:
        """For JSON and specs; `Context.of` takes it back."""
        content = asdict(self)
        for key in ("up", "down"):
            way: Way | None = getattr(self, key)
            content[key] = way and way._asdict()
        content["outages"] = [outage._asdict() for outage in self.outages]
        return content

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Context":
        """The context of what `plain` gave."""
        ways = {key: Way(**content[key]) if content[key] else None for key in ("up", "down")}
        outages = tuple(Outage(**outage) for outage in content["outages"])
        return cls(**{**content, **ways, "outages": outages})


def load(path: Path) -> Context:
    """The context of a file, named as the file is. Raises ConfigError."""
    content = schema.read_yaml(path)
    schema.check(content, "context", [path])
    _check_trace(content["trace"], path)
    _check_emulation(content, path)
    content.pop("notes", None)
    if content["trace"]:
        for key in sorted({"up", "down"} & set(content["trace"])):
            content["trace"] |= _trace_file(path, key, content["trace"][key])
    return Context.of({"name": path.stem, **content})


def read_contexts(folder: Path) -> dict[str, Context]:
    """Every context of a folder by its name. Raises ConfigError."""
    files = sorted(folder.resolve().glob("*.yaml"))
    return dict(_read_contexts(folder, tuple((file, file.stat().st_mtime_ns) for file in files)))


@cache
def _read_contexts(folder: Path, files: tuple[tuple[Path, int], ...]) -> dict[str, Context]:
    """The same of files as they were written last: each spec of a campaign asks for it."""
    found = {path.stem: load(path) for path, _ in files}
    if not found:
        raise ConfigError(f"{folder} holds no contexts (NAME.yaml)")
    return found


def _trace_file(path: Path, key: str, name: str) -> dict[str, str]:
    """Where a trace lies, and what is in it: the same name with other rates is another context."""
    file = (path.parent / name).resolve()
    if not file.is_file():
        raise ConfigError(f"{path}: trace.{key}: there is no file {file}")
    return {key: str(file), f"{key}_sha256": digest(file)}


def _check_trace(trace: dict[str, Any] | None, path: Path) -> None:
    """Each kind has keys of its own: all of them, and none of another."""
    if trace is None:
        return
    needed: Sequence[str] = ("kind", *_KEYS[trace["kind"]])
    missing = [key for key in needed if key not in trace]
    extra = [key for key in trace if key not in needed]
    if missing or extra:
        wrong = f"misses {', '.join(missing)}" if missing else f"has no {', '.join(extra)}"
        raise ConfigError(
            f"{path}: trace: the kind {trace['kind']} {wrong}; its keys are {', '.join(needed[1:])}"
        )
    if trace["kind"] == "synthetic" and trace["seconds"] < 2 * trace["step_s"]:
        raise ConfigError(f"{path}: trace.seconds must be at least two times trace.step_s")


def _check_emulation(content: dict[str, Any], path: Path) -> None:
    """Emulated contexts have both directions, measured ones nothing that would be emulated."""
    if content["timing"] == "emulated":
        for key in ("up", "down"):
            if content[key] is None:
                raise ConfigError(f"{path}: {key}: null needs timing: measured; give it a rate")
        return
    for key in ("up", "down", "trace", "outages"):
        if content[key]:
            raise ConfigError(f"{path}: {key}: timing: measured emulates nothing; write emulated")
