"""Vertical federated recommendation: does it learn as centralised training does, what does a slow
party cost, and how many bytes does each party send?

The first runs are those of figure din_auc; further ones make the last party 2 and 4 times slower.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core import PROJECT
from core.bench import Report, pipeline_runs
from core.declared import Config
from core.federated import config as settings
from core.federated.config import FederatedKey
from core.figures.federated_results import FederatedRun, read_federated_run

FIGURE = "din_auc"
SLOWDOWNS = (1, 2, 4)  # of the last party
SCHEMES = ("compressed", "replay", "serial")  # that are timed with a slow party


def run() -> Report:
    """Every run of the figure, and those with a slower party."""
    content = pipeline_runs.config()
    keys = list(settings.figures(content)[FIGURE].runs)
    slow = slower_keys(content)
    folders = [key.folder(content) for key in dict.fromkeys([*keys, *slow.values()])]
    pipeline_runs.snakemake(f"{folder}/result.json" for folder in folders)
    return report(
        [read(key.folder(content)) for key in keys],
        {names: read(key.folder(content)) for names, key in slow.items()},
    )


def slower_keys(content: Config) -> dict[tuple[str, int], FederatedKey]:
    """Runs by scheme and slow-down of the last party; with 1, those of the figure."""
    own = content["federated"]
    (context,) = own["figures"][FIGURE]["contexts"]
    found = {}
    for scheme in SCHEMES:
        for slowdown in SLOWDOWNS:
            options = (("slowdown", slowdown),) if slowdown > 1 else ()
            device, seed = own["server"]["device"], content["seed"]
            found[scheme, slowdown] = FederatedKey(device, context, scheme, seed, options)
    return found


def read(folder: str) -> FederatedRun:
    """A run of the project's own."""
    return read_federated_run(PROJECT / Path(folder))


def report(runs: Sequence[FederatedRun], slow: Mapping[tuple[str, int], FederatedRun]) -> Report:
    """The comparison of finished runs."""
    schemes = list(dict.fromkeys(run.scheme for run in runs))
    figures: dict[str, Any] = {
        "auc": {s: spread([float(r.auc[-1]) for r in runs if r.scheme == s]) for s in schemes},
        "seconds_per_epoch": epoch_seconds(slow),
        "bytes_per_epoch": {s: traffic(next(r for r in runs if r.scheme == s)) for s in schemes},
    }
    figures["auc_lost"] = {
        s: round(figures["auc"]["centralised"]["mean"] - figures["auc"][s]["mean"], 4)
        for s in schemes
        if s != "centralised"
    }
    limits = {"auc_lost/serial": 0.001, "auc_lost/compressed": 0.01}
    notes = [
        "auc: test AUC after the last epoch, over seeds. auc_lost: mean of centralised training "
        "less that of the scheme",
        "seconds_per_epoch: training, the mean of the run; one seed; by slow-down of the last "
        "party. bytes_per_epoch: of training, headers included, by party, up and down; testing "
        "both ways",
    ]
    return Report(figures, limits, notes, kind="emulated")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, least and greatest."""
    return {
        "mean": round(float(np.mean(values)), 4),
        "least": round(min(values), 4),
        "greatest": round(max(values), 4),
        "seeds": len(values),
    }


def epoch_seconds(slow: Mapping[tuple[str, int], FederatedRun]) -> dict[str, dict[str, float]]:
    """By scheme and slow-down."""
    found: dict[str, dict[str, float]] = {}
    for (scheme, slowdown), run in slow.items():
        seconds = float(run.epochs["training_s"].mean())
        found.setdefault(scheme, {})[f"{slowdown}x"] = round(seconds, 3)
    return found


def traffic(run: FederatedRun) -> dict[str, dict[str, int]]:
    """Bytes of an epoch by party; nothing where all columns are in one place."""
    if run.parties.empty:
        return {}
    means = run.parties.groupby("party")[["up_bytes", "down_bytes", "test_bytes"]].mean()
    return {
        str(party): {key: round(float(value)) for key, value in row.items()}
        for party, row in means.to_dict(orient="index").items()
    }
