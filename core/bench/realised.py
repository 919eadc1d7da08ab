"""Does a step under the selector's choice take the share ρ of the full step that was asked for?"""

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import SETTINGS, Task, make_task
from core.elastic.budget import backward_budget, smallest_rho
from core.elastic.selector import Mask, select
from core.frameworks import installed

BUDGETS = (0.4, 0.5, 0.7)
ROUNDS = 3


def run() -> Report:
    """The measured share for each model and ρ, and how far it is from ρ. A ρ that leaves no time
    for any tensor, as where the forward pass takes most of a step, has no limit to keep."""
    figures: dict[str, object] = {}
    limits: dict[str, float] = {}
    for name in tqdm(SETTINGS, unit="model", disable=None):
        figures[name] = found = shares(make_task(installed(), name))
        feasible = [rho for rho in BUDGETS if "deviation" in found[str(rho)]]  # type: ignore[operator]
        limits |= {f"{name}/{rho}/deviation": 0.1 for rho in feasible}
    return Report(figures, limits)


def shares(task: Task) -> dict[str, object]:
    """For each ρ the measured and the predicted share, or that it is infeasible."""
    timing, t_dy = task.timing, task.timing.t_dy("realisable")
    # Of random weights half the tensors would raise the loss and are never selected, so that a
    # large budget could not be spent. The question here is what a spent budget takes.
    importance = np.abs(task.backend.probe(task.images, task.labels, 0))
    masks = {
        rho: select(timing.t_dw, t_dy, importance, backward_budget(timing, rho, "measured"))
        for rho in BUDGETS
    }
    ratios = _ratios(task, {rho: mask for rho, mask in masks.items() if mask.any()})
    figures: dict[str, object] = {
        "forward_share": round(timing.forward / timing.full, 3),
        "smallest_rho": round(smallest_rho(timing, "measured", "realisable"), 3),
    }
    for rho, mask in masks.items():
        if rho not in ratios:
            figures[str(rho)] = {"infeasible": True}
            continue
        ratio = float(np.median(ratios[rho]))
        figures[str(rho)] = {
            "ratio": round(ratio, 3),
            "rounds": [round(each, 3) for each in ratios[rho]],
            "deviation": round(abs(ratio / rho - 1), 3),
            "predicted": round(timing.predict(mask) / timing.full, 3),
            "tensors": int(mask.sum()),
        }
    return figures


def _ratios(task: Task, masks: dict[float, Mask]) -> dict[float, list[float]]:
    """Step under each mask over the full step, once a round. The full step is measured in every
    round, so that both see the machine as it is then."""
    everything = np.ones(len(task.timing.tensors), dtype=bool)
    ratios: dict[float, list[float]] = {rho: [] for rho in masks}
    for _ in range(ROUNDS):
        full, slowdown = task.measure(everything)
        for rho, mask in masks.items():
            step, now = task.measure(mask)
            ratios[rho].append((step / now) / (full / slowdown))
    return ratios
