"""Hours that a run still takes, and how that is known."""

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import numpy as np

from core.elastic.schemes import SCHEMES
from core.elastic.timing import Timing
from core.errors import CoreError, DataError
from core.models.blocks import NETWORKS
from core.planning import room
from core.planning.jobs import Planned, Rows
from core.results import seconds
from core.spec import RunSpec
from core.split.contexts import Context
from core.split.decision import Link, initial, joint_dnn, predict
from core.split.profiles import costs_of
from core.split.simulate import SimulatedLink

How = Literal["own epochs", "like runs", "calibrated", "profile", "published", "unknown"]
PUBLISHED = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Estimate:
    """hours: still to go; None where nothing is known. how: from what. runs: finished ones that
    calibrated a profile."""

    hours: float | None
    how: How
    runs: int = 0


def estimate(run: Planned) -> Estimate:
    """From the run's own finished epochs; else from finished runs of the same task and device that
    differ in the seed; else from the profile of the device, calibrated where runs of other schemes
    have finished; else from published hours. Runs of the same scheme with other settings count
    before a profile where a budget tells what the settings make of the time, else after it."""
    left = run.epochs - len(run.rows)
    if run.state == "finished" or left <= 0:
        return Estimate(0.0, "own epochs")
    if run.rows:
        return Estimate(left * _of_an_epoch(run.rows) / 3600, "own epochs")
    for how, known in _ways(run):
        found = known()
        if found is not None:
            hours = left * found / 3600
            ratios = _ratios(run) if how == "profile" else []
            if ratios:
                return Estimate(hours * median(ratios), "calibrated", len(ratios))
            return Estimate(hours, how)
    return Estimate(None, "unknown")


def _ways(run: Planned) -> list[tuple[How, Callable[[], float | None]]]:
    """Seconds of an epoch in every way that there may be, the best known first."""
    seed: tuple[How, Any] = ("like runs", lambda: _like(run, "seed"))
    settings: tuple[How, Any] = ("like runs", lambda: _like(run, "settings"))
    profile: tuple[How, Any] = ("profile", lambda: _profiled(run))
    paper: tuple[How, Any] = ("published", lambda: published(run.device, run.spec))
    if run.kind == "elastic":
        return [seed, settings, profile, paper]
    return [seed, profile, settings, paper]


def spent(run: Planned) -> float:
    """Seconds that its finished epochs took. Raises DataError."""
    return whole_seconds(run.folder) if run.state == "finished" else seconds(run.rows)


def whole_seconds(folder: Path) -> float:
    """Of a finished run. Raises DataError."""
    path = folder / "epochs.csv"
    try:
        return seconds(_table(folder))
    except (OSError, ValueError, TypeError):
        raise DataError(f"{path} is missing or damaged; delete it and run it again") from None


def _of_an_epoch(rows: Rows) -> float:
    return seconds(rows) / len(rows)


def _table(folder: Path) -> Rows:
    """Of finished epochs, one at least."""
    with (folder / "epochs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{folder}: no epochs")
    return rows


def _like(run: Planned, but: Literal["seed", "settings"]) -> float | None:
    """Seconds of an epoch of finished runs beside this one that differ in seed and epochs, or in
    settings of the scheme too. A budget is a share of the full time, so that one tells of
    another."""

    def task(spec: dict[str, Any]) -> str:
        return _setting(spec, spec["scheme"] if but == "seed" else spec["scheme"]["name"])

    found = []
    for path in run.folder.parent.glob(f"{run.spec['scheme']['name']}-*/result.json"):
        try:
            other = json.loads(path.read_text(encoding="utf-8"))["spec"]
            if task(other) == task(run.spec):
                one = _of_an_epoch(_table(path.parent))
                found.append(_rho(run.spec) / _rho(other) * one)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or no run: figures say so
    return mean(found) if found else None


def _setting(spec: dict[str, Any], scheme: Any = "any") -> str:
    """Names what decides on the time of an epoch, with this scheme in the place of its own."""
    training = {k: v for k, v in spec["training"].items() if k != "epochs"}
    return RunSpec(spec | {"seed": 0, "training": training, "scheme": scheme}).digest


def _rho(spec: dict[str, Any]) -> float:
    return float(spec["scheme"].get("rho", 1.0))


# From profiles.


def _profiled(run: Planned) -> float | None:
    """Seconds of an epoch by the profile of the device; None without one or without the data."""
    of_kind = {"elastic": _elastic, "split": _split}.get(run.kind)
    if of_kind is None:
        return None
    try:
        return of_kind(run, _samples(run))
    except (OSError, ValueError, KeyError, CoreError):
        return None


def _ratios(run: Planned) -> list[float]:
    """What an epoch of each finished run beside this one took, over what the profile says of it.

    Of ElasticTrainer and its baselines alone, which share network, data, device and profile. A
    profile was measured once, in a minute, beside whatever else went on; it holds no compiling and
    no importance. What these runs took has all that in it.
    """
    found = []
    for path in run.folder.parent.glob("*/result.json") if run.kind == "elastic" else ():
        try:
            spec = json.loads(path.read_text(encoding="utf-8"))["spec"]
            if _setting(spec) == _setting(run.spec):
                other = Planned(path.parent, run.device, spec, "finished", [])
                one = _of_an_epoch(_table(path.parent))
                found.append(one / _elastic(other, _samples(run)))
        except (OSError, ValueError, KeyError, TypeError, CoreError):
            continue  # damaged, or no run: figures say so
    return found


def _samples(run: Planned) -> tuple[int, int]:
    """How many there are in training and test: from the heads of the arrays, else as published."""
    name, folder = run.spec["data"]["name"], Path(run.spec["data"]["folder"])
    paths = [folder / f"{part}_labels.npy" for part in ("train", "test")]
    if not all(path.exists() for path in paths) and (published := room.samples(name)):
        return published
    train, test = (len(np.load(path, mmap_mode="r")) for path in paths)
    return train, test


def _elastic(run: Planned, samples: tuple[int, int]) -> float:
    timing, training = Timing.load(run.profiles()[0]), run.spec["training"]
    scheme = SCHEMES[run.spec["scheme"]["name"]]
    if scheme.trains is None:
        step = max(timing.forward, _rho(run.spec) * timing.full)
    else:
        step = timing.predict(np.array(scheme.trains(timing.tensors)))
    steps = samples[0] // training["batch"]
    return float(steps * step + samples[1] / training["batch"] * timing.forward)


def _split(run: Planned, samples: tuple[int, int]) -> float | None:
    """The published formula with the context's mean rates; steps alone where nothing is tested."""
    spec, training, scheme = run.spec, run.spec["training"], run.spec["scheme"]
    context, batch = Context.of(spec["context"]), training["batch"]
    link = SimulatedLink.of(context).mean() if context.emulated else Link(1e9, 1e9)
    costs = costs_of(spec)
    k, blocks = scheme["staleness"][-1]["steps"], NETWORKS[spec["model"]["name"]].blocks
    if scheme["cut"] is not None:
        step = predict(costs, link, scheme["cut"], scheme["uplink"], scheme["downlink"], k, 1)
    elif scheme["decision"] is None:
        step = predict(costs, link, **asdict(joint_dnn(costs, link)), staleness=k, remaining=1)
    else:
        decision = scheme["decision"]
        step = initial(costs, link, decision["uplink"], decision["downlink"], k, 100)
    steps = training["steps"] or samples[0] // batch
    tested = samples[1] if training["test_samples"] is None else training["test_samples"]
    forward = float(costs.edge_s[blocks]) / 3  # of the three passes of a step
    return float(steps * step.step_s + tested / batch * forward)


# From the paper.


@cache
def _table_published() -> list[dict[str, str]]:
    with PUBLISHED.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def published(device: str, spec: dict[str, Any]) -> float | None:
    """Seconds of an epoch by hours read off the paper, in the published setting alone: a demo on
    this device has nothing in common with it."""
    if spec["kind"] != "elastic" or spec["scale"] != "paper":
        return None
    for row in _table_published():
        names = (device, spec["model"]["name"], spec["data"]["name"], _kin(spec))
        if names == (row["device"], row["model"], row["dataset"], row["scheme"]):
            ours = (
                _rho(spec) / _PUBLISHED_RHO.get(row["model"], 0.4)
                if row["scheme"] == "elastic"
                else 1
            )
            return ours * 3600 * float(row["hours"]) / float(row["epochs"])
    return None


# Of Figure 15 with ResNet50, of Figure 19 with the others.
_PUBLISHED_RHO = {"resnet50": 0.533}


def _kin(spec: dict[str, Any]) -> str:
    """The scheme whose published hours those of this one are like."""
    name = str(spec["scheme"]["name"])
    if SCHEMES[name].trains is None:
        return "elastic"
    return {"prunetrain_l1": "full"}.get(name, name)
