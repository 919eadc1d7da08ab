"""Is the engine's place as good as the best of all, measured?

Every cut of a small network is run in every context, and beside them the whole system, which
chooses by itself. Those that come near to the best are run again for longer, and decide. What a
machine gives in one hour and in the next differs by more than such places do: places are compared
within a round, whose runs follow each other, and the median of several rounds counts.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from core.bench import Report, pipeline_runs
from core.declared import Config
from core.figures.split_results import SplitRun, read_split_run
from core.models.blocks import NETWORKS
from core.split.config import NO_CONTEXT, SplitKey

TASK, STEPS, LONGER = "imdb_bilstm", 30, 300
ROUNDS = 10  # a seed each
CONTEXTS = ("ethernet", "wifi", "5g", "lte", "iot")
NEAR = 1.3  # times as long a step as that of the best place
OURS = "context_aware"

Keys = dict[str, SplitKey]


def run() -> Report:
    """Seconds per step of every cut and of the whole system; the time that it loses."""
    content = pipeline_runs.config()
    figures = {}
    for context in CONTEXTS:
        runs = read(content, keys_of(content, context))
        rounds = [finalists(content, context, runs, seed) for seed in range(ROUNDS)]
        longer = [read(content, keys) for keys in rounds]
        figures[context] = compare(longer) | {"of_all_step_s": steps_of(runs)}
    limits = {f"{c}/{what}": 0.05 for c in CONTEXTS for what in ("lost", "lost_by_choice")}
    notes = [
        f"{TASK}; step_s: seconds per step after the first third, probes and moves included: "
        f"median, least and most of {ROUNDS} runs of {LONGER} steps, a round each; of_all_step_s: "
        f"of all places, one run of {STEPS} steps. Those within {NEAR} of the best were run for "
        "longer. lost: of the whole system against the best place in the same round: median and "
        "quartiles over rounds; below zero where noise or another codec made it faster. "
        "lost_by_choice: likewise, of a run that stays all the time where the whole system ended",
    ]
    return Report(figures, limits, notes, kind="emulated")


def keys_of(content: Config, context: str, steps: int = STEPS, seed: int = 0) -> Keys:
    """The run of every place of the cut in a context, and of the whole system."""
    device = content["split"]["edge"]["device"]
    base = SplitKey(device, TASK, context, "compressed", seed, (("steps", steps),))
    blocks = NETWORKS[content["split"]["tasks"][TASK]["model"]].blocks
    found = {
        f"cut {cut}": replace(base, options=(("cut", cut), ("steps", steps)))
        for cut in range(1, blocks)
    }
    found["cut 0"] = replace(base, scheme="all_cloud")
    found[f"cut {blocks}"] = replace(base, scheme="all_edge", context=NO_CONTEXT)
    return found | {OURS: replace(base, scheme="context_aware")}


def finalists(content: Config, context: str, runs: dict[str, SplitRun], seed: int) -> Keys:
    """The longer runs of the places that came near to the best, and of the whole system."""
    steps = steps_of(runs)
    best = min(step for name, step in steps.items() if name != OURS)
    keys = keys_of(content, context, LONGER, seed)
    return {name: keys[name] for name in runs if name == OURS or steps[name] <= NEAR * best}


def read(content: Config, keys: Keys) -> dict[str, SplitRun]:
    """Runs by place, trained in one go where they are not there."""
    folders = pipeline_runs.trained(content, list(keys.values()))
    return dict(zip(keys, map(read_split_run, folders), strict=True))


def steps_of(runs: dict[str, SplitRun]) -> dict[str, float]:
    """Seconds per step by place."""
    return {name: round(one.overall_s, 4) for name, one in runs.items()}


def compare(rounds: list[dict[str, SplitRun]]) -> dict[str, Any]:
    """Seconds per step by place, and what the whole system lost against the best of them."""
    every = {name: np.array([runs[name].overall_s for runs in rounds]) for name in rounds[0]}
    best = min((name for name in every if name != OURS), key=lambda name: np.median(every[name]))
    chosen = [int(runs[OURS].steps["cut"].iloc[-1]) for runs in rounds]
    # A place that was not run for longer is known by the whole system's own time.
    there = [
        runs.get(f"cut {cut}", runs[OURS]).overall_s
        for runs, cut in zip(rounds, chosen, strict=True)
    ]
    lost, by_choice = every[OURS] / every[best] - 1, there / every[best] - 1
    return {
        "step_s": {name: _spread(steps, (50, 0, 100), 4) for name, steps in every.items()},
        "best": best,
        "chosen_cuts": chosen,
        "lost": _spread(lost, (50,), 3)[0],
        "lost_quartiles": _spread(lost, (25, 75), 3),
        "lost_by_choice": _spread(by_choice, (50,), 3)[0],
    }


def _spread(values: np.ndarray, percentiles: tuple[int, ...], digits: int) -> list[float]:
    return [round(float(each), digits) for each in np.percentile(values, percentiles)]
