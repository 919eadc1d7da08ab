"""What snapshots cost, as a share of training time at the default interval."""

import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import Task, make_task
from core.frameworks import installed
from core.training.snapshot import Snapshot, Snapshots

# Steps of an epoch and minutes between snapshots, as config/config.yaml and paper.yaml have them.
STEPS = {"efficientnet_lite0 at 96, batch 32": 61, "resnet50 at 112, batch 4": 1498}
MINUTES, SAVES = 10, 5


def run() -> Report:
    """Seconds to take the state, write, load; the share of an epoch of full training."""
    figures, limits = {}, {}
    for name, steps in tqdm(STEPS.items(), unit="model", disable=None):
        figures[name] = _figures(make_task(installed(), name), steps)
        limits[f"{name}/overhead"] = 0.01
    return Report(figures, limits)


def _figures(task: Task, steps: int) -> dict[str, float]:
    task.backend.train_step(task.images, task.labels, 0)
    taken = []
    with tempfile.TemporaryDirectory(dir=".") as folder:  # where results would be, not in memory
        snapshots = Snapshots(Path(folder), "bench")
        for step in range(SAVES):
            start = time.perf_counter()
            snapshots.save(step, Snapshot(task.backend.state(), {}))
            taken.append(time.perf_counter() - start)
        size = max(f.stat().st_size for f in Path(folder).iterdir())
        start = time.perf_counter()
        snapshots.load()
        load = time.perf_counter() - start
    epoch = steps * task.timing.full
    saves = 1 + int(epoch / (60 * MINUTES))
    return {
        "save_s": round(float(np.median(taken)), 3),
        "load_s": round(load, 3),
        "mib": round(size / 2**20, 1),
        "saves_per_epoch": saves,
        "epoch_s": round(epoch, 1),
        "overhead": round(saves * float(np.median(taken)) / epoch, 4),
    }
