"""How fast everything is planned, and how far plans were from what runs took."""

import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from core import PROJECT
from core.bench import Report
from core.planning.plan import errors, recorded

REPEATS = 3


def run() -> Report:
    """Seconds of `core plan` and of Snakemake's own plan of every figure and every run with three
    seeds, at paper scale; errors of the estimates that are kept in results/plan.json."""
    paper = ["--configfile", str(PROJECT / "config/paper.yaml"), "--config", "device=published"]
    plan = [sys.executable, "-m", "core", "plan"]
    figures: dict[str, Any] = {
        "plan_all_s": _best([*plan, "--all", *paper], REPEATS),
        "plan_campaign_s": _best([*plan, "campaign", *paper], REPEATS),
        "campaign_dag_s": _best([*_dag("campaign"), *paper], REPEATS),
    }
    found = [abs(planned / taken - 1) for planned, taken, _ in errors(recorded()).values()]
    figures["planned_runs"] = len(found)
    limits = {"plan_all_s": 3.0, "campaign_dag_s": 10.0}
    if found:
        figures["median_error"] = round(median(found), 3)
        limits["median_error"] = 0.15
    notes = [
        "in an empty folder, the fastest of three; campaign_dag_s: `snakemake campaign -n`. "
        "median_error: of runs that were planned before they began and have finished here"
    ]
    return Report(figures, limits, notes)


def _dag(target: str) -> list[str]:
    command = ["snakemake", target, "-n", "--quiet", "--cores", "1"]
    command += ["--snakefile", str(PROJECT / "Snakefile")]
    return [*command, "--workflow-profile", str(PROJECT / "profiles/default")]


def _best(command: list[str], repeats: int) -> float:
    """Seconds of the fastest attempt."""
    taken = []
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            subprocess.run(
                command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            taken.append(time.monotonic() - start)
    return round(min(taken), 2)
