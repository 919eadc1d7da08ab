"""From the section `federated` of the configuration to complete run specs. Imports no framework."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from core import RECIPE, schema
from core.data import catalog
from core.declared import Config, Figure
from core.errors import ConfigError
from core.federated.schemes import SCHEMES, check_columns
from core.figures.federated_kinds import check_federated_entry
from core.split.codecs import parse
from core.split.contexts import read_contexts

DATA = "results/data/{dataset}-{history}"
RUN = "results/{scale}/{device}/federated/{context}/{run}"
RESULTS = ("result.json", "epochs.csv", "parties.csv")
NO_CONTEXT = "loopback"  # of a scheme that sends nothing

# What a run may have beside the configuration, in the order in which it is named. slowdown: of the
# last party, which the others then have to wait for.
OPTIONS = ("staleness", "slowdown")
_RUN_NAME = re.compile(
    r"(?P<scheme>[a-z_]+)"
    + "".join(rf"(-{name}(?P<{name}>\d+))?" for name in OPTIONS)
    + r"-seed(?P<seed>\d+)"
)


@dataclass(frozen=True)
class FederatedKey:
    """Which run: what distinguishes it from the others of the same configuration."""

    device: str  # of the server
    context: str
    scheme: str
    seed: int
    options: tuple[tuple[str, int], ...] = ()

    @property
    def sends(self) -> bool:
        return not SCHEMES[self.scheme].alone

    @property
    def name(self) -> str:
        options = (f"-{name}{value}" for name, value in self.options)
        return f"{self.scheme}{''.join(options)}-seed{self.seed}"

    def folder(self, config: Config) -> str:
        """Of its results."""
        return RUN.format(
            scale=config["scale"], device=self.device, context=self.context, run=self.name
        )

    @classmethod
    def parse(cls, device: str, context: str, run: str) -> "FederatedKey":
        """The key whose names these are. Raises ConfigError for names of no run."""
        match = _RUN_NAME.fullmatch(run)
        if not match:
            raise ConfigError(f"{context}/{run} does not name a run")
        options = tuple((name, int(match[name])) for name in OPTIONS if match[name])
        return cls(device, context, match["scheme"], int(match["seed"]), options)


def check(config: Config, files: Sequence[Path], devices: Sequence[str], contexts: Path) -> None:
    """Raises ConfigError naming key, value, what is known and the file. The shape of the section
    was checked before."""
    own, at = config["federated"], ("federated",)
    known = sorted(read_contexts(contexts))
    schema.one_of(own["server"]["device"], devices, "device", (*at, "server", "device"), files)
    for name, party in own["parties"].items():
        schema.one_of(party["device"], devices, "device", (*at, "parties", name, "device"), files)
    problem = check_columns(
        {name: party["columns"] for name, party in own["parties"].items()}, own["history"]
    )
    if problem:
        where = schema.source((*at, "parties"), own["parties"], files)
        raise ConfigError(f"{where}: federated.parties: {problem}")
    ratings = [e.name for e in catalog.load().values() if e.kind == "ratings"]
    schema.one_of(own["dataset"], ratings, "data set of ratings", (*at, "dataset"), files)
    for codec in (own["uplink"], own["downlink"]):
        parse(codec)
    optimiser = own["training"]["optimiser"]
    if optimiser["nesterov"] and not optimiser["momentum"]:
        raise ConfigError("federated.training.optimiser.nesterov needs a momentum above 0")
    for name, entry in own["figures"].items():
        _check_figure(name, entry, known, files)


def _check_figure(name: str, entry: Config, known: Sequence[str], files: Sequence[Path]) -> None:
    at = ("federated", "figures", name)
    try:
        check_federated_entry(entry)
    except ConfigError as error:
        where = schema.source(at, entry, files)
        raise ConfigError(f"{where}: {'.'.join(at)}: {error}") from None
    for scheme in entry["schemes"]:
        schema.one_of(scheme, [*SCHEMES], "scheme", (*at, "schemes"), files)
        if "staleness" in entry.get("vary", {}) and not SCHEMES[scheme].replays:
            raise ConfigError(
                f"{'.'.join(at)}: vary.staleness: scheme {scheme} has K = 0 and no other"
            )
    for context in entry["contexts"]:
        schema.one_of(context, known, "context", (*at, "contexts"), files)


def runs(config: Config, entry: Config) -> tuple[FederatedKey, ...]:
    """The runs of a figure, each once, in the order of schemes, varied settings and seeds."""
    own = config["federated"]
    usual = {"staleness": own["staleness"]}
    seeds = range(config["seed"], config["seed"] + config["seeds"])
    vary = entry.get("vary", {})
    varied = [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]
    found: dict[FederatedKey, None] = {}
    for context, scheme, options, seed in product(
        entry["contexts"], entry["schemes"], varied, seeds
    ):
        named = ((name, options[name]) for name in OPTIONS if name in options)
        key = FederatedKey(
            own["server"]["device"],
            NO_CONTEXT if SCHEMES[scheme].alone else context,
            scheme,
            seed,
            # What is as the configuration has it is not named: figures share those runs.
            tuple((name, value) for name, value in named if value != usual.get(name)),
        )
        found[key] = None
    return tuple(found)


def run_spec(config: Config, key: FederatedKey, devices: Config, contexts: Path) -> Config:
    """The complete spec of a run, of the shape of core/schemas/federated_run.schema.yaml.

    devices: content of config/devices by name. Raises ConfigError for a scheme or context that
    there is not.
    """
    own, known = config["federated"], read_contexts(contexts)
    schema.one_of(key.scheme, [*SCHEMES], "scheme", ("federated",), ())
    schema.one_of(key.context, [*known], "context", ("federated",), ())
    context, options = known[key.context], dict(key.options)
    parties = []
    for name in sorted(own["parties"]):
        party = own["parties"][name]
        side = _side(party, devices[party["device"]], party["slowdown"])
        parties.append({"party": name, "columns": sorted(party["columns"]), **side})
    if "slowdown" in options:
        parties[-1]["slowdown"] = options["slowdown"]
    slowed = any(party["slowdown"] > 1 for party in parties) and not SCHEMES[key.scheme].alone
    server = own["server"]
    return {
        "recipe": RECIPE,
        "kind": "federated",
        "scale": config["scale"],
        "timing": "emulated" if slowed or context.emulated else "measured",
        "seed": key.seed,
        "server": _side(server, devices[server["device"]], 1),
        "parties": parties,
        "context": context.plain(),
        "model": {"name": "din"},
        "data": {
            "name": own["dataset"],
            "folder": DATA.format(dataset=own["dataset"], history=own["history"]),
            "history": own["history"],
        },
        "training": own["training"],
        "scheme": _scheme(own, key.scheme, options),
    }


def _side(side: Config, device: Config, slowdown: float) -> Config:
    threads = device["threads"]
    if side["threads"] is not None:
        threads = dict.fromkeys(threads, side["threads"])
    return {
        "name": side["device"],
        "title": device["title"],
        "threads": threads,
        "slowdown": slowdown,
    }


def _scheme(own: Config, name: str, options: Config) -> Config:
    """What the scheme takes of the configuration, and what of a baseline is fixed."""
    scheme = SCHEMES[name]
    plain = {"uplink": "none", "downlink": "none", "feedback": "none"}
    codecs = {key: own[key] for key in plain} if scheme.compresses else plain
    staleness = options.get("staleness", own["staleness"]) if scheme.replays else 0
    return {"name": name, "staleness": staleness, **codecs, "delta_mib": own["delta_mib"]}


def figures(config: Config) -> dict[str, Figure[FederatedKey]]:
    """Every figure of federated training by its name."""
    return {
        name: Figure(name, entry, runs(config, entry), RESULTS)
        for name, entry in config["federated"]["figures"].items()
    }
