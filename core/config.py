"""From the configuration to complete run specs. Reads YAML; imports no framework."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from core import RECIPE, schema
from core.data import catalog
from core.elastic.schemes import SCHEMES
from core.errors import ConfigError
from core.models import MODELS

Config = dict[str, Any]

# Where things are, relative to the folder in which Snakemake works.
DATA = "results/data/{dataset}-{size}"
WEIGHTS = "results/weights/{weights}"
PROFILE = "results/{scale}/{device}/{framework}/profiles/{task}.json"
RUN = "results/{scale}/{device}/{framework}/{task}/{run}"

_RUN_NAME = re.compile(r"(?P<scheme>[a-z0-9_]+?)(-rho(?P<rho>[0-9.]+))?-seed(?P<seed>\d+)")


@dataclass(frozen=True)
class RunKey:
    """Which run: what distinguishes it from the others of the same configuration."""

    model: str
    dataset: str
    scheme: str
    rho: float | None
    seed: int

    @property
    def task(self) -> str:
        return f"{self.model}-{self.dataset}"

    @property
    def name(self) -> str:
        rho = "" if self.rho is None else f"-rho{Decimal(str(self.rho)):f}"
        return f"{self.scheme}{rho}-seed{self.seed}"

    @classmethod
    def parse(cls, task: str, run: str) -> "RunKey":
        """The key whose task and name these are. Raises ConfigError for names of no run."""
        match = _RUN_NAME.fullmatch(run)
        model, _, dataset = task.partition("-")
        if not match or not dataset:
            raise ConfigError(f"{task}/{run} does not name a run")
        rho = float(match["rho"]) if match["rho"] else None
        return cls(model, dataset, match["scheme"], rho, int(match["seed"]))


@dataclass(frozen=True)
class Figure:
    """A figure's entry and the runs that it is drawn from."""

    name: str
    entry: dict[str, Any]
    runs: tuple[RunKey, ...]


def check(config: Config, files: Sequence[Path], devices: Path) -> None:
    """Raises ConfigError naming key, value, allowed values and file, before anything starts.

    files: what the configuration was read from, the last one winning. devices: their folder.
    """
    schema.check(config, "config", files)
    _one_of(config["device"], sorted(read_devices(devices)), "device", ["device"], files)
    images = sorted(e.name for e in catalog.load().values() if e.kind == "images")
    known = {"model": sorted(MODELS), "dataset": images}
    for name, entry in config["figures"].items():
        for key, words in (("model", "model"), ("dataset", "data set")):
            names = sorted(config["stand_ins"])
            _one_of(entry[key], names, "key of stand_ins", ["figures", name, key], files)
            stand_in = config["stand_ins"][entry[key]]
            _one_of(stand_in, known[key], words, ["stand_ins", entry[key]], files)
        for i, scheme in enumerate(entry["schemes"]):
            _one_of(scheme, list(SCHEMES), "scheme", ["figures", name, "schemes", str(i)], files)


def check_published(config: Config, published: Config) -> None:
    """Raises ConfigError where `scale: paper` would name a setting that is not the published one.

    published: the content of config/paper.yaml. Budgets may vary, as they do in the paper.
    """
    if config["scale"] != "paper":
        return
    for section in ("stand_ins", "training", "elastic"):
        for key, value in published[section].items():
            if config[section][key] != value and key != "rho":
                raise ConfigError(
                    f"scale = paper is the published setting, but {section}.{key} is "
                    f"{config[section][key]!r}, published: {value!r}; use scale = custom, or the "
                    "whole of it with --configfile config/paper.yaml"
                )


def read_devices(folder: Path) -> dict[str, dict[str, Any]]:
    """Every device of config/devices by name. Raises ConfigError for a bad file."""
    return _read_devices(folder.resolve())


@cache
def _read_devices(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        found[file.stem] = schema.read_yaml(file)
        schema.check(found[file.stem], "device", [file])
    if not found:
        raise ConfigError(f"{folder} holds no device; the project ships config/devices/*.yaml")
    return found


def figures(config: Config) -> dict[str, Figure]:
    """Every figure that can be drawn, by name, `_ego` variants included."""
    return {figure.name: figure for figure in _figures(config)}


def _figures(config: Config) -> Iterator[Figure]:
    for name, entry in config["figures"].items():
        yield Figure(name, entry, tuple(_runs(config, entry)))
        if entry.get("ego"):
            alone = entry | {"schemes": ["elastic"]}
            yield Figure(f"{name}_ego", alone, tuple(_runs(config, alone)))


def _runs(config: Config, entry: dict[str, Any]) -> Iterator[RunKey]:
    model, dataset = (config["stand_ins"][entry[key]] for key in ("model", "dataset"))
    for scheme in entry["schemes"]:
        rho = config["elastic"]["rho"] if scheme == "elastic" else None
        yield RunKey(model, dataset, scheme, rho, config["seed"])


def run_folder(config: Config, key: RunKey) -> str:
    """The folder of a run's results."""
    return RUN.format(
        scale=config["scale"],
        device=config["device"],
        framework=config["framework"],
        task=key.task,
        run=key.name,
    )


def run_spec(config: Config, key: RunKey, devices: Path) -> dict[str, Any]:
    """The complete spec of a run, of the shape of core/schemas/run.schema.yaml."""
    device = read_devices(devices)[config["device"]]
    size = config["training"]["image_size"]
    profile = PROFILE.format(task=key.task, **config)
    weights = WEIGHTS.format(weights=MODELS[key.model].weights)
    scheme: dict[str, Any] = {"name": key.scheme}
    if key.scheme == "elastic":
        scheme |= config["elastic"] | {"rho": key.rho}
    return {
        "recipe": RECIPE,
        "kind": "elastic",
        "scale": config["scale"],
        "device": {k: device[k] for k in ("title", "timing", "threads")}
        | {"name": config["device"]},
        "framework": config["framework"],
        "seed": key.seed,
        "model": {"name": key.model, "weights": weights},
        "data": {
            "name": key.dataset,
            "folder": DATA.format(dataset=key.dataset, size=size),
            "classes": catalog.entry(key.dataset).classes,
        },
        "training": config["training"],
        "scheme": scheme,
        "profile": profile,
    }


def profile_spec(config: Config, task: str, devices: Path) -> dict[str, Any]:
    """The spec that a timing profile is measured for: full training, whatever the seed, without
    what alters no number, so that changing that measures nothing again."""
    spec = run_spec(config, RunKey.parse(task, "full-seed0"), devices)
    spec["device"] = spec["device"] | {"title": config["device"]}
    spec["training"] = spec["training"] | {"snapshot_minutes": 1}
    return spec


def _one_of(
    value: str, known: Sequence[str], what: str, keys: list[str], files: Sequence[Path]
) -> None:
    if value not in known:
        raise ConfigError(
            f"{schema.source(keys, value, files)}: {'.'.join(keys)} = {value!r}: unknown {what} "
            f"({schema.suggestion(value, known)})"
        )
