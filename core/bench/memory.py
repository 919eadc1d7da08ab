"""Step time and peak memory under each scheme: elastic at ρ = 0.4 beside full, BN+Bias, head.

Run in both environments; the two JSON files have the same keys, so PyTorch and TensorFlow stand
side by side.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from core import PROJECT
from core.bench import Report
from core.bench.memory_side import RHO, STEPS
from core.bench.tasks import SETTINGS


def run() -> Report:
    """For each model and scheme: seconds of a step, peak memory, and both as ratios to full."""
    figures: dict[str, Any] = {}
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in tqdm(SETTINGS, unit="model", disable=None):
            figures[setting] = found = measure(setting, Path(folder))
            limits[f"{setting}/peak_over_full/elastic"] = 1.05
            limits[f"{setting}/step_over_full/elastic"] = round(1.1 * found["elastic_rho"], 3)
    notes = [
        "step_s: median of a step, forward_s: of the forward passes between its repeats. "
        "step_over_full: of two steps, each over its own forward passes, so that a machine that "
        "slows down cancels out",
        "peak_mib: highest resident memory of a fresh process during its first "
        f"{STEPS} steps under the selection, compilation included. above_built_mib: the same less "
        "what was resident with the network built and nothing selected: activations, gradients, "
        "the optimiser's slots, the framework's own work space. elastic_with_probe: the same after "
        "a probe of the importance of all tensors in that process",
        f"elastic_rho: {RHO}, or the next tenth above smallest_rho, which is the least that leaves "
        "time for a tensor on this machine",
    ]
    return Report(figures, limits, notes)


def measure(setting: str, folder: Path) -> dict[str, Any]:
    """Times in one process, so that they can be compared; memory in one for each scheme."""
    times = _side(folder, "times", setting)
    elastic = times["masks"]["elastic"]
    masks = tqdm(times.pop("masks").items(), setting, unit="scheme", leave=False, disable=None)
    memory = {scheme: _side(folder, "peak", setting, json.dumps(mask)) for scheme, mask in masks}
    # A run asks for the importance of all tensors before it selects, and again at every interval.
    chosen = json.dumps(elastic)
    memory["elastic_with_probe"] = _side(folder, "peak_with_probe", setting, chosen)
    return times | compare(times["step_s"], times["forward_s"], memory)


def compare(
    steps: Mapping[str, float],
    forwards: Mapping[str, float],
    memory: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Ratios to full training, and elastic to BN+Bias. By scheme: seconds of steps and of the
    forward passes beside them; peak and above_built in MiB."""
    corrected = {scheme: step / forwards[scheme] for scheme, step in steps.items()}
    peaks = {scheme: found["peak"] for scheme, found in memory.items()}
    return {
        "step_over_full": _ratios(corrected, "full"),
        "elastic_step_over_bn_bias": _ratios(corrected, "bn_bias").get("elastic"),
        "peak_mib": peaks,
        "above_built_mib": {scheme: found["above_built"] for scheme, found in memory.items()},
        "peak_over_full": _ratios(peaks, "full"),
        "elastic_peak_over_bn_bias": _ratios(peaks, "bn_bias").get("elastic"),
    }


def _ratios(values: Mapping[str, float], base: str) -> dict[str, float]:
    return {name: round(value / values[base], 3) for name, value in values.items()}


def _side(folder: Path, *words: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    out = folder / "side.json"
    command = [sys.executable, "-m", "core.bench.memory_side", str(out), *words]
    subprocess.run(command, check=True, cwd=PROJECT)
    found: dict[str, Any] = json.loads(out.read_text())
    return found
