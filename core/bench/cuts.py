"""Is the engine's place as good as the best of all, measured?

Every cut of a small network is run in every context, and beside them the whole system, which
chooses by itself.
"""

from dataclasses import replace
from typing import Any

from core.bench import Report, pipeline_runs
from core.declared import Config
from core.figures.split_results import SplitRun, read_split_run
from core.models.blocks import NETWORKS
from core.split.config import NO_CONTEXT, SplitKey

TASK, STEPS = "imdb_bilstm", 30
CONTEXTS = ("ethernet", "wifi", "5g", "lte", "iot")


def run() -> Report:
    """Seconds per step of every cut and of the whole system; the time that it loses."""
    content = pipeline_runs.config()
    places = {context: keys_of(content, context) for context in CONTEXTS}
    keys = dict.fromkeys(key for found in places.values() for key in found.values())
    folders = pipeline_runs.trained(content, list(keys))
    runs = dict(zip(keys, map(read_split_run, folders), strict=True))
    figures = {
        context: compare({name: runs[key] for name, key in found.items()})
        for context, found in places.items()
    }
    limits = {f"{context}/lost": 0.05 for context in CONTEXTS}
    notes = [
        f"{TASK}, {STEPS} steps a run; step_s: seconds per step after the first third, probes and "
        "moves included, each of a run of its own. lost: of the whole system against the best cut, "
        "below zero where noise or another codec made it faster",
    ]
    return Report(figures, limits, notes, kind="emulated")


def keys_of(content: Config, context: str) -> dict[str, SplitKey]:
    """The run of every place of the cut in a context, and of the whole system."""
    device, seed = content["split"]["edge"]["device"], content["seed"]
    base = SplitKey(device, TASK, context, "compressed", seed, (("steps", STEPS),))
    blocks = NETWORKS[content["split"]["tasks"][TASK]["model"]].blocks
    found = {
        f"cut {cut}": replace(base, options=(("cut", cut), ("steps", STEPS)))
        for cut in range(1, blocks)
    }
    found["cut 0"] = replace(base, scheme="all_cloud")
    found[f"cut {blocks}"] = replace(base, scheme="all_edge", context=NO_CONTEXT)
    return found | {"context_aware": replace(base, scheme="context_aware")}


def compare(runs: dict[str, SplitRun]) -> dict[str, Any]:
    """Seconds per step by place, and what the whole system lost."""
    steps = {name: round(one.overall_s, 4) for name, one in runs.items()}
    ours = runs["context_aware"]
    best = min(step for name, step in steps.items() if name != "context_aware")
    return {
        "step_s": steps,
        "chosen_cut": int(ours.steps["cut"].iloc[-1]),
        "lost": round(steps["context_aware"] / best - 1, 3),
    }
