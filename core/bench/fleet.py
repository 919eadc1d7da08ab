"""How many edges one cloud serves, and what a thousand need, by the simulator: no time here was
measured."""

import math
from typing import Any

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.bench.dispatch import OVERHEAD_S
from core.bench.simulator import contexts, published_costs
from core.split.compared import DOWNLINKS, STALENESS, UPLINKS
from core.split.costs import MIB, Costs
from core.split.decision import Choice, Link, Prediction, best, candidates, predict
from core.split.published import EDGES, NETWORKS
from core.split.simulate import Scheme, SimulatedLink, simulate_fleet
from core.training.snapshot import KEPT

FLEETS = (1, 10, 100)  # edges on one cloud
MANY = 1000
STEPS = 60  # of each edge; half of them until nothing changes any more
SNAPSHOT_S = 600.0  # between two, as shipped
NOTES = [
    "simulated: the published profiles at batch 32, the contexts' mean rates, K = 5; a link of its "
    "own for each edge, one cloud that works on one step at a time in the order of arrival",
    "edges_served: before the first has to wait, one edge's seconds per step over the cloud's "
    "part; alone: every edge keeps the choice that is best for one; shared: all take the choice "
    "that is best for as many on one cloud; speed_up: over all-edge",
    "form_error: of min(edges / step alone, 1 / cloud's part), the closed form, against the "
    "simulator, the largest of all fleets",
    f"snapshots: weights and momentum, {KEPT} kept on each side, one every {SNAPSHOT_S:g} s",
    f"dispatch_min: {MANY} runs begun one after the other by one host, each at the limit that "
    "bench dispatch holds",
]


def run() -> Report:
    """Each network and edge in each constant context."""
    constant, _ = contexts()
    cases = [(n, e, c) for n in NETWORKS for e in EDGES for c in sorted(constant)]
    found = {
        f"{network} {edge} {context}": of_case(
            published_costs(network, edge), SimulatedLink.of(constant[context])
        )
        for network, edge, context in tqdm(cases, unit="case", disable=None)
    }
    errors = [case.pop("form_error") for case in found.values()]
    figures = {
        "cases": found,
        "form_error": max(errors),
        "dispatch_min": round(MANY * OVERHEAD_S / 60, 1),
    }
    return Report(figures, {"form_error": 0.01}, NOTES, kind="simulated")


def of_case(costs: Costs, link: SimulatedLink) -> dict[str, Any]:
    """A fleet whose edges keep the choice that is best for one, and one that chooses together."""
    mean = link.mean()
    one = best(costs, mean, UPLINKS, DOWNLINKS, STALENESS, STEPS)
    alone = {edges: per_step(costs, link, one.choice, edges) for edges in FLEETS}
    expected = {edges: shared_step(one, edges) for edges in FLEETS}
    together = {edges: best_shared(costs, mean, edges) for edges in (*FLEETS, MANY)}
    all_edge = float(costs.edge_s[costs.blocks])
    served = edges_served(one)
    return {
        "choice": {"cut": one.choice.cut, "uplink": one.choice.uplink},
        "all_edge_s": round(all_edge, 3),
        "cloud_s": round(one.cloud_s, 3),
        "edges_served": served,
        "clouds_for_1000": math.ceil(MANY / served) if served else 0,
        "alone_s": {edges: round(seconds, 3) for edges, seconds in alone.items()},
        "alone_speed_up": {edges: round(all_edge / s, 2) for edges, s in alone.items()},
        "shared_s": {edges: round(shared_step(p, edges), 3) for edges, p in together.items()},
        "shared_cut": {edges: p.choice.cut for edges, p in together.items()},
        "mbit_s": rates(costs, one),
        "snapshots": snapshots(costs, one.choice.cut),
        "form_error": max(abs(alone[edges] / expected[edges] - 1) for edges in FLEETS),
    }


def per_step(costs: Costs, link: SimulatedLink, choice: Choice, edges: int) -> float:
    """Simulated seconds per step of an edge, the mean of all."""
    found = simulate_fleet(costs, [link] * edges, Scheme(choice, STALENESS), STEPS)
    return edges / sum(1 / one.step_s for one in found)


def shared_step(one: Prediction, edges: int) -> float:
    """The closed form: an edge's own seconds per step, or its turn at a cloud that never rests."""
    return max(one.step_s, edges * one.cloud_s)


def edges_served(one: Prediction) -> int:
    """Edges before the first has to wait; 0 where the cloud has nothing to do."""
    return math.floor(one.step_s / one.cloud_s) if one.cloud_s else 0


def best_shared(costs: Costs, link: Link, edges: int) -> Prediction:
    """The choice with the least seconds per step where so many share one cloud."""
    predictions = [
        predict(costs, link, c.cut, c.uplink, c.downlink, STALENESS, STEPS)
        for c in candidates(costs, UPLINKS, DOWNLINKS)
    ]
    return min(predictions, key=lambda p: shared_step(p, edges))


def rates(costs: Costs, one: Prediction) -> dict[str, float]:
    """Mbit/s of one edge that never waits, up and down."""
    up = float(costs.codec(one.choice.uplink).uplink_bytes[one.choice.cut])
    down = float(costs.codec(one.choice.downlink).downlink_bytes[one.choice.cut])
    return {way: round(8e-6 * n / one.step_s, 2) for way, n in (("up", up), ("down", down))}


def snapshots(costs: Costs, cut: int) -> dict[str, float]:
    """MiB kept by an edge and by its cloud for it, and what a thousand write at their clouds."""
    edge, cloud = (float(part.sum()) for part in np.split(costs.block_bytes, [cut]))
    return {
        "edge_mib": round(KEPT * edge / MIB, 1),
        "cloud_mib": round(KEPT * cloud / MIB, 1),
        "cloud_gib_for_1000": round(MANY * KEPT * cloud / MIB / 1024, 1),
        "cloud_mib_s_for_1000": round(MANY * cloud / MIB / SNAPSHOT_S, 1),
    }
