"""Does the timing profile close, and does it predict the step under selections never profiled?"""

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import SETTINGS, Task, make_task
from core.elastic.selector import Mask
from core.frameworks import installed

SELECTIONS = 20


def run() -> Report:
    """Closure and mean absolute prediction error for both readings of t_dy."""
    figures: dict[str, object] = {}
    limits: dict[str, float] = {}
    for name in SETTINGS:
        figures[name] = _figures(make_task(installed(), name))
        limits |= {f"{name}/closure": 0.1, f"{name}/prediction_error": 0.1}
    return Report(figures, limits)


def _figures(task: Task) -> dict[str, float]:
    random = np.random.default_rng(1)
    errors: dict[str, list[float]] = {"realisable": [], "paper": []}
    for _ in tqdm(range(SELECTIONS), unit="selection", disable=None):
        mask = _random_mask(random, len(task.timing.tensors))
        step, slowdown = task.measure(mask)
        for cost, found in errors.items():
            predicted = task.timing.predict(mask, cost) * slowdown  # type: ignore[arg-type]
            found.append(abs(predicted / step - 1))
    return {
        "tensors": len(task.timing.tensors),
        "full_step_s": round(task.timing.full, 4),
        "forward_share": round(task.timing.forward / task.timing.full, 3),
        "spread": round(task.timing.spread, 3),
        "closure": round(task.timing.closure, 3),
        "prediction_error": round(float(np.mean(errors["realisable"])), 3),
        "prediction_error_paper_cost": round(float(np.mean(errors["paper"])), 3),
        "worst_prediction_error": round(max(errors["realisable"]), 3),
    }


def _random_mask(random: np.random.Generator, tensors: int) -> Mask:
    """Any depth, any density; the deepest tensor is always selected."""
    depth = int(random.integers(0, tensors))
    mask = np.arange(tensors) >= depth
    mask &= random.random(tensors) < random.uniform(0.05, 1)
    mask[depth] = True
    return mask
