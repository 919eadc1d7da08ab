"""How long Snakemake takes: the whole demo, again when all is done, and planning at paper scale."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from core import PROJECT
from core.bench import Report
from core.elastic.trainer import trained_seconds
from core.figures.results import read_run

TARGET = "figures/fig15a.pdf"


def run() -> Report:
    """Runs the demo from nothing, downloads included, in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=PROJECT / "results") as folder:
        demo = _seconds(folder, TARGET)
        again = _seconds(folder, TARGET)
        plans = _paper_plans(folder)
        shares = _overhead_shares(Path(folder))
    figures = {
        "demo_s": demo,
        "again_s": again,
        "slowest_plan_s": max(plans.values()),
        "plans_s": plans,
        **shares,
    }
    limits = {"demo_s": 420.0, "again_s": 5.0, "slowest_plan_s": 5.0, "overhead_share": 0.02}
    notes = [
        "overhead_share: profiling, importance with selector, and compiling each selection, over "
        "the training time of the elastic run. They take the same seconds in a run of hours; the "
        "demo trains for about a minute, which is too short for the limit."
    ]
    return Report(figures, limits, notes)


def _seconds(folder: str, *words: str) -> float:
    """Wall seconds of a Snakemake call in a folder; its messages pass through."""
    command = ["snakemake", *words, "--cores", "1", "--snakefile", str(PROJECT / "Snakefile")]
    command += ["--directory", folder, "--workflow-profile", str(PROJECT / "profiles/default")]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return round(time.perf_counter() - start, 1)


def _paper_plans(folder: str) -> dict[str, float]:
    paper = ["--configfile", str(PROJECT / "config/paper.yaml"), "--dry-run", "--quiet"]
    figures = [f"fig15{part}{ego}" for part in "abcdef" for ego in ("", "_ego")]
    return {name: _seconds(folder, f"figures/{name}.pdf", *paper) for name in figures}


def _overhead_shares(folder: Path) -> dict[str, float]:
    elastic = next(folder.glob("results/demo/*/*/*/elastic-*/result.json")).parent
    epochs = read_run(elastic).epochs
    rows = epochs.to_dict("records")
    total = sum(trained_seconds(row) for row in rows)
    selection, compiling = (float(epochs[f"{part}_s"].sum()) for part in ("selection", "compile"))
    profile = json.loads(next(folder.glob("results/demo/*/*/profiles/*.json")).read_text())
    parts = {
        "selection": selection,
        "compiling": compiling,
        "profiling": profile["context"]["taken_s"],
    }
    return {f"{name}_share": round(seconds / total, 4) for name, seconds in parts.items()} | {
        "overhead_share": round(sum(parts.values()) / total, 4),
        "elastic_training_s": round(total, 1),
    }
