"""Do both sides work at the same time, and does the published formula say how long a step takes?

The runs are those of figure split_throughput. Each is compared with its own T1 to T4, so that
neither the machine nor the emulated link has to be the same in two runs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from core.bench import Report, pipeline_runs
from core.errors import DataError
from core.figures.split_results import SplitRun, read_split_run
from core.models.blocks import NETWORKS
from core.split import config as settings
from core.split.costs import CodecCosts, Costs
from core.split.decision import Choice, Link, predict
from core.split.simulate import Scheme, SimulatedLink, simulate
from core.split.traces import Trace

FIGURE = "split_throughput"
PARTS = ("edge_s", "uplink_s", "cloud_s", "downlink_s")
REPLAYING = ("replay", "context_aware")  # K >= 3
STEPS = 200  # of a simulation, enough for a full pipeline


def run() -> Report:
    """For each context and scheme: seconds per step, over max(T1..T4), over the formula's, over the
    simulator's; and how much faster the whole system is than each baseline."""
    content = pipeline_runs.config()
    keys = settings.figures(content)[FIGURE].runs
    runs = [read_split_run(folder) for folder in pipeline_runs.trained(content, keys)]
    return report(runs)


def report(runs: list[SplitRun]) -> Report:
    """The comparison of finished runs."""
    figures: dict[str, Any] = {}
    limits: dict[str, float] = {}
    for one in runs:
        if one.scheme == "all_edge":
            continue
        figures.setdefault(one.context, {})[one.scheme] = found = compare(one)
        for name in ("formula_error", "simulator_error"):
            limits[f"{one.context}/{one.scheme}/{name}"] = 0.1
        if one.scheme in REPLAYING and found["reachable"]:
            limits[f"{one.context}/{one.scheme}/over_bound"] = round(1 / 0.9, 3)
    alone = next((r.steady().median for r in runs if r.scheme == "all_edge"), None)
    for context, found in figures.items():
        found["speedup_of_context_aware"] = speedups(found, alone)
        figures[context] = found
    notes = [
        "step_s: median seconds per step with the pipeline full. T: medians of the same steps; of "
        "the link, the bytes of the tensors over the estimated rate",
        "over_bound: step_s over max(T1..T4). reachable: the formula says that the bound is "
        "reached with this K, T0 <= (K+1)·T*. formula, simulator: seconds per step that they give "
        "for these T",
    ]
    return Report(figures, limits, notes, kind="emulated")


def compare(one: SplitRun) -> dict[str, Any]:
    """A run against its own parts."""
    steady, parts = one.steady(), parts_of(one.full)
    sends = int(one.full["cut"].iloc[-1]) < NETWORKS[one.model].blocks
    seen = one.full["delay_s"].dropna()
    delay = float(seen.median()) if len(seen) and sends else 0.0
    costs = costs_of(parts)
    said = predict(costs, Link(1.0, 1.0, delay), 1, "none", "none", steady.staleness, 1)
    bound, simulated = said.slowest_s, _simulated(costs, delay, steady.staleness)
    return {
        "step_s": round(steady.median, 4),
        "T": {name: round(value, 4) for name, value in parts.items()},
        "delay_s": round(delay, 4),
        "K": steady.staleness,
        "cut": int(one.full["cut"].iloc[-1]),
        "commit": one.result["commit"],
        "over_bound": round(steady.median / bound, 3),
        "reachable": said.through_s <= (steady.staleness + 1) * bound,
        "formula_s": round(said.step_s, 4),
        "formula_error": round(abs(said.step_s / steady.median - 1), 3),
        "simulator_s": round(simulated, 4),
        "simulator_error": round(abs(simulated / steady.median - 1), 3),
    }


def parts_of(full: pd.DataFrame) -> dict[str, float]:
    """Medians of T1 to T4 of the steps that count. Raises DataError where a rate is unknown."""
    for name, size in (("uplink_s", "up_bytes"), ("downlink_s", "down_bytes")):
        if (full[name].isna() & (full[size] > 0)).any():
            raise DataError(f"no rate of the link was estimated: {name} is empty")
    return {name: float(full[name].fillna(0.0).median()) for name in PARTS}


def costs_of(parts: Mapping[str, float]) -> Costs:
    """A network whose one inner cut has these T1 to T4, the link passing one byte per second."""
    edge, up, cloud, down = (np.array([np.nan, parts[name], np.nan]) for name in PARTS)
    codec = CodecCosts(up, down, *[np.zeros(3)] * 4)
    return Costs(edge, edge, cloud, {"none": codec}, np.zeros(2))


def _simulated(costs: Costs, delay: float, staleness: int) -> float:
    """Seconds per step of the simulator."""
    link = SimulatedLink(Trace.constant(1.0), Trace.constant(1.0), delay)
    return simulate(costs, link, Scheme(Choice(1, "none", "none"), staleness), STEPS).step_s


def speedups(found: Mapping[str, Any], alone: float | None) -> dict[str, float]:
    """How many times as long a step of each baseline takes, in the same context."""
    ours = found["context_aware"]["step_s"]
    others = {n: each["step_s"] for n, each in found.items() if n != "context_aware"}
    others |= {"all_edge": alone} if alone is not None else {}
    return {name: round(step / ours, 2) for name, step in others.items()}
