"""Which runs a figure is drawn from: those that its entry names, each once, in its order."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from core.errors import ConfigError
from core.figures import combinations
from core.figures.results import Run, Settings


def matched(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> list[Run]:
    """The runs in the order of models, data sets, schemes and settings, however they came.

    Raises ConfigError for a run that the entry does not name, two of the same, and one missing.
    """
    if not runs:
        raise ConfigError("no run to draw: give the folder of at least one")
    models = [settings.ran(name) for name in entry["model"]]
    datasets = [settings.ran(name) for name in entry["dataset"]]
    _check_alike(runs)
    for run in runs:
        _check_named(run, models, datasets, entry)
    _check_once(runs, entry)
    places = product(dict.fromkeys(models), dict.fromkeys(datasets), entry["schemes"])
    missing = [what for place in places for what in _missing(place, runs, entry)]
    if missing:
        raise ConfigError(f"no run of {', '.join(missing)}: add its folder")
    return sorted(runs, key=lambda run: _place(run, models, datasets, entry["schemes"]))


def _check_alike(runs: Sequence[Run]) -> None:
    """Scale, device and framework are one: times of different ones say nothing side by side."""
    for what in ("scale", "device", "framework"):
        found = {getattr(run, what): run.folder for run in runs}
        if len(found) > 1:
            each = "; ".join(f"{value} ({folder})" for value, folder in found.items())
            raise ConfigError(f"runs of more than one {what}: {each}; draw them apart")


def _check_named(
    run: Run, models: Sequence[str], datasets: Sequence[str], entry: Mapping[str, Any]
) -> None:
    """Model, data set, scheme and varied settings of a run are those that the figure is about."""
    for what, ran, names in (("model", run.model, models), ("data", run.dataset, datasets)):
        if ran not in names:
            about = ", ".join(sorted(set(names)))
            raise ConfigError(f"{run.folder} has {what} {ran}, the figure is of {about}")
    if run.scheme not in entry["schemes"]:
        listed = list(entry["schemes"])
        raise ConfigError(f"{run.folder} ran scheme {run.scheme}, not in {listed}")
    wanted = list(combinations(run.scheme, entry))
    if not any(run.has(values) for values in wanted):
        found = _words({key: run.setting(key) for key in _varied_keys(entry)})
        raise ConfigError(f"{run.folder} has {found}, which the figure does not vary")


def _check_once(runs: Sequence[Run], entry: Mapping[str, Any]) -> None:
    """Runs of one scheme differ in what the figure shows: the budget, what it varies, and the
    epochs where it has longer ones."""
    keys = sorted({"rho", *_varied_keys(entry), *(["epochs"] if "longer" in entry else [])})
    found: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        own = (run.model, run.dataset, run.scheme, *(run.setting(key) for key in keys))
        if own in found:
            folders = f"{found[own].folder}, {run.folder}"
            raise ConfigError(f"two runs of scheme {run.scheme}, give one: {folders}")
        found[own] = run


def _missing(
    place: tuple[str, str, str], runs: Sequence[Run], entry: Mapping[str, Any]
) -> Iterator[str]:
    model, dataset, scheme = place
    there = [run for run in runs if (run.model, run.dataset, run.scheme) == place]
    for values in combinations(scheme, entry):
        if not any(run.has(values) for run in there):
            wanted = f" with {_words(values)}" if values else ""
            yield f"scheme {scheme}{wanted} ({model} on {dataset})"


def _varied_keys(entry: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key for sweep in entry.get("vary", []) for key in sweep))


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _place(
    run: Run, models: Sequence[str], datasets: Sequence[str], schemes: Sequence[str]
) -> tuple[float, ...]:
    values = (run.setting(key) or 0 for key in ("rho", "interval", "probe_batches", "epochs"))
    place = (models.index(run.model), datasets.index(run.dataset), schemes.index(run.scheme))
    return (*place, *values)
