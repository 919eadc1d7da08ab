"""One measurement of core/bench/memory.py in a process of its own: memory that a process has had
once does not all go back, so two selections in one process cannot be compared."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from core.bench.tasks import SETTINGS, Task, batch_for, make_backend, make_task
from core.elastic.budget import backward_budget, smallest_rho
from core.elastic.schemes import SCHEMES
from core.elastic.selector import Mask, select
from core.files import write_text
from core.frameworks import installed

RHO = 0.4  # of the published comparison of models (Figure 19)
STEPS = 3
BASELINES = ("full", "bn_bias", "head")


def times(setting: str) -> dict[str, Any]:
    """Seconds of a step under each scheme and of the forward passes beside it, and the masks."""
    task = make_task(installed(), setting)
    smallest = smallest_rho(task.timing, "measured", "realisable")
    rho = feasible(smallest)
    masks = _masks(task, rho)
    taken = {scheme: task.measure(mask) for scheme, mask in masks.items()}
    forward = task.timing.forward
    return {
        "elastic_rho": rho,
        "smallest_rho": round(smallest, 3),
        "step_s": {scheme: round(step, 4) for scheme, (step, _) in taken.items()},
        "forward_s": {scheme: round(slow * forward, 4) for scheme, (_, slow) in taken.items()},
        "selected": {scheme: int(mask.sum()) for scheme, mask in masks.items()},
        "masks": {scheme: np.flatnonzero(mask).tolist() for scheme, mask in masks.items()},
    }


def feasible(smallest: float) -> float:
    """RHO, or the next tenth above the smallest ρ where the forward pass takes too much for it.
    Selected times are rounded up, hence a hundredth more."""
    return max(RHO, math.ceil(10 * smallest + 0.1) / 10)


def _masks(task: Task, rho: float) -> dict[str, Mask]:
    """What each scheme trains."""
    timing = task.timing
    baselines = {name: SCHEMES[name].trains for name in BASELINES}
    masks = {name: np.array(trains(timing.tensors)) for name, trains in baselines.items() if trains}
    budget = backward_budget(timing, rho, "measured")
    chosen = select(timing.t_dw, timing.t_dy("realisable"), task.importance(), budget)
    return masks | {"elastic": chosen}


def peak(setting: str, chosen: list[int], probe: bool) -> dict[str, Any]:
    """MiB at the highest of the first steps under a selection, and above what was there before.
    probe: ask for the importance of all tensors first, as a run of ElasticTrainer does."""
    model, size, batch = SETTINGS[setting]
    backend = make_backend(installed(), model, size, batch)
    mask = np.isin(np.arange(len(backend.tensors)), chosen)
    images, labels = batch_for(size, batch)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on (proc(5))
    built = _resident("VmRSS")
    if probe:
        backend.probe(images, labels, 0)
    backend.select(mask)
    for step in range(STEPS):
        backend.train_step(images, labels, step)
    highest = _resident("VmHWM")
    return {"peak": round(highest, 1), "above_built": round(highest - built, 1)}


def _resident(key: str) -> float:
    """Resident memory of this process in MiB: now (VmRSS) or at its highest (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main() -> None:
    """Write one measurement as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=("times", "peak", "peak_with_probe"))
    parser.add_argument("setting")
    parser.add_argument("mask", type=json.loads, nargs="?")
    args = parser.parse_args()
    if args.what == "times":
        found: dict[str, Any] = times(args.setting)
    else:
        found = peak(args.setting, args.mask, probe=args.what == "peak_with_probe")
    write_text(args.out, json.dumps(found))


if __name__ == "__main__":
    main()
