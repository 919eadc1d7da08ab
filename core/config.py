"""The whole configuration, whatever trains: checked, with every figure and every run's spec.

Reads YAML; imports no framework. A new subject is a module like `core.federated.config`, with a
section in core/schemas/config.schema.yaml, and is named here in `check`, `figures` and `run_spec`.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from core import schema
from core.declared import Config, Figure, Key, with_seed
from core.elastic import config as elastic
from core.errors import ConfigError
from core.federated import config as federated
from core.measure.settings import check_meter
from core.split import config as split


def check(config: Config, files: Sequence[Path], devices: Path) -> None:
    """Raises ConfigError naming key, value, allowed values and file, before anything starts.

    files: what the configuration was read from, the last one winning. devices: their folder,
    which has the folder of contexts beside it.
    """
    schema.check(config, "config", files)
    known = sorted(read_devices(devices))
    elastic.check(config, files, known)
    split.check(config, files, known, devices.with_name("contexts"))
    federated.check(config, files, known, devices.with_name("contexts"))
    _check_names(config, files)
    drawn = [*figures(config), *config["groups"]]
    for name, members in config["groups"].items():
        for i, member in enumerate(members):
            schema.one_of(member, drawn, "figure or group", ["groups", name, str(i)], files)
        _members(config, name, ())


def over(content: Config, more: Config) -> Config:
    """Settings with others over them, as Snakemake puts one file over another: sections together,
    all else replaced."""
    found = content | more
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            found[key] = over(content[key], value)
    return found


def read_published(folder: Path) -> Config:
    """The published setting. folder: the shipped config/, whose demo says what its paper.yaml does
    not."""
    return over(*(schema.read_yaml(folder / name) for name in ("config.yaml", "paper.yaml")))


# No part of a setting: where the sides of a run are, what is drawn, what only costs time; budgets,
# which vary in the paper too.
FREE = ("edge", "cloud", "server", "parties", "figures", "profiling", "snapshot_minutes", "rho")
SECTIONS = ("stand_ins", "training", "model_training", "elastic", "prunetrain", "prunetrain_l1")


def check_published(config: Config, published: Config) -> None:
    """Raises ConfigError where `scale: paper` would name a setting that is not the one that
    `read_published` gives."""
    if config["scale"] != "paper":
        return
    for section in SECTIONS:
        # A model that the published setting does not name trains as all the others.
        added = config[section] if section == "model_training" else {}
        for key in {**published[section], **added}:
            if key not in FREE:
                value, wanted = config[section].get(key), published[section].get(key)
                _check_equal(f"{section}.{key}", value, wanted)
    for section in ("split", "federated"):
        _check_named(section, config[section], published[section])


def _check_named(key: str, value: Any, wanted: Any) -> None:
    """The same of what the published setting names; there may be more, as a task of one's own."""
    if not (isinstance(value, dict) and isinstance(wanted, dict)):
        _check_equal(key, value, wanted)
        return
    for name, each in wanted.items():
        if name not in FREE:
            _check_named(f"{key}.{name}", value.get(name), each)


def _check_equal(key: str, value: Any, wanted: Any) -> None:
    if value != wanted:
        raise ConfigError(
            f"scale = paper is the published setting, but {key} is {value!r}, published: "
            f"{wanted!r}; use scale = custom, or the whole of it with --configfile "
            "config/paper.yaml"
        )


def _check_names(config: Config, files: Sequence[Path]) -> None:
    """A figure is asked for by its name alone."""
    sections = {"figures": elastic, "split.figures": split, "federated.figures": federated}
    found: dict[str, str] = {}
    for section, subject in sections.items():
        for name, figure in subject.figures(config).items():
            if name in found:
                where = schema.source([*section.split("."), name], figure.entry, files)
                raise ConfigError(
                    f"{where}: {section}.{name}: {found[name]} has a figure of this name already"
                )
            found[name] = section


def read_devices(folder: Path) -> dict[str, Config]:
    """Every device of config/devices by name. Raises ConfigError for a bad file."""
    return _read_devices(folder.resolve())


@cache
def _read_devices(folder: Path) -> dict[str, Config]:
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        found[file.stem] = schema.read_yaml(file)
        schema.check(found[file.stem], "device", [file])
        check_meter(found[file.stem], file)
    if not found:
        raise ConfigError(f"{folder} holds no device; the project ships config/devices/*.yaml")
    return found


def figures(config: Config) -> dict[str, Figure[Key]]:
    """Every figure that can be drawn, by name, in the order of the configuration."""
    return {**elastic.figures(config), **split.figures(config), **federated.figures(config)}


def run_spec(config: Config, key: Key, devices: Path) -> Config:
    """The complete spec of a run of a figure. devices: as in `check`."""
    known, contexts = read_devices(devices), devices.with_name("contexts")
    match key:
        case elastic.RunKey():
            return elastic.run_spec(config, key, known)
        case split.SplitKey():
            return split.run_spec(config, key, known, contexts)
        case federated.FederatedKey():
            return federated.run_spec(config, key, known, contexts)
    raise TypeError(f"{key} is a run of no subject")


def runs(config: Config, names: Sequence[str], seeds: int) -> list[Key]:
    """The runs of these figures, each once, with so many seeds from their own on. A figure that is
    drawn of several seeds has its own."""
    known = figures(config)
    found: dict[Key, None] = {}
    for name in names:
        keys = known[name].runs
        more = seeds if all(key.seed == config["seed"] for key in keys) else 1
        found |= {with_seed(key, key.seed + i): None for key, i in product(keys, range(more))}
    return list(found)


def campaign(config: Config) -> list[Key]:
    """The runs of every figure, with each of `seeds` seeds."""
    return runs(config, [*figures(config)], config["seeds"])


def targets(config: Config) -> dict[str, tuple[str, ...]]:
    """Every group with the names of its figures."""
    return {name: _members(config, name, ()) for name in config["groups"]}


def _members(config: Config, group: str, above: tuple[str, ...]) -> tuple[str, ...]:
    if group in above:
        raise ConfigError(f"groups.{group} holds itself, by way of {', '.join(above)}")
    found: list[str] = []
    for member in config["groups"][group]:
        inner = member in config["groups"]
        found += _members(config, member, (*above, group)) if inner else [member]
    return tuple(dict.fromkeys(found))
