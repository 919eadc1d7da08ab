"""What the published devices would take on every context, from the simulator: no time here was
measured, but for the simulator's own speed."""

import time
from functools import cache
from typing import Any

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.models.blocks import build
from core.split.compared import DOWNLINKS, STALENESS, UPLINKS, of_schemes
from core.split.contexts import SHIPPED, Context, read_contexts
from core.split.costs import Costs, Floats
from core.split.decision import Choice, Engine, Link, candidates, initial
from core.split.estimator import Estimator
from core.split.published import EDGES, NETWORKS, published
from core.split.simulate import Scheme, SimulatedLink, Simulation, simulate

TRACE_STEPS = 1000
SPEED_STEPS = 10_000
NOTES = [
    "simulated: seconds per step from the published profiles at batch 32 and the contexts' rates",
    "the profiles have no codec times and no all-cloud; serial times are estimated from them "
    "(core.split.published)",
    "serial is the best inner cut at K = 0, jointdnn may also be all-edge, replay is the best "
    "uncompressed choice at K = 5, context_aware the best choice of cut and codec at K = 5",
    "traces: 1 − time of the best fixed choice in hindsight / time of the engine, which starts "
    "with the best choice for the link's first moment; negative where moving pays",
]


def run() -> Report:
    """Schemes on constant contexts; the engine on constant and on moving ones."""
    constant, moving = contexts()
    cases = [(network, edge) for network in NETWORKS for edge in EDGES]
    steps: dict[str, Any] = {}
    lost: dict[str, dict[str, float]] = {"constant": {}, "moving": {}}
    for network, edge in tqdm(cases, unit="device", disable=None):
        costs = published_costs(network, edge)
        for kind, found in (("constant", constant), ("moving", moving)):
            for name, context in found.items():
                link = SimulatedLink.of(context)
                key = f"{network} {edge} {name}"
                lost[kind][key] = round(time_lost(costs, link), 4)
                if kind == "constant":
                    steps[key] = of_schemes(costs, link)
    figures = {
        "kind": "simulated",
        "seconds_per_step": steps,
        "largest_speed_up": {
            over: max(row["speed_up"][over] for row in steps.values())
            for over in ("all_edge", "serial", "jointdnn", "replay")
        },
        "lost": lost,
        "most_lost": {kind: max(values.values()) for kind, values in lost.items()},
        "us_per_step": round(1e6 * _seconds_per_step(), 1),
    }
    return Report(
        figures, {"most_lost/constant": 0.05, "us_per_step": 200.0}, NOTES, kind="simulated"
    )


def contexts() -> tuple[dict[str, Context], dict[str, Context]]:
    """The emulated contexts that are constant, and those with a trace."""
    found = {n: c for n, c in read_contexts(SHIPPED).items() if c.emulated and not c.outages}
    constant = {name: c for name, c in found.items() if c.trace is None}
    return constant, {name: c for name, c in found.items() if name not in constant}


@cache
def published_costs(network: str, edge: str) -> Costs:
    """A published network on a published device, with the sizes of our blocks."""
    return published(network, edge, UPLINKS, block_bytes=_block_bytes(network))


@cache
def _block_bytes(network: str) -> Floats:
    """Weights, statistics, and the momentum of SGD."""
    blocks = build(network, classes=10, seed=0)
    weights = [sum(p.nbytes for p in block.parameters()) for block in blocks]
    statistics = [sum(b.nbytes for b in block.buffers()) for block in blocks]
    return np.array([2.0 * w + s for w, s in zip(weights, statistics, strict=True)])


def time_lost(costs: Costs, link: SimulatedLink) -> float:
    """Part of the engine's time that the best fixed choice in hindsight would have saved."""
    first = Link(link.up.rate(0.0), link.down.rate(0.0), link.delay)
    start = initial(costs, first, UPLINKS, DOWNLINKS, STALENESS, TRACE_STEPS).choice
    engine = driven(costs, link, start, TRACE_STEPS)
    fixed = [
        simulate(costs, link, Scheme(choice, STALENESS), TRACE_STEPS).seconds
        for choice in candidates(costs, UPLINKS, DOWNLINKS)
    ]
    return 1 - min(fixed) / engine.seconds


def driven(costs: Costs, link: SimulatedLink, start: Choice, steps: int) -> Simulation:
    """The whole system from a choice on."""
    engine = Engine(costs, start, steps, UPLINKS, DOWNLINKS)
    return simulate(costs, link, Scheme(start, STALENESS), steps, engine, Estimator())


def _seconds_per_step() -> float:
    """The simulator's own time, measured."""
    costs = published_costs("resnet50_cifar", "TX2")
    link = SimulatedLink.of(contexts()[0]["wifi"])
    start = time.perf_counter()
    simulate(costs, link, Scheme(Choice(5, "int8", "none"), STALENESS), SPEED_STEPS)
    return (time.perf_counter() - start) / SPEED_STEPS
