"""The kinds of runs, as plans, claims and reports see them. A new kind is an entry here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from core import config as settings
from core.planning.configuration import CONTEXTS, DEVICES, Config
from core.spec import RunSpec
from core.split import config as split_settings

Key = Any  # of a run: a frozen dataclass with device, scheme, seed and options
Spec = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One kind of runs.

    figures: every figure of this kind by name, each with `entry` and `runs` (keys).
    folder: of a run's results. spec: its complete spec.
    profiles: those of which it needs the times, from its spec.
    read: `module:function`, imported late, from a folder to a finished run.
    """

    figures: Callable[[Config], Mapping[str, Any]]
    folder: Callable[[Config, Key], str]
    spec: Callable[[Config, Key], Spec]
    read: str
    profiles: Callable[[Spec], Sequence[str]] = lambda spec: ()

    def reader(self) -> Callable[[Path], Any]:
        """What reads a finished run."""
        module, _, name = self.read.partition(":")
        found: Callable[[Path], Any] = getattr(import_module(module), name)
        return found


def _split_spec(config: Config, key: Key) -> Spec:
    return split_settings.run_spec(config, key, settings.read_devices(DEVICES), CONTEXTS)


def _chosen_by_profile(spec: Spec) -> list[str]:
    return [*spec["profile"].values()] if spec["scheme"]["cut"] is None else []


# By the `kind` of a run's spec.
FAMILIES = {
    "elastic": Family(
        settings.figures,
        settings.run_folder,
        lambda config, key: settings.run_spec(config, key, DEVICES),
        "core.figures.results:read_run",
        lambda spec: [spec["profile"]],
    ),
    "split": Family(
        split_settings.figures,
        lambda config, key: key.folder(config),
        _split_spec,
        "core.figures.split_results:read_split_run",
        _chosen_by_profile,
    ),
}


@dataclass(frozen=True)
class Figure:
    """A figure of any family, with the runs that it is drawn from."""

    name: str
    entry: Mapping[str, Any]
    keys: Sequence[Key]
    family: Family


def figures(config: Config) -> dict[str, Figure]:
    """Every figure that can be made, by name, `_ego` variants included."""
    return {
        name: Figure(name, figure.entry, figure.runs, family)
        for family in FAMILIES.values()
        for name, figure in family.figures(config).items()
    }


def with_seed(key: Key, seed: int) -> Key:
    """The same run with another seed."""
    return replace(key, seed=seed)


def keys(config: Config, names: Sequence[str], seeds: int) -> Iterator[tuple[Family, Key]]:
    """The runs of these figures, with so many seeds from their own on. One may come again."""
    known = figures(config)
    for figure in (known[name] for name in names):
        for key, more in product(figure.keys, range(seeds)):
            yield figure.family, with_seed(key, key.seed + more)


def folders_of_campaign(config: Config) -> list[str]:
    """Of the runs of every figure with each of `seeds` seeds."""
    found = keys(config, [*figures(config)], config["seeds"])
    return list(dict.fromkeys(family.folder(config, key) for family, key in found))


def same(one: Spec, other: Spec) -> bool:
    """Whether two specs compute the same; what alters no number aside."""
    return RunSpec(one).digest == RunSpec(other).digest
