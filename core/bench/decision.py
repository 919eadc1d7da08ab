"""The decision engine: its choice against every other, and what a look takes."""

import time
from itertools import product
from typing import Any

import numpy as np

from core.bench import Report
from core.bench.simulator import contexts, driven, published_costs
from core.split.codec import CODECS
from core.split.compared import DOWNLINKS, STALENESS, STEPS, UPLINKS
from core.split.costs import Costs
from core.split.decision import Choice, Link, best, candidates
from core.split.published import EDGES, NETWORKS, published
from core.split.simulate import Scheme, SimulatedLink, simulate

RUN_STEPS = 10_000  # moving 280 MB over 8 Mbit/s pays only in a long run
RATES = np.geomspace(1e4, 1e8, 9)  # bytes per second
REPEATS = 30


def run() -> Report:
    """Against brute enumeration, and in simulated constant contexts from the worst start."""
    differ, asked = _enumeration()
    lost = {
        f"{network} {edge} {name}": round(_lost(costs, SimulatedLink.of(context)), 4)
        for network, edge in product(NETWORKS, EDGES)
        for costs in [published_costs(network, edge)]
        for name, context in contexts()[0].items()
    }
    figures: dict[str, Any] = {
        "asked": asked,
        "not_best": differ,
        "look_ms": _look_ms(),
        "simulated_lost": lost,
        "most_lost": max(lost.values()),
    }
    notes = [
        "asked: published networks and devices × rates up and down × K × r × cut before",
        "simulated_lost: of a step with the choice that the engine came to from all-edge, what the "
        "best of all choices would save; simulated",
        "look_ms: 19 blocks, every number format up and down; measured",
    ]
    return Report(
        figures, {"not_best": 0, "most_lost": 0.05, "look_ms": 50.0}, notes, kind="simulated"
    )


def _enumeration() -> tuple[int, int]:
    """How often the choice is not the best of all, and of how many."""
    differ = asked = 0
    questions = list(product(RATES[::2], RATES[::2], (0, 1, 5), (1, 10, 1000), (1, 19)))
    for network, edge in product(NETWORKS, EDGES):
        costs = published_costs(network, edge)
        for up, down, staleness, remaining, start in questions:
            found = best(costs, Link(up, down), UPLINKS, DOWNLINKS, staleness, remaining, start)
            least = _least(costs, up, down, staleness, remaining, start)
            differ += not np.isclose(found.total_s, least, rtol=1e-9)
            asked += 1
    return differ, asked


def _least(
    costs: Costs, up: float, down: float, staleness: int, remaining: int, start: int
) -> float:
    """The least time over all cuts and codecs, from the definition, all cuts at once."""
    edge = costs.edge_replay_s if staleness else costs.edge_s
    reach = np.concatenate([[0.0], np.cumsum(costs.block_bytes)])
    moved = reach - reach[start]
    move = np.where(moved > 0, moved / down, -moved / up)
    totals = []
    for uplink, downlink in product(UPLINKS, DOWNLINKS):
        sent, returned = costs.codecs[uplink].uplink_bytes, costs.codecs[downlink].downlink_bytes
        t = np.stack([edge, sent / up, costs.cloud_s, returned / down])
        slowest, through = t.max(axis=0), t.sum(axis=0)
        wait = np.maximum(0, through - (staleness + 1) * slowest)
        rounds = np.ceil(remaining / (staleness + 1))
        totals.append((remaining - 1) * slowest + through + (rounds - 1) * wait + move)
    return float(np.nanmin(totals))


def _lost(costs: Costs, link: SimulatedLink) -> float:
    """Part of a step that the best of all choices would save."""
    start = Choice(costs.blocks, "none", "none")
    came_to = driven(costs, link, start, RUN_STEPS).moves
    choice = came_to[-1].choice if came_to else start
    own = simulate(costs, link, Scheme(choice, STALENESS), STEPS).step_s
    others = (
        simulate(costs, link, Scheme(c, STALENESS), STEPS).step_s
        for c in candidates(costs, UPLINKS, DOWNLINKS)
    )
    return 1 - min(others) / own


def _look_ms() -> float:
    names = [name for name, stage in CODECS.items() if stage.role == "format"]
    costs = published("resnet50_cifar", "TX2", names)
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        best(costs, Link(1e6, 1e6), names, names, STALENESS, 100, 5)
        taken.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(taken)), 2)
