"""Is the engine's place as good as the best of all, measured?

Every cut of a small network is run in every context, and beside them the whole system, which
chooses by itself. Those that come near to the best are run again for longer, and decide.
"""

from dataclasses import replace
from typing import Any

from core.bench import Report, pipeline_runs
from core.declared import Config
from core.figures.split_results import SplitRun, read_split_run
from core.models.blocks import NETWORKS
from core.split.config import NO_CONTEXT, SplitKey

TASK, STEPS, LONGER = "imdb_bilstm", 30, 300
CONTEXTS = ("ethernet", "wifi", "5g", "lte", "iot")
NEAR = 1.3  # times as long a step as that of the best place
OURS = "context_aware"

Keys = dict[str, SplitKey]


def run() -> Report:
    """Seconds per step of every cut and of the whole system; the time that it loses."""
    content = pipeline_runs.config()
    short = _read(content, {context: keys_of(content, context) for context in CONTEXTS})
    longer = {context: finalists(content, context, runs) for context, runs in short.items()}
    figures = {
        context: compare(runs) | {"of_all_step_s": _steps(short[context])}
        for context, runs in _read(content, longer).items()
    }
    limits = {f"{context}/lost": 0.05 for context in CONTEXTS}
    notes = [
        f"{TASK}; step_s: seconds per step after the first third, probes and moves included, each "
        f"of a run of its own of {LONGER} steps; of_all_step_s: of all places, {STEPS} steps. "
        f"Those within {NEAR} of the best were run for longer. lost: of the whole system against "
        "the best place, below zero where noise or another codec made it faster",
    ]
    return Report(figures, limits, notes, kind="emulated")


def keys_of(content: Config, context: str, steps: int = STEPS) -> Keys:
    """The run of every place of the cut in a context, and of the whole system."""
    device, seed = content["split"]["edge"]["device"], content["seed"]
    base = SplitKey(device, TASK, context, "compressed", seed, (("steps", steps),))
    blocks = NETWORKS[content["split"]["tasks"][TASK]["model"]].blocks
    found = {
        f"cut {cut}": replace(base, options=(("cut", cut), ("steps", steps)))
        for cut in range(1, blocks)
    }
    found["cut 0"] = replace(base, scheme="all_cloud")
    found[f"cut {blocks}"] = replace(base, scheme="all_edge", context=NO_CONTEXT)
    return found | {OURS: replace(base, scheme="context_aware")}


def finalists(content: Config, context: str, runs: dict[str, SplitRun]) -> Keys:
    """The longer runs of the places that came near to the best, and of the whole system."""
    steps = _steps(runs)
    best = min(step for name, step in steps.items() if name != OURS)
    keys = keys_of(content, context, LONGER)
    return {name: keys[name] for name in runs if name == OURS or steps[name] <= NEAR * best}


def _read(content: Config, places: dict[str, Keys]) -> dict[str, dict[str, SplitRun]]:
    """Runs by context and place, trained in one go where they are not there."""
    keys = list(dict.fromkeys(key for own in places.values() for key in own.values()))
    runs = dict(zip(keys, map(read_split_run, pipeline_runs.trained(content, keys)), strict=True))
    return {context: {n: runs[key] for n, key in own.items()} for context, own in places.items()}


def _steps(runs: dict[str, SplitRun]) -> dict[str, float]:
    return {name: round(one.overall_s, 4) for name, one in runs.items()}


def compare(runs: dict[str, SplitRun]) -> dict[str, Any]:
    """Seconds per step by place, and what the whole system lost."""
    steps = _steps(runs)
    ours = runs[OURS]
    best = min(step for name, step in steps.items() if name != OURS)
    return {
        "step_s": steps,
        "chosen_cut": int(ours.steps["cut"].iloc[-1]),
        "lost": round(steps[OURS] / best - 1, 3),
    }
