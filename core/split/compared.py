"""Every scheme on the same simulated link."""

from typing import Any

from core.split.costs import Costs
from core.split.decision import Choice, best, candidates, initial, joint_dnn, predict
from core.split.simulate import Scheme, SimulatedLink, simulate

STALENESS = 5
UPLINKS, DOWNLINKS = ("none", "int8"), ("none",)  # the published program's
STEPS = 200  # until nothing changes any more


def of_schemes(costs: Costs, link: SimulatedLink) -> dict[str, Any]:
    """Simulated seconds per step of every scheme, and the speed-up of the whole system."""
    mean, plain = link.mean(), ("none",)
    inner = (c for c in candidates(costs, plain, plain) if 0 < c.cut < costs.blocks)
    serial = min(inner, key=lambda c: predict(costs, mean, c.cut, "none", "none", 0, 1).total_s)
    schemes = {
        "all_edge": Scheme(Choice(costs.blocks, "none", "none"), 0),
        "serial": Scheme(serial, 0),
        "jointdnn": Scheme(joint_dnn(costs, mean), 0),
        "replay": Scheme(best(costs, mean, plain, plain, STALENESS, STEPS).choice, STALENESS),
        "context_aware": Scheme(
            initial(costs, mean, UPLINKS, DOWNLINKS, STALENESS, STEPS).choice, STALENESS
        ),
    }
    found = {name: simulate(costs, link, s, STEPS).step_s for name, s in schemes.items()}
    return {
        **{name: round(seconds, 4) for name, seconds in found.items()},
        "cuts": {name: scheme.choice.cut for name, scheme in schemes.items()},
        "speed_up": {name: round(s / found["context_aware"], 2) for name, s in found.items()},
    }
