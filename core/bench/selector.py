"""The selector against brute force, and its time at the size of ResNet50."""

import time

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.elastic.selector import Floats, Mask, pruned, select

CASES, TENSORS = 10_000, 12


def run() -> Report:
    """Random cases with zero and equal times, both readings of t_dy, whole-number times, so that
    rounding is exact and the best of all masks is known."""
    random = np.random.default_rng(0)
    exact = over = 0
    for case in tqdm(range(CASES), unit="case", disable=None):
        t_dw, t_dy, importance, budget = _case(random)
        realisable = case % 2 == 0
        cost = pruned(t_dy) if realisable else t_dy
        mask = select(t_dw, cost, importance, budget, budget)
        best = brute_force(t_dw, t_dy, importance, budget, realisable)
        exact += bool(np.isclose(importance[mask].sum(), best))
        over += spent(mask, t_dw, t_dy, realisable) > budget
    figures = {
        "cases": CASES,
        "exact": exact,
        "over_budget": over,
        "not_exact": CASES - exact,
        "median_ms": _median_ms(random, 214, 10_000),
    }
    return Report(figures, {"not_exact": 0, "over_budget": 0, "median_ms": 10.0})


def spent(mask: Mask, t_dw: Floats, t_dy: Floats, realisable: bool) -> float:
    """What a mask costs, from the definition. Seconds."""
    if not mask.any():
        return 0.0
    depth = int(np.flatnonzero(mask)[0])
    return float(t_dw[mask].sum() + t_dy[depth + realisable :].sum())


def brute_force(
    t_dw: Floats, t_dy: Floats, importance: Floats, budget: float, realisable: bool
) -> float:
    """The most importance over all 2^N masks within the budget."""
    n = len(t_dw)
    masks = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1 == 1
    suffix = np.append(np.cumsum(t_dy[::-1])[::-1], 0.0)
    reach = suffix[masks.argmax(axis=1) + realisable]
    fits = masks @ t_dw + reach <= budget
    return float(np.max(masks[fits] @ importance, initial=0.0))


def _case(random: np.random.Generator) -> tuple[Floats, Floats, Floats, int]:
    n = int(random.integers(1, TENSORS + 1))
    t_dw = random.integers(0, 8, n).astype(float)
    t_dy = random.integers(0, 5, n).astype(float)
    importance = np.round(random.normal(0.3, 1, n), 1)  # equal values happen
    return t_dw, t_dy, importance, int(random.integers(1, 60))


def _median_ms(random: np.random.Generator, tensors: int, resolution: int) -> float:
    taken = []
    for rho in np.tile([0.3, 0.5, 0.7], 20):
        t_dw, t_dy, importance = random.random((3, tensors))
        start = time.perf_counter()
        select(t_dw, t_dy, importance, rho * (t_dw.sum() + t_dy.sum()), resolution)
        taken.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(taken)), 2)
