"""The claims as data: reading config/claims.yaml, and which runs each is about."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import config as settings
from core import schema
from core.claims.verdict import Direction
from core.declared import Config
from core.errors import ConfigError
from core.figures.results import Run
from core.planning.configuration import BOOK
from core.split.config import NO_CONTEXT


@dataclass(frozen=True)
class Metric:
    """of: a finished run and the claim, to a number. time: it depends on the device."""

    title: str
    of: Callable[[Any, Mapping[str, Any]], float]
    time: bool = False


def _hours_to(run: Run, claim: Mapping[str, Any]) -> float:
    return run.hours_to(float(claim["accuracy"]))


def _cost(section: str, key: str, unit: float) -> Callable[[Any, Mapping[str, Any]], float]:
    """A number that was recorded beside the run; not a number where nothing was."""

    def of(run: Any, _: Mapping[str, Any]) -> float:
        value = (run.result.get("measure") or {}).get(section, {}).get(key)
        return math.nan if value is None else float(value) / unit

    return of


METRICS = {
    "best_accuracy": Metric("best test accuracy (%)", lambda run, _: run.best_accuracy),
    "hours": Metric("hours without testing", lambda run, _: run.hours(testing=False)[-1], True),
    "hours_to": Metric("hours to an accuracy", _hours_to, True),
    "teraflops": Metric("teraflops", lambda run, _: run.teraflops.sum()),
    "memory_gib": Metric("peak memory (GiB)", _cost("memory", "peak_mib", 1024), True),
    "joules": Metric("energy (J)", _cost("energy", "joules", 1), True),
    "step_s": Metric("seconds per step", lambda run, _: run.steady().median, True),
}


@dataclass(frozen=True)
class Claim:
    """One published statement. run, over: the runs that it is about, by seed; with `over` the
    number is the quotient. Of several schemes the best counts."""

    name: str
    entry: Mapping[str, Any]
    run: tuple[tuple[Path, ...], ...]
    over: tuple[tuple[Path, ...], ...] | None

    @property
    def metric(self) -> Metric:
        return METRICS[self.entry["metric"]]

    @property
    def direction(self) -> Direction:
        return self.entry["direction"]  # type: ignore[no-any-return]


def read_book(config: Config, path: Path = BOOK) -> list[Claim]:
    """Every claim with its runs under a configuration. Raises ConfigError for a claim about runs
    that do not exist, or a metric that nobody writes."""
    content = schema.read_yaml(path)
    schema.check(content, "claims", [path])
    return [_claim(config, name, entry, path) for name, entry in content.items()]


def _claim(config: Config, name: str, entry: Mapping[str, Any], path: Path) -> Claim:
    where = f"{path}: {name}"
    if entry["metric"] not in METRICS:
        known = schema.suggestion(entry["metric"], [*METRICS])
        raise ConfigError(f"{where}.metric = {entry['metric']!r}: no run has that ({known})")
    if (entry["metric"] == "hours_to") != ("accuracy" in entry):
        raise ConfigError(f"{where}: accuracy belongs to metric hours_to, and to no other")
    runs = _runs(config, entry, where)
    over = runs("over") if "over" in entry else None
    return Claim(name, entry, runs("run"), over)


def _runs(
    config: Config, entry: Mapping[str, Any], where: str
) -> Callable[[str], tuple[tuple[Path, ...], ...]]:
    """Folders of the runs that `run` or `over` select among those of the figure."""
    figures, name = settings.figures(config), entry["figure"]
    if name not in figures:
        known = schema.suggestion(name, [*figures])
        raise ConfigError(f"{where}.figure = {name!r}: there is no such figure ({known})")

    def select(part: str) -> tuple[tuple[Path, ...], ...]:
        found = [key for key in figures[name].runs if _is_meant(config, key, entry[part])]
        if not found:
            raise ConfigError(f"{where}.{part} = {entry[part]}: figure {name} has no such run")
        return tuple(_seeds(key.folder(config), key.seed) for key in found)

    return select


def _is_meant(config: Config, key: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a run is of the wanted scheme, model, data set and context, as far as they are named,
    with the wanted options."""
    options = dict(key.options)
    for name, value in wanted.items():
        match name:
            case "scheme":
                same = key.scheme in ([value] if isinstance(value, str) else value)
            case "model" | "dataset":
                same = getattr(key, name, None) == config["stand_ins"].get(value)
            case "context":
                same = getattr(key, "context", None) in (value, NO_CONTEXT)
            case _:
                same = options.get(name) == value
        if not same:
            return False
    return True


def _seeds(folder: str, seed: int) -> tuple[Path, ...]:
    """The run with each seed that has one, this seed first where none has."""
    path = Path(folder)
    stem = path.name.removesuffix(f"-seed{seed}")
    there = sorted(path.parent.glob(f"{stem}-seed*/result.json"))
    return tuple(result.parent for result in there) or (path,)
