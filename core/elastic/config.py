"""From the sections about ElasticTrainer to complete run specs. Imports no framework."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from core import RECIPE, schema
from core.data import catalog
from core.declared import Config, Figure
from core.elastic.schemes import SCHEMES
from core.errors import ConfigError
from core.figures import KINDS, check_entry, combinations
from core.measure.settings import for_spec, meter_for_spec
from core.models import MODELS

# Where things are, relative to the folder in which Snakemake works.
DATA = "results/data/{dataset}-{size}"
WEIGHTS = "results/weights/{weights}"
PROFILE = "results/{scale}/{device}/{framework}/profiles/{task}.json"
RUN = "results/{scale}/{device}/{framework}/{task}/{run}"
RESULTS = ("result.json", "epochs.csv")

# What a run may have of its own, beside the configuration, in the order in which it is named.
OPTIONS: dict[str, type[int] | type[float]] = {
    "rho": float,
    "interval": int,
    "probe_batches": int,
    "epochs": int,
}
_NUMBERS = {int: r"\d+", float: r"\d+\.\d+"}
_RUN_NAME = re.compile(
    r"(?P<scheme>[a-z0-9_]+)"
    + "".join(rf"(-{name}(?P<{name}>{_NUMBERS[kind]}))?" for name, kind in OPTIONS.items())
    + r"-seed(?P<seed>\d+)"
)


@dataclass(frozen=True)
class RunKey:
    """Which run: what distinguishes it from the others of the same configuration.

    options: budget where the scheme has one, and what differs from the configuration.
    """

    device: str
    model: str
    dataset: str
    scheme: str
    seed: int
    options: tuple[tuple[str, float], ...] = ()

    @property
    def sends(self) -> bool:
        return False

    @property
    def task(self) -> str:
        return f"{self.model}-{self.dataset}"

    @property
    def name(self) -> str:
        options = (f"-{name}{Decimal(str(value)):f}" for name, value in self.options)
        return f"{self.scheme}{''.join(options)}-seed{self.seed}"

    def folder(self, config: Config) -> str:
        """Of its results."""
        return RUN.format(
            scale=config["scale"],
            device=self.device,
            framework=config["framework"],
            task=self.task,
            run=self.name,
        )

    @classmethod
    def parse(cls, device: str, task: str, run: str) -> "RunKey":
        """The key whose task and name these are. Raises ConfigError for names of no run."""
        match = _RUN_NAME.fullmatch(run)
        model, _, dataset = task.partition("-")
        if not match or not dataset:
            raise ConfigError(f"{task}/{run} does not name a run")
        options = tuple((o, kind(match[o])) for o, kind in OPTIONS.items() if match[o])
        return cls(device, model, dataset, match["scheme"], int(match["seed"]), options)


def check(config: Config, files: Sequence[Path], devices: Sequence[str]) -> None:
    """Raises ConfigError naming key, value, what is known and the file. The shape of the sections
    was checked before."""
    schema.one_of(config["device"], ["published", *devices], "device", ["device"], files)
    for name, entry in config["figures"].items():
        _check_figure(config, name, entry, devices, files)
    _known_keys(config["model_training"], sorted(MODELS), "model", ["model_training"], files)
    for model, training in config["model_training"].items():
        at = ("model_training", model)
        schema.check(config["training"] | training, "training", files, at)
    for figure in figures(config).values():
        for key in figure.runs:
            _check_size(config, figure.name, key, files)
            _check_pruned(figure.name, key)


def _check_figure(
    config: Config, name: str, entry: Config, devices: Sequence[str], files: Sequence[Path]
) -> None:
    """Every name in a figure's entry is one that there is, and its kind can draw it."""
    at = ["figures", name]
    schema.one_of(entry["kind"], sorted(KINDS), "kind of figure", [*at, "kind"], files)
    schema.one_of(entry["device"], devices, "device", [*at, "device"], files)
    images = sorted(e.name for e in catalog.load().values() if e.kind == "images")
    known = {"model": sorted(MODELS), "dataset": images}
    for key, words in (("model", "model"), ("dataset", "data set")):
        for i, published in enumerate(entry[key]):
            names = sorted(config["stand_ins"])
            schema.one_of(published, names, "key of stand_ins", [*at, key, str(i)], files)
            stand_in = config["stand_ins"][published]
            schema.one_of(stand_in, known[key], words, ["stand_ins", published], files)
    for i, scheme in enumerate(entry["schemes"]):
        schema.one_of(scheme, list(SCHEMES), "scheme", [*at, "schemes", str(i)], files)
    for key, part in (("longer", "model"), ("targets", "dataset")):
        _known_keys(entry.get(key, {}), entry[part], f"{part} of this figure", [*at, key], files)
    for published, times in entry.get("longer", {}).items():
        own = [*at, "longer", published]
        _known_keys(times, entry["schemes"], "scheme of this figure", own, files)
    try:
        check_entry(entry)
    except ConfigError as error:
        raise ConfigError(f"{schema.source(at, entry, files)}: figures.{name}: {error}") from None


def _check_size(config: Config, figure: str, key: RunKey, files: Sequence[Path]) -> None:
    """Raises ConfigError for an image size that the model of a run cannot take."""
    size, multiple = _training(config, key)["image_size"], MODELS[key.model].size_multiple
    if size % multiple:
        own = "image_size" in config["model_training"].get(key.model, {})
        keys = ["model_training", key.model] if own else ["training"]
        keys.append("image_size")
        raise ConfigError(
            f"{schema.source(keys, size, files)}: {'.'.join(keys)} = {size}: "
            f"{MODELS[key.model].title}, for figure {figure}, takes multiples of {multiple}: "
            f"{size - size % multiple} or {size - size % multiple + multiple}"
        )


def _check_pruned(figure: str, key: RunKey) -> None:
    """Raises ConfigError where PruneTrain would run on a model that has no channels to cut."""
    cuts = SCHEMES[key.scheme].penalty == "group_lasso"
    if cuts and not MODELS[key.model].convolutional:
        raise ConfigError(
            f"figures.{figure}: scheme {key.scheme} cuts channels of convolutional networks, and "
            f"{MODELS[key.model].title} is none; take prunetrain_l1, or another model"
        )


def figures(config: Config) -> dict[str, Figure[RunKey]]:
    """Every figure that can be drawn, by name, `_ego` variants included."""
    return {figure.name: figure for figure in _figures(config)}


def _figures(config: Config) -> Iterator[Figure[RunKey]]:
    for name, entry in config["figures"].items():
        yield Figure(name, entry, _runs(config, entry), RESULTS)
        if entry.get("ego"):
            alone = entry | {"schemes": ["elastic"]}
            yield Figure(f"{name}_ego", alone, _runs(config, alone), RESULTS)


def _runs(config: Config, entry: dict[str, Any]) -> tuple[RunKey, ...]:
    """Each run once, in the order of models, data sets, schemes and varied settings."""
    device = entry["device"] if config["device"] == "published" else config["device"]
    found: dict[RunKey, None] = {}
    for model, dataset, scheme in product(entry["model"], entry["dataset"], entry["schemes"]):
        times = entry.get("longer", {}).get(model, {}).get(scheme, 1)
        names = (config["stand_ins"][model], config["stand_ins"][dataset])
        for varied in combinations(scheme, entry):
            key = RunKey(device, *names, scheme, config["seed"])
            found[replace(key, options=_options(config, key, varied, times))] = None
    return tuple(found)


def _options(
    config: Config, key: RunKey, varied: dict[str, float], times: int
) -> tuple[tuple[str, float], ...]:
    """What names a run: its budget, and what is not as the configuration has it, so that figures
    share the runs that they have in common."""
    usual = dict(config["elastic"]) if SCHEMES[key.scheme].settings == "elastic" else {}
    usual["epochs"] = _training(config, key)["epochs"]
    own = usual | varied | {"epochs": times * usual["epochs"]}
    return tuple(
        (name, kind(own[name]))
        for name, kind in OPTIONS.items()
        if name in own and (name == "rho" or own[name] != usual[name])
    )


def _training(config: Config, key: RunKey) -> dict[str, Any]:
    """The section `training` as this run has it."""
    training: dict[str, Any] = config["training"] | config["model_training"].get(key.model, {})
    return training | {name: value for name, value in key.options if name == "epochs"}


def run_spec(config: Config, key: RunKey, devices: Config) -> Config:
    """The complete spec of a run, of the shape of core/schemas/run.schema.yaml.

    devices: content of config/devices by name.
    """
    device = devices[key.device]
    training = _training(config, key)
    profile = PROFILE.format(
        scale=config["scale"], device=key.device, framework=config["framework"], task=key.task
    )
    weights = MODELS[key.model].weights[config["framework"]]
    section = SCHEMES[key.scheme].settings
    own = {name: value for name, value in key.options if name != "epochs"}
    return {
        "recipe": RECIPE,
        "kind": "elastic",
        "scale": config["scale"],
        "device": {k: device[k] for k in ("title", "timing", "threads")}
        | {"name": key.device}
        | meter_for_spec(device),
        "framework": config["framework"],
        "seed": key.seed,
        "model": {"name": key.model, "weights": WEIGHTS.format(weights=weights)},
        "data": {
            "name": key.dataset,
            "folder": DATA.format(dataset=key.dataset, size=training["image_size"]),
            "classes": catalog.entry(key.dataset).classes,
        },
        "training": training,
        "scheme": {"name": key.scheme} | (config[section] if section else {}) | own,
        "profile": profile,
        **for_spec(config["measure"]),
    }


def profile_spec(config: Config, device: str, task: str, devices: Config) -> Config:
    """The spec that a timing profile is measured for: full training, whatever the seed, without
    what alters no number, so that changing that measures nothing again."""
    spec = run_spec(config, RunKey.parse(device, task, "full-seed0"), devices)
    spec["device"] = spec["device"] | {"title": device}
    spec["device"].pop("meter", None)
    spec.pop("measure", None)
    spec["training"] = spec["training"] | {"snapshot_minutes": 1}
    return spec


def _known_keys(
    section: Config, known: Sequence[str], what: str, keys: list[str], files: Sequence[Path]
) -> None:
    for key, value in section.items():
        if key not in known:
            raise ConfigError(
                f"{schema.source([*keys, key], value, files)}: {'.'.join(keys)}: unknown {what} "
                f"{key!r} ({schema.suggestion(key, known)})"
            )
