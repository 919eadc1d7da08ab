"""The claims as data: reading config/claims.yaml, and which runs each is about."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import config as settings
from core import schema
from core.claims.verdict import Direction
from core.errors import ConfigError
from core.figures.results import Run
from core.figures.split_results import SplitRun
from core.planning.configuration import BOOK, Config
from core.split import config as split_settings


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
    split: bool

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
    split = entry["figure"] in split_settings.figures(config)
    return Claim(name, entry, runs("run"), over, split)


def _runs(
    config: Config, entry: Mapping[str, Any], where: str
) -> Callable[[str], tuple[tuple[Path, ...], ...]]:
    """Folders of the runs that `run` or `over` select among those of the figure."""
    elastic, split = settings.figures(config), split_settings.figures(config)
    figure = entry["figure"]
    if figure not in elastic and figure not in split:
        known = schema.suggestion(figure, [*elastic, *split])
        raise ConfigError(f"{where}.figure = {figure!r}: there is no such figure ({known})")

    def select(part: str) -> tuple[tuple[Path, ...], ...]:
        wanted = dict(entry[part])
        found = (
            _elastic(config, elastic[figure], wanted)
            if figure in elastic
            else _split(config, split[figure], wanted)
        )
        if not found:
            raise ConfigError(f"{where}.{part} = {entry[part]}: figure {figure} has no such run")
        return tuple(found)

    return select


def _elastic(
    config: Config, figure: settings.Figure, wanted: dict[str, Any]
) -> list[tuple[Path, ...]]:
    schemes = _listed(wanted.pop("scheme"))
    names = {key: config["stand_ins"].get(wanted.pop(key, None)) for key in ("model", "dataset")}
    found = []
    for key in figure.runs:
        same = all(getattr(key, part) == name for part, name in names.items() if name)
        options = dict(key.options)
        if key.scheme in schemes and same and all(options.get(k) == v for k, v in wanted.items()):
            found.append(_seeds(settings.run_folder(config, key), key.seed))
    return found


def _split(
    config: Config, figure: split_settings.Figure, wanted: dict[str, Any]
) -> list[tuple[Path, ...]]:
    schemes, context = _listed(wanted.pop("scheme")), wanted.pop("context", None)
    found = []
    for key in figure.runs:
        here = context in (None, key.context) or key.context == split_settings.NO_CONTEXT
        options = dict(key.options)
        if key.scheme in schemes and here and all(options.get(k) == v for k, v in wanted.items()):
            found.append(_seeds(key.folder(config), key.seed))
    return found


def _seeds(folder: str, seed: int) -> tuple[Path, ...]:
    """The run with each seed that has one, this seed first where none has."""
    path = Path(folder)
    stem = path.name.removesuffix(f"-seed{seed}")
    there = sorted(path.parent.glob(f"{stem}-seed*/result.json"))
    return tuple(result.parent for result in there) or (path,)


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


Finished = Run | SplitRun
