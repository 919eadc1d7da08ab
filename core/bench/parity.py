"""Do TensorFlow and PyTorch train the same? Same weights, batches and order, no augmentation."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from core.bench import Report
from core.bench.parity_side import STEPS
from core.elastic.selector import Floats
from core.frameworks import FRAMEWORKS

PROJECT = Path(__file__).parents[2]


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
    notes = [f"{STEPS} steps of full training with each optimiser; relative differences of losses"]
    return Report(figures, limits, notes)


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The largest differences between two sides."""
    losses = {
        name: float(np.max(np.abs(np.array(other["losses"][name]) / losses - 1)))
        for name, losses in one["losses"].items()
    }
    ranks = {
        name: spearman(np.array(values), np.array(other["importance"][name]))
        for name, values in one["importance"].items()
    }
    return {
        "loss_difference": max(losses.values()),
        "loss_difference_by_optimiser": losses,
        "one_minus_spearman": 1 - min(ranks.values()),
        "spearman_by_metric": ranks,
        "selections_that_differ": sum(
            a != b for a, b in zip(one["selections"], other["selections"], strict=True)
        ),
        "selected": [len(chosen) for chosen in one["selections"]],
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
