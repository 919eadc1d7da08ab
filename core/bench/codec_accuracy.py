"""What codecs and error feedback do to the accuracy, at demo scale, over several seeds.

The runs are those of figure split_codecs with each seed, and lie where the pipeline puts them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.bench import Report, pipeline_runs
from core.figures.split_results import SplitRun, read_split_run
from core.split import config as settings

FIGURE, SEEDS = "split_codecs", (0, 1, 2)
PLAIN = "none"


def run() -> Report:
    """For every codec and error feedback: best accuracy with its spread, how far it is from the
    uncompressed run of the same seed, and bytes per step."""
    content = pipeline_runs.config()
    keys = [
        key for seed in SEEDS for key in settings.figures(content | {"seed": seed})[FIGURE].runs
    ]
    runs = [read_split_run(folder) for folder in pipeline_runs.trained(content, keys)]
    figures = analyse(runs)
    notes = [
        f"{keys[0].task} at demo scale, seeds {', '.join(map(str, SEEDS))}; not a reproduction. "
        "accuracy: of the best epoch, percent. against_plain: the difference to the run with the "
        "same seed whose features are sent as float32, percentage points; mean, lowest, highest",
        "up_bytes, down_bytes: of the tensors of a step, measured where they cross the wire",
    ]
    return Report(figures, notes=notes)


def analyse(runs: Sequence[SplitRun]) -> dict[str, Any]:
    """The figures of finished runs, by codec and error feedback."""
    names = {run: f"{run.setting('uplink')}, feedback {run.setting('feedback')}" for run in runs}
    plain: Mapping[int, SplitRun] = {
        run.spec["seed"]: run
        for run in runs
        if run.setting("uplink") == PLAIN and run.setting("feedback") == PLAIN
    }
    found = {}
    for name in dict.fromkeys(names.values()):
        seeds = [run for run in runs if names[run] == name]
        against = [run.best_accuracy - plain[run.spec["seed"]].best_accuracy for run in seeds]
        found[name] = {
            "accuracy": _summary([run.best_accuracy for run in seeds]),
            "against_plain": _summary(against),
            "up_bytes": seeds[0].up_bytes,
            "down_bytes": float(seeds[0].steps["down_bytes"].median()),
        }
    return found


def _summary(values: Sequence[float]) -> dict[str, float]:
    parts = {"mean": np.mean(values), "lowest": np.min(values), "highest": np.max(values)}
    return {name: round(float(value), 2) for name, value in parts.items()}
