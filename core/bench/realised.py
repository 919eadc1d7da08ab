"""Does a step under the selector's choice take the share ρ of the full step that was asked for, as
selected by the profile alone, and as corrected by what the step takes?"""

from functools import partial

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import SETTINGS, Task, make_task
from core.elastic import correcting
from core.elastic.budget import backward_budget, smallest_rho
from core.elastic.selector import Floats, Mask, select
from core.frameworks import installed

BUDGETS = (0.4, 0.5, 0.7)
ROUNDS = 3
CORRECTIONS = 2


def run() -> Report:
    """The measured share for each model and ρ, and how far it is from ρ. A ρ that leaves no time
    for any tensor, as where the forward pass takes most of a step, has no limit to keep."""
    figures: dict[str, object] = {}
    limits: dict[str, float] = {}
    for name in tqdm(SETTINGS, unit="model", disable=None):
        figures[name] = found = shares(make_task(installed(), name))
        feasible = [rho for rho in BUDGETS if "deviation" in found[str(rho)]]  # type: ignore[operator]
        for rho in feasible:
            limits |= {f"{name}/{rho}/{part}deviation": 0.1 for part in ("", "corrected_")}
    return Report(figures, limits)


def shares(task: Task) -> dict[str, object]:
    """For each ρ the measured and the predicted share, or that it is infeasible."""
    timing = task.timing
    importance = task.importance()
    masks = {
        rho: _choose(task, importance, backward_budget(timing, rho, "measured")) for rho in BUDGETS
    }
    tried = {rho: _attempts(task, importance, rho) for rho, mask in masks.items() if mask.any()}
    kept = {rho: correcting.nearest(found, rho).mask for rho, found in tried.items()}
    ratios = _ratios(task, [*(masks[rho] for rho in kept), *kept.values()])
    figures: dict[str, object] = {
        "forward_share": round(timing.forward / timing.full, 3),
        "smallest_rho": round(smallest_rho(timing, "measured", "realisable"), 3),
    }
    for rho in BUDGETS:
        if rho not in kept:
            figures[str(rho)] = {"infeasible": True}
            continue
        place = list(kept).index(rho)
        corrected = _figures(task, rho, kept[rho], ratios[len(kept) + place])
        figures[str(rho)] = {
            **_figures(task, rho, masks[rho], ratios[place]),
            "attempts": [round(each.share, 3) for each in tried[rho]],
            **{f"corrected_{name}": value for name, value in corrected.items()},
        }
    return figures


def _figures(task: Task, rho: float, mask: Mask, ratios: list[float]) -> dict[str, object]:
    ratio = float(np.median(ratios))
    return {
        "ratio": round(ratio, 3),
        "rounds": [round(each, 3) for each in ratios],
        "deviation": round(abs(ratio / rho - 1), 3),
        "predicted": round(task.timing.predict(mask) / task.timing.full, 3),
        "tensors": int(mask.sum()),
    }


def _choose(task: Task, importance: Floats, budget: float) -> Mask:
    return select(task.timing.t_dw, task.timing.t_dy("realisable"), importance, budget)


def _attempts(task: Task, importance: Floats, rho: float) -> list[correcting.Attempt]:
    """As a run corrects its selections."""

    def share(mask: Mask) -> tuple[float, float]:
        task.backend.select(mask)
        taken = task.backend.time_step(task.images, task.labels, correcting.REPEATS)
        return correcting.step_share(task.timing, *taken)

    choose = partial(_choose, task, importance)
    return correcting.attempts(choose, share, task.timing, rho, "realisable", CORRECTIONS)


def _ratios(task: Task, masks: list[Mask]) -> list[list[float]]:
    """Step under each mask over the full step, once a round. The full step is measured in every
    round, so that both see the machine as it is then."""
    everything = np.ones(len(task.timing.tensors), dtype=bool)
    ratios: list[list[float]] = [[] for _ in masks]
    for _ in range(ROUNDS):
        full, slowdown = task.measure(everything)
        for mask, found in zip(masks, ratios, strict=True):
            step, now = task.measure(mask)
            found.append((step / now) / (full / slowdown))
    return ratios
