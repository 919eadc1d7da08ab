"""What sampling costs a training run: a real training loop of PyTorch with and without it, in
turns, and the processor time of the sampling thread itself."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import batch_for, make_backend
from core.elastic.backend import Backend, Images, Labels
from core.measure import meters
from core.measure.host import Host
from core.measure.meters import SYS
from core.measure.sampler import Sampler
from core.measure.settings import defaults
from core.measure.trace import Trace

MODEL, SIZE, BATCH = "efficientnet_lite0", 96, 32
PAIRS, STEPS, WARM_UP = 60, 2, 6
LIMIT = 0.01


def run() -> Report:
    """Ratios of blocks with and without sampling at the default interval, by the clock and by the
    processor time of the whole process; processor seconds of the thread per second."""
    backend = make_backend("torch", MODEL, SIZE, BATCH)
    backend.select(np.ones(len(backend.tensors), dtype=bool))
    images, labels = batch_for(SIZE, BATCH)
    _train(backend, images, labels, WARM_UP)
    interval = defaults()["interval_s"]
    found = meters.find()
    figures: dict[str, Any] = {
        "interval_s": interval,
        "meter": found.meter.title if found.meter else None,
        **_compare(backend, images, labels, interval),
    }
    limits = dict.fromkeys(("overhead", "processor_share"), LIMIT)
    notes = [
        f"{MODEL} at {SIZE}, batch {BATCH}, all tensors: {PAIRS} pairs of blocks of {STEPS} steps, "
        "with and without, in changing order",
        "overhead: median over the pairs of the time with sampling over that without, less 1; "
        "processor_overhead: the same of the processor time of the whole process; spread: half the "
        "distance of the quartiles over the root of the number of pairs. On a machine that does "
        "other things as well, the spread is larger than what is looked for",
        "processor_share: processor time of the sampling thread over time: what it takes at most "
        "from a core. It does not depend on what else the machine does",
        *([] if found.meter else [f"without a meter: {found.why}"]),
    ]
    return Report(figures, limits, notes)


def _compare(backend: Backend, images: Images, labels: Labels, interval: float) -> dict[str, float]:
    ratios, spent, sampled, samples = [], 0.0, 0.0, 0
    for pair in tqdm(range(PAIRS), unit="pair", disable=None):
        taken = {}
        for sampling in (pair % 2 == 0, pair % 2 == 1):
            with tempfile.TemporaryDirectory(dir=".") as folder:  # where results would be
                sampler = _sampler(Path(folder), interval) if sampling else None
                taken[sampling] = _train(backend, images, labels, STEPS)
                if sampler is not None:
                    sampler.stop()
                    spent += sampler.cpu_s
                    sampled += taken[sampling][0]
                    samples += sampler.samples
        ratios.append(taken[True] / taken[False])
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75), axis=0)
    wall, processor = (high - low) / 2 / PAIRS**0.5
    return {
        "overhead": round(float(median[0]) - 1, 5),
        "spread": round(float(wall), 5),
        "processor_overhead": round(float(median[1]) - 1, 5),
        "processor_spread": round(float(processor), 5),
        "processor_share": round(spent / sampled, 5),
        "samples": samples,
    }


def _sampler(folder: Path, interval: float) -> Sampler:
    sampler = Sampler(Trace(folder / "trace.csv"), meters.find().meter, Host(SYS), interval)
    sampler.start()
    sampler.begin(0)
    return sampler


def _train(backend: Backend, images: Images, labels: Labels, steps: int) -> NDArray[np.float64]:
    """Seconds and processor seconds of a loop as the trainer has it: one step after the other."""
    start = np.array([time.perf_counter(), time.process_time()])
    for step in range(steps):
        backend.train_step(images, labels, step)
    end = np.array([time.perf_counter(), time.process_time()])
    taken: NDArray[np.float64] = end - start
    return taken
