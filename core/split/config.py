"""From the section `split` of the configuration to complete run specs. Imports no framework."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from core import RECIPE, schema
from core.data import catalog
from core.declared import Config, Figure
from core.errors import ConfigError
from core.figures.split_kinds import SPLIT_KINDS, check_split_entry, combinations
from core.measure.settings import for_spec, meter_for_spec
from core.models.blocks import NETWORKS, check_size
from core.split.codecs import parse
from core.split.contexts import Context, read_contexts
from core.split.schemes import SCHEMES, check_cut
from core.split.sides import edge_cut

DATA = "results/data/{dataset}-{size}"
WEIGHTS = "results/weights/{weights}"
PROFILE = "results/{scale}/{device}/split/profiles/{task}-{side}.json"
RUN = "results/{scale}/{device}/split/{task}/{context}/{run}"

RESULTS = ("result.json", "epochs.csv", "iterations.csv")

# What a figure may ask of a run, beside the configuration, in the order in which it is named. A run
# with `steps` is one short epoch without tests: it measures time.
OPTIONS: dict[str, type[int] | type[str]] = {
    "cut": int,
    "staleness": int,
    "uplink": str,
    "feedback": str,
    "steps": int,
}
_VALUES = {int: r"\d+", str: r"[a-z0-9_+]+"}
_RUN_NAME = re.compile(
    r"(?P<scheme>[a-z_]+)"
    + "".join(rf"(-{name}(?P<{name}>{_VALUES[kind]}))?" for name, kind in OPTIONS.items())
    + r"-seed(?P<seed>\d+)"
)
# Nothing is sent, so that it is the same in every context.
NO_CONTEXT = "loopback"


@dataclass(frozen=True)
class SplitKey:
    """Which run: what distinguishes it from the others of the same configuration."""

    device: str  # of the edge
    task: str
    context: str
    scheme: str
    seed: int
    options: tuple[tuple[str, int | str], ...] = ()

    @property
    def sends(self) -> bool:
        return SCHEMES[self.scheme].cut != "edge"

    @property
    def name(self) -> str:
        options = (f"-{name}{value}" for name, value in self.options)
        return f"{self.scheme}{''.join(options)}-seed{self.seed}"

    def folder(self, config: Config) -> str:
        """Of its results."""
        return RUN.format(
            scale=config["scale"],
            device=self.device,
            task=self.task,
            context=self.context,
            run=self.name,
        )

    @classmethod
    def parse(cls, device: str, task: str, context: str, run: str) -> "SplitKey":
        """The key whose names these are. Raises ConfigError for names of no run."""
        match = _RUN_NAME.fullmatch(run)
        if not match:
            raise ConfigError(f"{task}/{context}/{run} does not name a run")
        options = tuple((o, kind(match[o])) for o, kind in OPTIONS.items() if match[o])
        return cls(device, task, context, match["scheme"], int(match["seed"]), options)


def check(config: Config, files: Sequence[Path], devices: Sequence[str], contexts: Path) -> None:
    """Raises ConfigError naming key, value, what is known and the file. The shape of the section
    was checked before."""
    split = config["split"]
    known = sorted(read_contexts(contexts))
    for side in ("edge", "cloud"):
        schema.one_of(split[side]["device"], devices, "device", ("split", side, "device"), files)
    for name in _codecs(split):
        parse(name)
    _check_staleness(split["staleness"], ("split", "staleness"), files)
    for name, task in split["tasks"].items():
        _check_task(split, name, task, files)
    for name, entry in split["figures"].items():
        at = ("split", "figures", name)
        try:
            check_split_entry(entry)
        except ConfigError as error:
            where = schema.source(at, entry, files)
            raise ConfigError(f"{where}: {'.'.join(at)}: {error}") from None
        for key, names in (("task", [*split["tasks"]]), ("schemes", [*SCHEMES])):
            values = entry.get(key, [])
            for value in [values] if isinstance(values, str) else values:
                schema.one_of(value, names, key.removesuffix("s"), (*at, key), files)
        for context in entry.get("contexts", []):
            schema.one_of(context, known, "context", (*at, "contexts"), files)
        if "schemes" in entry:
            _check_measured(split, name, entry)


def _check_staleness(schedule: list[Config], at: Sequence[str], files: Sequence[Path]) -> None:
    schema.check({"schedule": schedule}, "split_staleness", files, at)
    if schedule[0]["from_epoch"] != 1:
        where = schema.source(at, schedule, files)
        raise ConfigError(f"{where}: {'.'.join(at)} must say what holds from epoch 1 on")


def _check_measured(split: Config, name: str, entry: Config) -> None:
    """Raises ConfigError for a figure whose runs would be trained and could not be drawn."""
    at, vary = f"split.figures.{name}", entry.get("vary", {})
    for scheme in entry["schemes"]:
        kind = SCHEMES[scheme]
        if "staleness" in vary and not kind.replays:
            raise ConfigError(f"{at}: vary.staleness: scheme {scheme} has K = 0 and no other")
        if {"uplink", "feedback"} & set(vary) and not kind.compresses:
            raise ConfigError(f"{at}: vary: scheme {scheme} sends features as they are")
    task = split["tasks"][entry["task"]]
    _check_targets(at, entry, task["model"])
    schedule = task.get("staleness", split["staleness"])
    longest = max([each["steps"] for each in schedule] + list(vary.get("staleness", [])))
    if "steps" in entry and entry["steps"] < 3 * (longest + 2):
        raise ConfigError(
            f"{at}: steps = {entry['steps']}: with K = {longest} a steady state needs at least "
            f"{3 * (longest + 2)}"
        )
    training = config_training(split, task)
    after = [epoch for epoch in training["weights_after"] if epoch <= training["epochs"]]
    if entry["kind"] == "split_weights" and len(after) < 2:
        raise ConfigError(f"{at}: training.weights_after needs two epochs of the run")
    shows = SPLIT_KINDS[entry["kind"]].shows
    if "steps" not in entry and training["test_samples"] == 0 and shows in ("accuracy", "loss"):
        raise ConfigError(f"{at}: training.test_samples = 0 leaves no {shows} to draw")


def _check_targets(at: str, entry: Config, model: str) -> None:
    """Raises ConfigError where a figure and a network do not go together: one generates images,
    the others say what there is in them."""
    network = NETWORKS[model]
    generates = network.kind == "chairs"
    for scheme in entry["schemes"]:
        if SCHEMES[scheme].cut == "cloud" and (wrong := check_cut(model, network.blocks)):
            raise ConfigError(f"{at}: scheme {scheme}: {wrong}")
    shows = SPLIT_KINDS[entry["kind"]].shows
    if (shows == "accuracy" and generates) or (shows == "images" and not generates):
        raise ConfigError(f"{at}: kind {entry['kind']}: {network.title} has no {shows} to draw")


def config_training(split: Config, task: Config) -> Config:
    """The section `split.training` as a task has it."""
    return dict(split["training"] | task.get("training", {}))


def _check_task(split: Config, name: str, task: Config, files: Sequence[Path]) -> None:
    at = ("split", "tasks", name)
    schema.one_of(task["model"], [*NETWORKS], "network", (*at, "model"), files)
    network = NETWORKS[task["model"]]
    data = {e.name: e for e in catalog.load().values() if e.kind == network.kind}
    schema.one_of(task["dataset"], [*data], f"data set of {network.kind}", (*at, "dataset"), files)
    if wrong := check_cut(task["model"], task["cut"]):
        raise ConfigError(
            f"{schema.source((*at, 'cut'), task['cut'], files)}: {'.'.join(at)}.cut = "
            f"{task['cut']}: {wrong}"
        )
    if wrong := check_size(task["model"], task["size"]):
        raise ConfigError(
            f"{schema.source((*at, 'size'), task['size'], files)}: {'.'.join(at)}.size = "
            f"{task['size']}: {network.title}: {wrong}"
        )
    training = config_training(split, task)
    schema.check(training, "split_training", files, (*at, "training"))
    optimiser = training["optimiser"]
    if optimiser["nesterov"] and not optimiser["momentum"]:
        raise ConfigError(f"{'.'.join(at)}: optimiser.nesterov needs a momentum above 0")
    if "staleness" in task:
        _check_staleness(task["staleness"], (*at, "staleness"), files)
    if task["pretrained"] and network.weights is None:
        raise ConfigError(
            f"{schema.source((*at, 'pretrained'), True, files)}: {'.'.join(at)}.pretrained: there "
            f"are no published weights of {network.title} in the catalog"
        )


def _codecs(split: Config) -> Iterator[str]:
    yield from (split["uplink"], split["downlink"])
    yield from (*split["decision"]["uplink"], *split["decision"]["downlink"])
    for entry in split["figures"].values():
        yield from entry.get("vary", {}).get("uplink", [])


def runs(config: Config, entry: Config) -> tuple[SplitKey, ...]:
    """The runs of a figure, each once, in the order of contexts, schemes and varied settings."""
    found: dict[SplitKey, None] = {}
    for context, scheme in product(entry.get("contexts", []), entry.get("schemes", [])):
        for varied in combinations(entry):
            options = varied | ({"steps": entry["steps"]} if "steps" in entry else {})
            key = SplitKey(
                config["split"]["edge"]["device"],
                entry["task"],
                NO_CONTEXT if SCHEMES[scheme].cut == "edge" else context,
                scheme,
                config["seed"],
                tuple((name, options[name]) for name in OPTIONS if name in options),
            )
            found[key] = None
    return tuple(found)


def profiles(config: Config, task: str) -> dict[str, str]:
    """Path of the profile of each side's device."""
    return {
        side: PROFILE.format(
            scale=config["scale"], device=config["split"][side]["device"], task=task, side=side
        )
        for side in ("edge", "cloud")
    }


def run_spec(config: Config, key: SplitKey, devices: Config, contexts: Path) -> Config:
    """The complete spec of a run, of the shape of core/schemas/split_run.schema.yaml.

    devices: content of config/devices by name. Raises ConfigError for a task, scheme or context
    that there is not.
    """
    split, known = config["split"], read_contexts(contexts)
    for value, names, what in (
        (key.task, [*split["tasks"]], "task"),
        (key.scheme, [*SCHEMES], "scheme"),
        (key.context, [*known], "context"),
    ):
        schema.one_of(value, names, what, ("split",), ())
    task, context = split["tasks"][key.task], known[key.context]
    network = NETWORKS[task["model"]]
    sides = {side: _side(split[side], devices[split[side]["device"]]) for side in ("edge", "cloud")}
    weights = WEIGHTS.format(weights=network.weights) if task["pretrained"] else None
    return {
        "recipe": RECIPE,
        "kind": "split",
        "scale": config["scale"],
        "timing": _timing(context, key.scheme, sides),
        "seed": key.seed,
        **sides,
        "context": context.plain(),
        "model": {"name": task["model"], "weights": weights},
        "data": {
            "name": task["dataset"],
            "folder": DATA.format(dataset=task["dataset"], size=task["size"]),
            "size": task["size"],
            "classes": catalog.entry(task["dataset"]).classes,
        },
        "training": _training(split, task, dict(key.options)),
        "scheme": _scheme(split, task, key),
        "profile": profiles(config, key.task),
        **for_spec(config["measure"]),
    }


def profile_spec(config: Config, task: str, devices: Config, contexts: Path) -> Config:
    """The spec that both devices are profiled for: what alters no number is always the same, so
    that changing it measures nothing again."""
    device = config["split"]["edge"]["device"]
    spec = run_spec(
        config, SplitKey(device, task, NO_CONTEXT, "context_aware", 0), devices, contexts
    )
    spec["edge"]["slowdown"] = spec["cloud"]["slowdown"] = 1
    spec["edge"].pop("meter", None)
    spec["cloud"].pop("meter", None)
    spec.pop("measure", None)
    spec["timing"] = "measured"
    same: Config = {
        "epochs": 1,
        "steps": None,
        "test_samples": None,
        "test_batch": 1,
        "weights_after": [],
    }
    same |= {"snapshot_minutes": 1, "augmentation": {"flip": False, "crop": 0}}
    spec["training"] = spec["training"] | same
    codecs = {key: spec["scheme"]["decision"][key] for key in ("uplink", "downlink")}
    spec["scheme"] |= {"staleness": [{"from_epoch": 1, "steps": 1}], "mode": "deterministic"}
    spec["scheme"] |= {"feedback": "none", "delta_mib": 1}
    spec["scheme"]["decision"] = {"interval": 1, "margin": 0.0, **codecs}
    return spec


def _side(side: Config, device: Config) -> Config:
    threads = device["threads"]
    if side["threads"] is not None:
        threads = dict.fromkeys(threads, side["threads"])
    title = device["title"]
    return {
        "name": side["device"],
        "title": title,
        "threads": threads,
        "slowdown": side["slowdown"],
        **meter_for_spec(device),
    }


def _timing(context: Context, scheme: str, sides: Config) -> str:
    """`emulated` where anything that takes part is imitated."""
    part = {"edge": ["edge"], "cloud": ["cloud"]}.get(SCHEMES[scheme].cut, ["edge", "cloud"])
    slowed = any(sides[side]["slowdown"] > 1 for side in part)
    return "emulated" if slowed or context.emulated else "measured"


def _training(split: Config, task: Config, options: Config) -> Config:
    training = config_training(split, task)
    if "steps" in options:
        training = training | {"epochs": 1, "steps": options["steps"], "test_samples": 0}
        training["weights_after"] = []
    return dict(training)


def _scheme(split: Config, task: Config, key: SplitKey) -> Config:
    """What the scheme takes of the configuration, and what of a baseline is fixed. Raises
    ConfigError for a scheme that the network cannot have."""
    scheme = SCHEMES[key.scheme]
    options: Config = dict(key.options)
    none = [{"from_epoch": 1, "steps": 0}]
    staleness = task.get("staleness", split["staleness"]) if scheme.replays else none
    if "staleness" in options:
        staleness = [{"from_epoch": 1, "steps": options["staleness"]}]
    compressed = {
        "uplink": options.get("uplink", split["uplink"]),
        "downlink": split["downlink"],
        "feedback": options.get("feedback", split["feedback"]),
    }
    plain = {"uplink": "none", "downlink": "none", "feedback": "none"}
    model, fixed = task["model"], options.get("cut", task["cut"])
    alone = edge_cut(model)
    cut = {"edge": alone, "cloud": NETWORKS[model].blocks - alone, "fixed": fixed}.get(scheme.cut)
    if cut is not None and (wrong := check_cut(model, cut)):
        raise ConfigError(f"scheme {key.scheme}, cut {cut}: {wrong}")
    return {
        "name": key.scheme,
        "cut": cut,
        "staleness": staleness,
        "mode": split["mode"],
        **(compressed if scheme.compresses else plain),
        "delta_mib": split["delta_mib"],
        "decision": split["decision"] if scheme.cut == "moving" else None,
    }


def figures(config: Config) -> dict[str, Figure[SplitKey]]:
    """Every figure of split training by its name."""
    found = {}
    for name, entry in config["split"]["figures"].items():
        of_profiles = "task" in entry and "schemes" not in entry
        paths = profiles(config, entry["task"]).values() if of_profiles else ()
        found[name] = Figure(name, entry, runs(config, entry), RESULTS, tuple(paths))
    return found
