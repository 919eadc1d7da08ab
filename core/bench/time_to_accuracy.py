"""How long each scheme takes to an accuracy, at demo scale, over several seeds.

The runs are those of figures 15a and 20a and lie where the pipeline puts them, so those that are
there are used and a stopped benchmark goes on where it was.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from core import PROJECT
from core.bench import Report, pipeline_runs
from core.bench.pipeline_runs import snakemake
from core.declared import Config
from core.elastic import config as settings
from core.figures.results import Run, read_run

FIGURES, SEEDS = ("fig15a", "fig20a"), (0, 1, 2)
OURS = "elastic"
SHARES = (0.90, 0.95, 1.00)  # of the lowest best accuracy, so that every run gets there


def run() -> Report:
    """Trains what is missing: 18 runs of one to two minutes, fetching and profiling beside."""
    config = pipeline_runs.config()
    folders = run_folders(config)
    # By itself first: Snakemake leaves out a missing result whose profile, `ancient` to it, exists
    # and is to be measured again in the same call.
    snakemake(profiles(config))
    snakemake(f"{folder}/result.json" for folder in folders)
    figures = analyse([read_run(PROJECT / folder) for folder in folders])
    notes = [
        f"demo scale, seeds {', '.join(map(str, SEEDS))}; not a reproduction of the paper. "
        "Accuracy of the best epoch in percent; seconds are training time, testing, snapshots and "
        "profiling excluded, to the end of the first epoch that reaches the target. The target "
        "is a share of the lowest best accuracy of all runs",
        "speedup_of_elastic: time of the scheme over that of elastic with the same seed: mean, "
        "lowest and highest over the seeds",
    ]
    return Report(figures, notes=notes)


def run_folders(config: Config) -> list[str]:
    """Folders of the runs of the figures with each seed, each once."""
    return [key.folder(config) for key in _keys(config)]


def profiles(config: Config) -> list[str]:
    """The timing profiles that these runs read, each once."""
    names = {name: config[name] for name in ("scale", "framework")}
    found = (settings.PROFILE.format(device=k.device, task=k.task, **names) for k in _keys(config))
    return list(dict.fromkeys(found))


def _keys(config: Config) -> list[settings.RunKey]:
    keys = (
        key
        for seed in SEEDS
        for name in FIGURES
        for key in settings.figures(config | {"seed": seed})[name].runs
    )
    return list(dict.fromkeys(keys))


def analyse(runs: Sequence[Run]) -> dict[str, object]:
    """Best accuracies, and times to targets that every run reaches, by scheme over seeds."""
    schemes = list(dict.fromkeys(run.scheme for run in runs))
    by_scheme = {s: {r.spec["seed"]: r for r in runs if r.scheme == s} for s in schemes}
    lowest = min(run.best_accuracy for run in runs)
    return {
        "best_accuracy": {
            scheme: _summary(run.best_accuracy for run in seeds.values())
            for scheme, seeds in by_scheme.items()
        },
        "whole_run_s": {
            scheme: _summary(3600 * run.hours(testing=False)[-1] for run in seeds.values())
            for scheme, seeds in by_scheme.items()
        },
        "to": {f"{share:.0%}": _to(share * lowest, by_scheme) for share in SHARES},
    }


def _to(target: float, by_scheme: Mapping[str, Mapping[int, Run]]) -> dict[str, object]:
    """Seconds to one target, in percent, and how much faster elastic is than each scheme."""
    seconds = {
        scheme: {seed: 3600 * run.hours_to(target) for seed, run in seeds.items()}
        for scheme, seeds in by_scheme.items()
    }
    return {
        "accuracy": round(target, 2),
        "seconds": {scheme: _summary(by_seed.values()) for scheme, by_seed in seconds.items()},
        "speedup_of_elastic": {
            scheme: _summary(by_seed[seed] / seconds[OURS][seed] for seed in by_seed)
            for scheme, by_seed in seconds.items()
            if scheme != OURS
        },
    }


def _summary(values: Iterable[float]) -> dict[str, float]:
    found = np.array(list(values))
    parts = {"mean": found.mean(), "lowest": found.min(), "highest": found.max()}
    return {name: round(float(value), 2) for name, value in parts.items()}
