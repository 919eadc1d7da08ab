"""Do TensorFlow and PyTorch train the same? Same weights, batches and order, no augmentation."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from core import PROJECT
from core.bench import Report
from core.bench.parity_side import ROUNDING, STEPS
from core.elastic.selector import Floats
from core.frameworks import FRAMEWORKS


def run() -> Report:
    """Losses, importance and selections of one framework against the other's."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: _side(name, Path(folder)) for name in FRAMEWORKS}
    figures = compare(sides["tensorflow"], sides["torch"])
    limits = {
        "loss_difference": 1e-3,
        "one_minus_spearman": 0.01,
        "selections_that_differ": 0,
    }
    notes = [
        f"{STEPS} steps of full training with each optimiser; relative differences of losses. "
        "rounding_alone: of one framework's losses against its own from weights that differ by "
        f"{ROUNDING:g}: two frameworks that add up in different orders can hardly be closer"
    ]
    return Report(figures, limits, notes)


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The largest differences between two sides."""
    losses = _differences(one["losses"], other["losses"])
    alone = [_differences(side["losses"], side["nudged"]) for side in (one, other)]
    ranks = {
        name: spearman(np.array(values), np.array(other["importance"][name]))
        for name, values in one["importance"].items()
    }
    return {
        "loss_difference": max(losses.values()),
        "loss_difference_by_optimiser": losses,
        "loss_difference_of_rounding_alone": {
            name: max(differences[name] for differences in alone) for name in losses
        },
        "loss_fell_to": {name: min(values) / values[0] for name, values in one["losses"].items()},
        "one_minus_spearman": 1 - min(ranks.values()),
        "spearman_by_metric": ranks,
        "selections_that_differ": sum(
            a != b for a, b in zip(one["selections"], other["selections"], strict=True)
        ),
        "selected": [len(chosen) for chosen in one["selections"]],
    }


def _differences(one: dict[str, list[float]], other: dict[str, list[float]]) -> dict[str, float]:
    """The largest relative difference of two courses of the loss, by optimiser."""
    return {
        name: float(np.max(np.abs(np.array(other[name]) / np.array(values) - 1)))
        for name, values in one.items()
    }


def spearman(one: Floats, other: Floats) -> float:
    """Correlation of ranks; no two values are equal."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    table: Floats = np.corrcoef(np.array(ranks))
    return float(table[0, 1])


def _side(framework: str, folder: Path) -> dict[str, Any]:
    """Computed in the framework's own environment, as the launcher makes it."""
    out = folder / f"{framework}.json"
    command = [str(PROJECT / "envs/run"), FRAMEWORKS[framework].environment, "python"]
    subprocess.run([*command, "-m", "core.bench.parity_side", framework, str(out)], check=True)
    side: dict[str, Any] = json.loads(out.read_text())
    return side
