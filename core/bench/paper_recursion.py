"""The paper's dynamic program for choosing tensors against ours: what it reaches, and its time."""

import time
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from core import PROJECT
from core.bench import Report
from core.bench.selector import brute_force, spent
from core.elastic.selector import Floats, Mask, select
from core.elastic.timing import Timing
from core.errors import DataError

CASES, SMALL = 1_000, 8
RHOS, RESOLUTION = (0.3, 0.5, 0.7), 1_000  # of the backward pass; time steps in all of it
NORMS = 53  # of ResNet50: kernel, bias, gamma, beta of each, and the prediction layer: 214 tensors

Steps = NDArray[np.int64]


def run() -> Report:
    """Small random cases against brute force; ResNet50's size, and a profile if there is one."""
    random = np.random.default_rng(0)
    networks = {"random_214": resnet50_like(random)}
    profiles = _profiles()
    for timing in profiles[:1]:
        networks["profile"] = (timing.t_dw, timing.t_dy("paper"))
    figures: dict[str, object] = {"small": _small(random)}
    for name, (t_dw, t_dy) in networks.items():
        figures[name] = against_ours(t_dw, t_dy, random.random(len(t_dw)))
    notes = [
        "importance_ratio: of the paper's recursion over ours, the same whole steps for both "
        "(times rounded up); importance_ratio_rounding_down: times rounded down, as the released "
        "program does, with the budget as a share of what is left, against ours within the real "
        "budget. spent_of_budget: real seconds of the latter, which may exceed the budget",
        "both recursions are vectorised over time steps; the paper's takes N²/2 vector operations",
        f"profile: {_origin(profiles[0]) if profiles else 'none measured yet'}",
    ]
    limits = {"small/ours_wrong": 0.0}
    for name in networks:
        for rho in RHOS:
            limits |= {f"{name}/{rho}/importance_ratio": 1.0, f"{name}/{rho}/seconds_ratio": 1.0}
    return Report(figures, limits, notes)


def _profiles() -> list[Timing]:
    """Timing profiles that the pipeline left here; not those of an older format."""
    found = []
    for path in sorted(PROJECT.glob("results/*/*/*/profiles/*-*.json")):
        with suppress(DataError):
            found.append(Timing.load(path))
    return found


def _origin(timing: Timing) -> str:
    parts = ("model", "framework", "image_size", "batch")
    return ", ".join(f"{part} {timing.context[part]}" for part in parts)


def paper_selection(t_dw: Steps, t_dy: Steps, importance: Floats, budget: int) -> Mask:
    """The recursion of section 5, from its description.

    From the output to the input, P[k, t] is the most importance of the tensors seen so far within
    t steps. Not selecting k inherits P[k−1, t]. Selecting it adds I_k to P[k', t − Δt] of the
    tensor k' that was selected before it, where Δt is t_dw of k and t_dy of every tensor after
    k' up to k. Only one answer is kept for each (k', t), so k' counts as selected where it is the
    deepest tensor of that answer: where leaving it out was better, going on from it is lost. That
    is why it is not always optimal.

    All in whole time steps, arrays of shape (N,) from the input to the output.
    """
    n = len(t_dw)
    own, gain = t_dw[::-1], importance[::-1]
    reach = np.concatenate([[0], np.cumsum(t_dy[::-1])])
    best = np.zeros((n + 1, budget + 1))
    deepest, before = (np.zeros((n + 1, budget + 1), np.int64) for _ in range(2))
    for k in range(1, n + 1):
        best[k], deepest[k] = best[k - 1], deepest[k - 1]
        for previous in range(k):
            cost = own[k - 1] + reach[k] - reach[previous]
            if cost > budget:
                continue
            value = best[previous, : budget + 1 - cost] + gain[k - 1]
            selected = deepest[previous, : budget + 1 - cost] == previous
            better = selected & (value > best[k, cost:])
            np.copyto(best[k, cost:], value, where=better)
            deepest[k, cost:][better], before[k, cost:][better] = k, previous
    return _walk_back(own, reach, deepest, before)


def _walk_back(own: Steps, reach: Steps, deepest: Steps, before: Steps) -> Mask:
    mask = np.zeros(len(own), dtype=bool)
    left = deepest.shape[1] - 1
    k = int(deepest[-1, left])
    while k:
        mask[-k] = True
        previous = int(before[k, left])
        left -= own[k - 1] + reach[k] - reach[previous]
        k = previous
    return mask


def against_ours(t_dw: Floats, t_dy: Floats, importance: Floats) -> dict[str, object]:
    """Importance and seconds of both for every budget. Times in seconds, shape (N,)."""
    whole = float(t_dw.sum() + t_dy.sum())
    dw, dy = t_dw * (RESOLUTION / whole), t_dy * (RESOLUTION / whole)
    found: dict[str, object] = {"tensors": len(t_dw)}
    for rho in tqdm(RHOS, unit="budget", disable=None):
        steps = int(rho * RESOLUTION)
        start = time.perf_counter()
        theirs = paper_selection(_up(dw), _up(dy), importance, steps)
        middle = time.perf_counter()
        ours = select(_up(dw), _up(dy), importance, steps, steps)
        end = time.perf_counter()
        left = int(rho * (_down(dw).sum() + _down(dy).sum()))
        released = paper_selection(_down(dw), _down(dy), importance, left)
        fine = select(t_dw, t_dy, importance, rho * whole)
        found[str(rho)] = {
            "importance_ratio": _ratio(importance, theirs, ours),
            "importance_ratio_rounding_down": _ratio(importance, released, fine),
            "spent_of_budget": round(spent(released, t_dw, t_dy, False) / (rho * whole), 4),
            "spent_of_budget_ours": round(spent(fine, t_dw, t_dy, False) / (rho * whole), 4),
            "paper_s": round(middle - start, 4),
            "ours_s": round(end - middle, 4),
            "seconds_ratio": round((end - middle) / (middle - start), 4),
        }
    return found


def _up(steps: Floats) -> Steps:
    return np.ceil(steps).astype(np.int64)


def _down(steps: Floats) -> Steps:
    return np.floor(steps).astype(np.int64)


def _ratio(importance: Floats, one: Mask, other: Mask) -> float:
    return round(float(importance[one].sum() / importance[other].sum()), 4)


def _small(random: np.random.Generator) -> dict[str, object]:
    """How often each misses the best of all masks. Whole steps, so nothing is rounded."""
    lost, ours = [], 0
    for _ in tqdm(range(CASES), unit="case", disable=None):
        t_dw, t_dy = random.integers(0, 10, (2, SMALL))
        importance = random.random(SMALL)
        budget = int(random.uniform(0.2, 0.8) * (t_dw.sum() + t_dy.sum()))
        best = brute_force(t_dw, t_dy, importance, budget, realisable=False)
        theirs = paper_selection(t_dw, t_dy, importance, budget)
        if not np.isclose(importance[theirs].sum(), best):
            lost.append(1 - importance[theirs].sum() / best)
        mine = select(t_dw, t_dy, importance, budget, max(budget, 1))
        ours += not np.isclose(importance[mine].sum(), best)
    return {
        "cases": CASES,
        "tensors": SMALL,
        "paper_wrong": len(lost) / CASES,
        "paper_worst_loss": round(float(max(lost, default=0.0)), 3),
        "ours_wrong": ours / CASES,
    }


def resnet50_like(random: np.random.Generator) -> tuple[Floats, Floats]:
    """t_dw and t_dy of 214 tensors, charged as the paper does: a bias costs its gradient, gamma
    nothing, beta the whole normalisation's error."""
    kernels = random.lognormal(0, 0.7, (2, NORMS + 1))
    small = random.uniform(0.02, 0.1, (2, NORMS + 1))
    t_dw, t_dy = np.zeros((2, NORMS, 4))
    t_dw[:, 0], t_dy[:, 0] = kernels[:, :NORMS]
    t_dw[:, 1], t_dy[:, 3] = small[0, :NORMS], 3 * small[1, :NORMS]
    head = [[kernels[0, -1] / 10, small[0, -1]], [kernels[1, -1] / 10, 0]]
    return np.append(t_dw.ravel(), head[0]), np.append(t_dy.ravel(), head[1])
