"""The split turned round, for generating chairs: how fast are the schemes in every context, how
long do they take to a loss, and where do they end?

Short runs measure seconds per step; whole ones, over several seeds, time to a loss and final loss.
All lie where the pipeline puts them, so that those that are there are used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from core.bench import Report, pipeline_runs
from core.declared import Config
from core.figures.split_results import SplitRun, read_split_run
from core.split.config import NO_CONTEXT, SplitKey
from core.split.schemes import SCHEMES as TABLE

TASK, SEEDS = "chairs", (0, 1, 2)
SCHEMES = ("context_aware", "replay", "serial", "all_edge")
CONTEXTS = ("ethernet", "wifi", "5g", "lte", "iot")
TRAINED, TRAINED_IN = ("context_aware", "serial", "all_edge"), "wifi"
STEPS = 24  # of a run that measures time


def run() -> Report:
    """Trains what is missing: 16 short runs and 9 whole ones."""
    content = pipeline_runs.config()
    short, whole = short_keys(content), whole_keys(content)
    folders = pipeline_runs.trained(content, [*short, *whole])
    runs = dict(zip([*short, *whole], map(read_split_run, folders), strict=True))
    figures = {
        "step_s": step_seconds({key: runs[key] for key in short}),
        "training": training([runs[key] for key in whole]),
    }
    notes = [
        f"demo scale; step_s: median seconds per step with the pipeline full, {STEPS} steps a run",
        f"training: in context {TRAINED_IN}, seeds {', '.join(map(str, SEEDS))}: test loss at the "
        "end, and seconds of training to the end of the first epoch whose test loss is at most "
        "the highest final loss of all; mean, lowest and highest",
    ]
    return Report(figures, notes=notes, kind="emulated")


def short_keys(content: Config) -> list[SplitKey]:
    """A short run of every scheme in every context; one of all-edge, which sends nothing."""
    options = (("steps", STEPS),)
    return _keys(content, SCHEMES, CONTEXTS, (content["seed"],), options)


def whole_keys(content: Config) -> list[SplitKey]:
    """A whole run of each trained scheme with each seed."""
    return _keys(content, TRAINED, (TRAINED_IN,), SEEDS, ())


def _keys(
    content: Config,
    schemes: Sequence[str],
    contexts: Sequence[str],
    seeds: Sequence[int],
    options: tuple[tuple[str, int | str], ...],
) -> list[SplitKey]:
    device = content["split"]["edge"]["device"]
    found: dict[SplitKey, None] = {}
    for scheme in schemes:
        for context in contexts:
            for seed in seeds:
                key = SplitKey(device, TASK, context, scheme, seed, options)
                alone = TABLE[scheme].cut == "edge"
                found[replace(key, context=NO_CONTEXT) if alone else key] = None
    return list(found)


def step_seconds(runs: Mapping[SplitKey, SplitRun]) -> dict[str, dict[str, float]]:
    """Seconds per step by context and scheme."""
    found: dict[str, dict[str, float]] = {}
    for key, one in runs.items():
        found.setdefault(key.context, {})[key.scheme] = round(one.steady().median, 4)
    return found


def training(runs: Sequence[SplitRun]) -> dict[str, Any]:
    """Final loss and seconds to a loss that all reach, by scheme."""
    target = max(float(one.losses[-1]) for one in runs)
    found: dict[str, Any] = {"target_loss": round(target, 5)}
    for scheme in dict.fromkeys(one.scheme for one in runs):
        own = [one for one in runs if one.scheme == scheme]
        found[scheme] = {
            "final_loss": _spread([float(one.losses[-1]) for one in own], 5),
            "seconds_to_target": _spread([_seconds_to(one, target) for one in own], 1),
        }
    return found


def _seconds_to(one: SplitRun, target: float) -> float:
    """Of training, to the end of the first epoch that is as good."""
    return float(3600 * one.hours(testing=False)[int(np.argmax(one.losses <= target))])


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    mean = sum(values) / len(values)
    found = {"mean": mean, "lowest": min(values), "highest": max(values)}
    return {name: round(value, digits) for name, value in found.items()}
