"""Whole steps on the clock, the same for every backend, and profiles that close."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from core.elastic.backend import Backend, Images, Labels
from core.elastic.selector import Floats
from core.elastic.timing import Parts, Timing
from core.errors import DeviceError

log = logging.getLogger(__name__)

WARM_UP = 2

# A profile is measured again when its parts miss the measured backward pass by more than this.
CLOSES, ATTEMPTS = 0.1, 3

Stopwatch = Callable[[Callable[[], object]], float]


def wall_clock(run: Callable[[], object]) -> float:
    """Seconds of a run that returns when its result is there."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(
    runs: Sequence[Callable[[], object]], repeats: int, stopwatch: Stopwatch = wall_clock
) -> list[list[float]]:
    """Seconds of each repeat of each run, after warm-up. They take turns, so that a machine that
    slows down meanwhile slows all of them alike."""
    taken: list[list[float]] = [[] for _ in runs]
    turns = tqdm(range(WARM_UP + repeats), "timing", unit="step", leave=False, disable=None)
    for repeat in turns:
        for run, seconds in zip(runs, taken, strict=True):
            time_taken = stopwatch(run)
            if repeat >= WARM_UP:
                seconds.append(time_taken)
    return taken


def parts_of(
    steps: Sequence[float], forwards: Sequence[float], dw: Floats, reach: Floats, through: Floats
) -> Parts:
    """The parts of a full step beside the repeats of the whole step and of the forward pass."""
    low, middle, high = np.percentile(steps, [25, 50, 75])
    return Parts(dw, reach, through, float(np.median(forwards)), middle, (high - low) / middle)


def closed_timing(
    backend: Backend, images: Images, labels: Labels, repeats: int, context: dict[str, Any]
) -> Timing:
    """Measure until the parts agree with the whole; of what a busy machine gives, the best.

    Raises DeviceError when no measurement made sense.
    """
    timings: list[Timing] = []
    for attempt in range(ATTEMPTS):
        parts = backend.time_parts(images, labels, repeats)
        try:
            timings.append(Timing.from_parts(backend.tensors, parts, context))
        except DeviceError as error:
            if attempt == ATTEMPTS - 1 and not timings:
                raise
            log.info("%s", error)
            continue
        if timings[-1].closure <= CLOSES:
            return timings[-1]
        log.info("parts miss the backward pass by %.1f %%", 100 * timings[-1].closure)
    best = min(timings, key=lambda timing: timing.closure)
    log.warning(
        "the timing profile does not close within %.0f %%: something else keeps this device busy; "
        "delete the profile and measure again when it is quiet", 100 * CLOSES,
    )  # fmt: skip
    return best
