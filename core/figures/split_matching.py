"""Which runs or profiles a figure of split training is drawn from, each once, in its order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import ConfigError
from core.figures.results import Settings
from core.figures.split_kinds import SPLIT_KINDS, combinations
from core.figures.split_results import Profile, SplitRun
from core.split.schemes import SCHEMES


def split_matched(entry: Mapping[str, Any], given: Sequence[Any], settings: Settings) -> list[Any]:
    """Runs in the order of contexts, schemes and varied settings, however they came; profiles as
    they came: of the edge, of the cloud.

    Raises ConfigError for what the entry does not name, two of the same, and one missing.
    """
    source = SPLIT_KINDS[entry["kind"]].source
    if source == "runs":
        return _matched(entry, given)
    if source == "nothing" and given:
        raise ConfigError(f"kind {entry['kind']} is drawn from no files, {len(given)} were given")
    if source == "profiles":
        _check_profiles(entry["kind"], given)
    return list(given)


def sends(scheme: str) -> bool:
    """Whether anything crosses the link; if not, one run stands for all contexts."""
    return scheme not in SCHEMES or SCHEMES[scheme].cut != "edge"


def run_in(runs: Sequence[SplitRun], context: str, scheme: str) -> SplitRun:
    """The run of a scheme in a context, out of matched ones with nothing varied."""
    return next(run for run in runs if run.scheme == scheme and _is_in(run, context))


def _matched(entry: Mapping[str, Any], runs: Sequence[SplitRun]) -> list[SplitRun]:
    if not runs:
        raise ConfigError("no run to draw: give the folder of at least one")
    _check_alike(runs)
    for run in runs:
        _check_named(run, entry)
    _check_once(runs, entry)
    missing = list(_missing(runs, entry))
    if missing:
        raise ConfigError(f"no run of {', '.join(missing)}: add its folder")
    return sorted(runs, key=lambda run: _place(run, entry))


def _check_alike(runs: Sequence[SplitRun]) -> None:
    """Task, scale and devices are one: times of different ones say nothing side by side."""
    for what in ("scale", "model", "dataset", "edge", "cloud"):
        found = {getattr(run, what): run.folder for run in runs}
        if len(found) > 1:
            each = "; ".join(f"{value} ({folder})" for value, folder in found.items())
            raise ConfigError(f"runs of more than one {what}: {each}; draw them apart")


def _check_named(run: SplitRun, entry: Mapping[str, Any]) -> None:
    if run.scheme not in entry["schemes"]:
        listed = list(entry["schemes"])
        raise ConfigError(f"{run.folder} ran scheme {run.scheme}, not in {listed}")
    if sends(run.scheme) and run.context not in entry["contexts"]:
        listed = list(entry["contexts"])
        raise ConfigError(f"{run.folder} ran in context {run.context}, not in {listed}")
    if not any(run.has(values) for values in combinations(entry)):
        found = _words({key: run.setting(key) for key in entry["vary"]})
        raise ConfigError(f"{run.folder} has {found}, which the figure does not vary")


def _check_once(runs: Sequence[SplitRun], entry: Mapping[str, Any]) -> None:
    found: dict[tuple[Any, ...], SplitRun] = {}
    for run in runs:
        place = _place(run, entry)
        if place in found:
            folders = f"{found[place].folder}, {run.folder}"
            raise ConfigError(f"two runs of scheme {run.scheme}, give one: {folders}")
        found[place] = run


def _missing(runs: Sequence[SplitRun], entry: Mapping[str, Any]) -> Iterator[str]:
    for context in entry["contexts"]:
        for scheme in entry["schemes"]:
            there = [r for r in runs if r.scheme == scheme and _is_in(r, context)]
            for values in combinations(entry):
                if not any(run.has(values) for run in there):
                    wanted = f" with {_words(values)}" if values else ""
                    yield f"scheme {scheme}{wanted} in context {context}"


def _is_in(run: SplitRun, context: str) -> bool:
    return not sends(run.scheme) or run.context == context


def _place(run: SplitRun, entry: Mapping[str, Any]) -> tuple[int, ...]:
    """Where a run is among those that the entry names."""
    contexts = entry["contexts"]
    context = contexts.index(run.context) if sends(run.scheme) else len(contexts)
    varied = (v.index(run.setting(key)) for key, v in entry.get("vary", {}).items())
    return (context, entry["schemes"].index(run.scheme), *varied)


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _check_profiles(kind: str, given: Sequence[Profile]) -> None:
    if len(given) != 2:
        raise ConfigError(
            f"kind {kind} draws two profiles, of the edge and of the cloud; {len(given)} were given"
        )
    edge, cloud = given
    for key in ("model", "size", "blocks", "batch", "feature_shapes"):
        if edge.content[key] != cloud.content[key]:
            raise ConfigError(
                f"{edge.path} and {cloud.path} differ in {key}: they are not of the same network "
                "and batch"
            )
