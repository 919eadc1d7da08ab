"""The claims as data: reading config/claims.yaml, and which runs each is about."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import config as settings
from core import schema
from core.claims.verdict import Direction
from core.declared import Config, Key, with_seed
from core.errors import ConfigError
from core.figures import measured
from core.figures.results import Run
from core.planning.configuration import BOOK, DEVICES
from core.spec import KINDS
from core.split.config import NO_CONTEXT, SplitKey


@dataclass(frozen=True)
class Metric:
    """of: a finished run and the claim, to a number. kinds: of runs that have it. time: it depends
    on the device. known: how it was, where not as the run's times. best: of several runs."""

    title: str
    of: Callable[[Any, Mapping[str, Any]], float]
    kinds: Collection[str] = tuple(KINDS)
    time: bool = False
    known: Callable[[Any], str] | None = None
    best: Callable[[Iterable[float]], float] = min

    def timings(self, run: Any) -> set[str]:
        """`measured`, `emulated`, `simulated`: all that went into the number of a run."""
        return {run.timing} | ({self.known(run)} if self.known else set())


def _hours_to(run: Run, claim: Mapping[str, Any]) -> float:
    """Infinite where the accuracy is never reached, which is an outcome too."""
    hours = run.hours_to(float(claim["accuracy"]))
    return math.inf if math.isnan(hours) else hours


_TRAINED = ("elastic", "split")  # to an accuracy

METRICS = {
    "best_accuracy": Metric(
        "best test accuracy (%)", lambda run, _: run.best_accuracy, _TRAINED, best=max
    ),
    "best_auc": Metric("best test AUC", lambda run, _: max(run.auc), ("federated",), best=max),
    "hours": Metric(
        "hours without testing", lambda run, _: run.hours(testing=False)[-1], time=True
    ),
    "hours_to": Metric("hours to an accuracy", _hours_to, ("elastic",), time=True),
    "teraflops": Metric("teraflops", lambda run, _: run.teraflops.sum(), ("elastic",)),
    "memory_gib": Metric(
        "peak memory (GiB)", lambda run, _: measured.memory(run).value, _TRAINED, True
    ),
    "joules": Metric(
        "energy (J)", lambda run, _: measured.energy(run).value, _TRAINED, True, measured.word
    ),
    "step_s": Metric("seconds per step", lambda run, _: run.steady().median, ("split",), True),
}


@dataclass(frozen=True)
class Asked:
    """A run that a claim is about, with whatever seed."""

    config: Config
    key: Key

    @property
    def folder(self) -> Path:
        """Of the run with the configuration's own seed."""
        return Path(self.key.folder(self.config))

    def folders(self) -> list[Path]:
        """Of the finished runs, one for each seed."""
        stem = self.folder.name.removesuffix(f"-seed{self.key.seed}")
        found = self.folder.parent.glob(f"{stem}-seed*/result.json")
        return sorted(result.parent for result in found)

    def spec(self, seed: int) -> Config:
        """As the configuration has it."""
        return settings.run_spec(self.config, with_seed(self.key, seed), DEVICES)


@dataclass(frozen=True)
class Claim:
    """One published statement. run, over: the runs that it is about; with `over` the number is the
    quotient. Of several runs the best counts. targets: what Snakemake makes to have them."""

    name: str
    entry: Mapping[str, Any]
    run: tuple[Asked, ...]
    over: tuple[Asked, ...] | None
    targets: tuple[str, ...]

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
    return [_claim(config, name, entry, f"{path}: {name}") for name, entry in content.items()]


def _claim(config: Config, name: str, entry: Mapping[str, Any], where: str) -> Claim:
    if entry["metric"] not in METRICS:
        known = schema.suggestion(entry["metric"], [*METRICS])
        raise ConfigError(f"{where}.metric = {entry['metric']!r}: no run has that ({known})")
    if (entry["metric"] == "hours_to") != ("accuracy" in entry):
        raise ConfigError(f"{where}: accuracy belongs to metric hours_to, and to no other")
    if ("figure" in entry) == ("tasks" in entry):
        raise ConfigError(f"{where}: must have figure or tasks, and not both")
    known_runs = [*(_of_figure if "figure" in entry else _of_tasks)(config, entry, where)]

    def select(part: str) -> tuple[Asked, ...]:
        found = tuple(run for run in known_runs if _is(run, entry[part]))
        if not found:
            of = f"figure {entry['figure']}" if "figure" in entry else "tasks"
            raise ConfigError(f"{where}.{part} = {entry[part]}: {of} has no such run")
        return found

    run, over = select("run"), select("over") if "over" in entry else None
    for kind in {each.spec(config["seed"])["kind"] for each in (*run, *(over or ()))}:
        if kind not in METRICS[entry["metric"]].kinds:
            raise ConfigError(
                f"{where}.metric = {entry['metric']!r}: no run of kind {kind} has that"
            )
    if METRICS[entry["metric"]].time and "over" not in entry and "device" not in entry:
        raise ConfigError(f"{where}: {entry['metric']} depends on the device; say which, or over")
    if "figure" in entry:
        targets = [f"figures/{entry['figure']}.pdf"]
    else:
        targets = [f"{each.folder}/result.json" for each in (*run, *(over or ()))]
    return Claim(name, entry, run, over, tuple(targets))


def _of_figure(config: Config, entry: Mapping[str, Any], where: str) -> Iterator[Asked]:
    known, name = settings.figures(config), entry["figure"]
    if name not in known:
        every = schema.suggestion(name, [*known])
        raise ConfigError(f"{where}.figure = {name!r}: there is no such figure ({every})")
    # Of several seeds in a figure the first one stands for all: `folders` finds the others.
    yield from (Asked(config, key) for key in known[name].runs if key.seed == config["seed"])


def _of_tasks(config: Config, entry: Mapping[str, Any], where: str) -> Iterator[Asked]:
    """Whole runs of split training that no figure draws."""
    split = config["split"]
    for task in entry["tasks"]:
        if task not in split["tasks"]:
            every = schema.suggestion(task, [*split["tasks"]])
            raise ConfigError(f"{where}.tasks = {task!r}: there is no such task ({every})")
        for part in ("run", "over"):
            for scheme in _listed(entry.get(part, {}).get("scheme", [])):
                context = entry[part].get("context", NO_CONTEXT)
                key = SplitKey(split["edge"]["device"], task, context, scheme, config["seed"])
                asked = Asked(config, key)
                try:
                    asked.spec(config["seed"])
                except ConfigError as error:
                    raise ConfigError(f"{where}.{part}: {error}") from None
                yield asked


def _is(asked: Asked, wanted: Mapping[str, Any]) -> bool:
    """Whether a run is one of those that a claim selects: by parts of its key, with published
    names, or by its options."""
    config, key = asked.config, asked.key
    options = dict(key.options)
    for name, value in wanted.items():
        own = getattr(key, name) if hasattr(key, name) else options.get(name)
        if name in ("model", "dataset"):
            value = config["stand_ins"].get(value, value)
        if name == "context" and own == NO_CONTEXT and not key.sends:
            continue  # it is the same in all
        if own not in _listed(value):
            return False
    return True


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
