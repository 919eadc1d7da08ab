"""From the wanted share ρ of a full step to seconds for gradients and error propagation."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from core.elastic.selector import select
from core.elastic.timing import Cost, Timing
from core.errors import BudgetError

Rule = Literal["measured", "paper"]


def backward_budget(timing: Timing, rho: float, rule: Rule) -> float:
    """Seconds that the backward pass may take so that a step takes ρ of the full one.

    `measured`: ρ·T_full − T_forward, from this device's own times. `paper`: the released rule,
    (ρ − 1/3)·3/2 of the backward pass, which assumes that backward takes twice the forward.
    """
    if rule == "measured":
        return rho * timing.full - timing.forward
    return (rho - 1 / 3) * 1.5 * timing.backward


def smallest_rho(timing: Timing, rule: Rule, cost: Cost) -> float:
    """The smallest ρ with which at least one tensor can be trained on this device."""
    reach = np.cumsum(timing.t_dy(cost)[::-1])[::-1]
    cheapest = float(np.min(reach + timing.t_dw))
    if rule == "measured":
        return (timing.forward + cheapest) / timing.full
    return 1 / 3 + cheapest / (1.5 * timing.backward)


def check_budget(
    timing: Timing,
    rho: float,
    rule: Rule,
    cost: Cost,
    resolution: int,
    layers: Sequence[str] | None = None,
) -> None:
    """Raises BudgetError, naming the smallest ρ that works, when no tensor (no layer) fits.
    layers: as in `select`."""

    def fits(rho: float) -> bool:
        budget = backward_budget(timing, rho, rule)
        alike, t_dy = np.ones(len(timing.t_dw)), timing.t_dy(cost)
        return bool(select(timing.t_dw, t_dy, alike, budget, resolution, layers).any())

    if fits(rho):
        return
    thousandths = int(np.ceil(smallest_rho(timing, rule, cost) * 1000))
    while not fits(thousandths / 1000):  # the selector rounds times up
        thousandths += 1
    what = "tensor" if layers is None else "layer"
    raise BudgetError(
        f"elastic.rho = {rho:g} is too small for any {what}: on this device the forward pass "
        f"alone takes {timing.forward / timing.full:.3f} of a full step. "
        f"The smallest ρ that works here is {thousandths / 1000:.3f}"
    )
