"""What a figure of federated training reads: folders of finished runs, checked and in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.elastic.schemes import Look
from core.errors import ConfigError, DataError
from core.federated.schemes import SCHEMES
from core.figures import style
from core.figures.results import (
    AGAIN,
    Finished,
    Settings,
    check_count,
    check_durations,
    processor,
    read_result,
    read_table,
)
from core.frameworks import FRAMEWORKS

SPEC_KEYS = (
    *("scale", "seed", "timing", "server.name", "server.title", "parties", "context.title"),
    *("model.name", "data.name", "scheme.name", "scheme.staleness"),
)
SECONDS = ("training_s", "testing_s", "snapshot_s")
EPOCHS = ("epoch", "steps", "test_auc", "up_bytes", "down_bytes", *SECONDS)
PARTIES = ("epoch", "up_bytes", "down_bytes", "test_bytes", "work_s")
PUBLISHED = "movielens_1m"


@dataclass(frozen=True, eq=False)
class FederatedRun(Finished):
    """A run of federated training, with one row per epoch, and one per epoch and party."""

    epochs: pd.DataFrame
    parties: pd.DataFrame

    @property
    def timing(self) -> str:
        """What its times are: measured or emulated."""
        return str(self.spec["timing"])

    @property
    def seed(self) -> int:
        """Of everything random in it."""
        return int(self.spec["seed"])

    @property
    def staleness(self) -> int:
        """K."""
        return int(self.spec["scheme"]["staleness"])

    @property
    def alone(self) -> bool:
        """Nothing was sent."""
        return self.scheme in SCHEMES and SCHEMES[self.scheme].alone

    @property
    def device(self) -> str:
        """That of the server, with its processor."""
        parts = [str(self.spec["server"]["title"]), processor(self.result)]
        return ", ".join(filter(None, parts))

    def hours(self, testing: bool) -> np.ndarray:
        """From the start to the end of each epoch."""
        parts = ["training_s", *(["testing_s"] if testing else [])]
        return np.cumsum(self.epochs[parts].sum(axis=1).to_numpy()) / 3600

    @property
    def sent(self) -> np.ndarray:
        """MiB that training sent up to the end of each epoch, of all parties, both ways."""
        return np.cumsum(self.epochs[["up_bytes", "down_bytes"]].sum(axis=1).to_numpy()) / 2**20

    @property
    def auc(self) -> np.ndarray:
        """Test AUC after each epoch."""
        return np.asarray(self.epochs["test_auc"], dtype=float)

    @property
    def step_s(self) -> float:
        """Seconds of training per step, the mean of the whole run."""
        return float(self.epochs["training_s"].sum() / self.epochs["steps"].sum())

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A line of a figure's CSV."""
        return {
            "dataset": self.dataset,
            "context": self.spec["context"]["name"],
            "scheme": self.scheme,
            "label": look(self.scheme).label,
            "K": self.staleness,
            "seed": self.seed,
            **values,
            "timing": self.timing,
            "run": self.folder.as_posix(),
        }


def look(scheme: str) -> Look:
    """The look of a scheme. Raises ConfigError."""
    if scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    return SCHEMES[scheme].look


def read_federated_run(folder: Path) -> FederatedRun:
    """Read and check a run's folder (result.json, epochs.csv and parties.csv)."""
    result = read_result(folder / "result.json", SPEC_KEYS, "timing")
    path = folder / "epochs.csv"
    epochs = read_table(path, EPOCHS, "epoch")
    check_count(path, epochs, "epoch", first=1)
    check_durations(path, epochs, SECONDS)
    path = folder / "parties.csv"
    names = [party["party"] for party in result["spec"]["parties"]]
    alone = SCHEMES.get(result["spec"]["scheme"]["name"], SCHEMES["serial"]).alone
    if alone:
        return FederatedRun(folder, result["spec"], result, epochs, pd.DataFrame())
    parties = read_table(path, PARTIES, "party")
    parties["party"] = pd.read_csv(path, dtype=str)["party"]
    if len(parties) != len(names) * len(epochs) or set(parties["party"]) != set(names):
        raise DataError(f"{path} has not one row for each epoch and party; {AGAIN}")
    return FederatedRun(folder, result["spec"], result, epochs, parties)


def federated_matched(
    entry: Mapping[str, Any], given: Sequence[FederatedRun], settings: Settings
) -> list[FederatedRun]:
    """Runs in the order of schemes, K and seeds. Raises ConfigError for what the entry does not
    name, two of the same, one missing, and runs that say nothing side by side."""
    if not given:
        raise ConfigError("no run to draw: give the folder of at least one")
    for what in ("scale", "dataset", "device"):
        found = {getattr(run, what): run.folder for run in given}
        if len(found) > 1:
            each = "; ".join(f"{value} ({folder})" for value, folder in found.items())
            raise ConfigError(f"runs of more than one {what}: {each}; draw them apart")
    places: dict[tuple[int, int, int], FederatedRun] = {}
    for run in given:
        if run.scheme not in entry["schemes"]:
            raise ConfigError(f"{run.folder} ran {run.scheme}, not in {list(entry['schemes'])}")
        ks = entry.get("vary", {}).get("staleness", [run.staleness])
        if run.staleness not in ks:
            raise ConfigError(f"{run.folder} has K = {run.staleness}, not in {ks}")
        place = entry["schemes"].index(run.scheme), ks.index(run.staleness), run.seed
        if place in places:
            raise ConfigError(f"two runs of the same: {places[place].folder}, {run.folder}")
        places[place] = run
    _check_complete(entry, places)
    return [places[place] for place in sorted(places)]


def _check_complete(entry: Mapping[str, Any], places: Mapping[tuple[int, int, int], Any]) -> None:
    seeds = sorted({seed for _, _, seed in places})
    for number, scheme in enumerate(entry["schemes"]):
        for k in range(len(entry.get("vary", {}).get("staleness", [None]))):
            missing = [seed for seed in seeds if (number, k, seed) not in places]
            if missing:
                raise ConfigError(f"no run of {scheme} with seed {missing[0]}: add its folder")


def federated_origin(
    entry: Mapping[str, Any], runs: Sequence[FederatedRun], settings: Settings
) -> list[str]:
    """Where the numbers come from, as lines for the face of a figure."""
    run = next((run for run in runs if not run.alone), runs[0])
    seeds = len({each.seed for each in runs})
    named = [(each.timing, look(each.scheme).label) for each in runs]
    parts = [style.setting(run.scale), FRAMEWORKS["torch"].title, run.device]
    parts += style.timings(named)
    sides = [f"{len(run.spec['parties'])} parties", str(run.spec["context"]["title"])]
    slower = [p for p in run.spec["parties"] if p["slowdown"] != 1]
    sides += [f"{p['party']} emulated {p['slowdown']:g}× slower" for p in slower]
    sides.append(f"mean and range of {seeds} seeds" if seeds > 1 else "one seed")
    if run.dataset != PUBLISHED:
        sides.append(f"{style.human(run.dataset)} in place of {style.human(PUBLISHED)}")
    return [style.SEPARATOR.join(parts), style.SEPARATOR.join(sides)]
