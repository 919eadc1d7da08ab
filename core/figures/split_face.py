"""What figures of split training say on their face, and how they draw schemes and contexts."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.elastic.schemes import Look
from core.errors import ConfigError
from core.figures import measured, style
from core.figures.results import Settings, processor
from core.figures.split_kinds import SPLIT_KINDS
from core.figures.split_matching import sends
from core.figures.split_results import Profile, SplitRun
from core.frameworks import FRAMEWORKS
from core.split.schemes import SCHEMES

MIB = 2**20  # bytes
# Tasks are named after the published ones: what they begin with is the published data set.
PUBLISHED = {
    "cifar10": "cifar10",
    "tiny_imagenet": "tiny_imagenet",
    "imdb": "imdb",
    "chairs": "seeing_3d_chairs",
}
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "")  # of bars, for readers in grey


def look(scheme: str) -> Look:
    """The look of a scheme. Raises ConfigError."""
    if scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    return SCHEMES[scheme].look


def title_of(run: SplitRun) -> str:
    """Name of a run's context."""
    return str(run.spec["context"]["title"])


def rates_of(run: SplitRun) -> str:
    """The rates of a run's context in Mbit/s, up and down; empty where none are emulated."""
    ways = [run.spec["context"].get(way) for way in ("up", "down")]
    return " / ".join(f"{way['rate_mbit']:g}" for way in ways if way)


def subject(run: SplitRun) -> str:
    """What was trained, for titles."""
    return f"{style.human(run.model)} on {style.human(run.dataset)}"


def origin(entry: Mapping[str, Any], given: Sequence[Any], settings: Settings) -> list[str]:
    """Where the numbers come from, as lines for the face of a figure."""
    source = SPLIT_KINDS[entry["kind"]].source
    if source == "nothing":
        return []  # the kind itself knows
    lines = _of_profiles(given) if source == "profiles" else _of_runs(entry, given)
    if source == "runs":
        lines.append(measured.throttled([(look(run.scheme).label, run) for run in given]))
    return [style.SEPARATOR.join(parts) for parts in lines if parts]


def _of_runs(entry: Mapping[str, Any], runs: Sequence[SplitRun]) -> list[list[str]]:
    run = runs[0]
    named = [(r.timing, look(r.scheme).label) for r in runs]
    if len({(timing, name) for timing, name in named}) > len({name for _, name in named}):
        named = [(r.timing, f"{look(r.scheme).label}, {title_of(r)}") for r in runs]
    framework = FRAMEWORKS["torch"].title
    sides = [f"edge: {run.edge}", f"cloud: {run.cloud}"]
    published = next(
        (data for name, data in PUBLISHED.items() if f"{entry['task']}_".startswith(f"{name}_")),
        run.dataset,
    )
    replaced = [f"{style.human(run.dataset)} in place of {style.human(published)}"]
    if run.dataset.startswith(published):
        replaced = []
    return [[style.setting(run.scale), framework, *sides, *style.timings(named)], replaced]


def _of_profiles(profiles: Sequence[Profile]) -> list[list[str]]:
    sides = []
    for side, each in zip(("edge", "cloud"), profiles, strict=True):
        slowdown = each.content["slowdown"]
        slower = f", emulated {slowdown:g}× slower" if slowdown != 1 else ""
        own = [each.content["device"]["title"], processor(each.content)]
        sides.append(f"{side}: {', '.join(filter(None, own))}{slower}")
    emulated = any(each.content["slowdown"] != 1 for each in profiles)
    return [[FRAMEWORKS["torch"].title, *sides, f"times {'emulated' if emulated else 'measured'}"]]


def alone_notes(runs: Sequence[SplitRun]) -> list[str]:
    """That runs in which nothing is sent stand for every context, where that matters."""
    alone = [look(run.scheme).label for run in runs if not sends(run.scheme)]
    return [f"{alone[0]} sends nothing: one run, drawn in every context"] if alone else []
