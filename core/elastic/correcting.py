"""Selecting again until a step takes the share ρ that was asked for.

The times of the tensors are right on average and off one by one, and the selector prefers those
that came out too small. So what it chose is timed, and the budget corrected by what came of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.elastic.budget import backward_budget
from core.elastic.selector import Mask
from core.elastic.timing import Cost, Timing

# A share within this part of ρ is left as it is, and within twice its own error: correcting what
# noise made would make it worse.
CLOSE = 0.03

# Steps that are timed under a selection, after warm-up.
REPEATS = 5

# What a backward pass can take over what was predicted; beyond this a machine was disturbed.
LEAST, MOST = 0.5, 2.0


@dataclass(frozen=True)
class Attempt:
    """A selection and what it takes. share: of the full step, measured; error: of that share.
    excess: its measured backward pass over the predicted one."""

    mask: Mask
    share: float
    error: float
    excess: float


def attempts(
    choose: Callable[[float], Mask],
    measure: Callable[[Mask], tuple[float, float]],
    timing: Timing,
    rho: float,
    cost: Cost,
    corrections: int,
    excess: float = 1.0,
) -> list[Attempt]:
    """Every selection that was tried, in order; at least one.

    choose: the selection within a budget in seconds; something fits the budget of ρ itself.
    measure: the share of the full step that a step under a selection takes, and its error.
    corrections: how many more selections are tried, at most. It ends sooner where the share is
    close to ρ, and where a corrected budget leads to nothing new.
    excess: that of an earlier selection, with which the budget starts.
    """
    wanted = backward_budget(timing, rho, "measured")
    mask = choose(wanted / excess)
    if not mask.any():
        mask = choose(wanted)
    found: list[Attempt] = []
    while True:
        share, error = measure(mask)
        found.append(Attempt(mask, share, error, _excess(timing, mask, cost, share)))
        if abs(share - rho) <= max(CLOSE * rho, 2 * error) or len(found) > corrections:
            return found
        # The mean: what a larger budget buys has another excess, and it would go back and forth.
        mask = choose(wanted / float(np.mean([tried.excess for tried in found])))
        if not mask.any() or any(np.array_equal(mask, tried.mask) for tried in found):
            return found


def nearest(found: list[Attempt], rho: float) -> Attempt:
    """The attempt whose share comes nearest to ρ; the first of equals."""
    return min(found, key=lambda attempt: abs(attempt.share / rho - 1))


def step_share(timing: Timing, steps: list[float], forwards: list[float]) -> tuple[float, float]:
    """Share of the full step that steps took, and its standard error, by the forward pass beside
    each: a machine that is slower than while it was profiled is so for both."""
    shares = np.array(steps) / np.array(forwards) * timing.forward / timing.full
    low, middle, high = np.percentile(shares, [25, 50, 75])
    # Of a median, for numbers that are spread normally: 1.25 σ / √n, and σ is IQR / 1.35.
    return float(middle), float(0.93 * (high - low) / np.sqrt(len(shares)))


def _excess(timing: Timing, mask: Mask, cost: Cost, share: float) -> float:
    predicted = timing.predict(mask, cost) - timing.forward
    if predicted <= 0:  # of tensors that cost nothing there is nothing to learn
        return 1.0
    return float(np.clip((share * timing.full - timing.forward) / predicted, LEAST, MOST))
