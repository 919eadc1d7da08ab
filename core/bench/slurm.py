"""What Slurm adds to a run, and that it changes none of its numbers."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from core import PROJECT
from core.bench import Report
from core.bench.slurm_cluster import STATUS, Slurm, is_installed
from core.errors import MissingPackageError

REPEATS = 3
DATA = "results/data/movielens_100k-10/manifest.json"
RUN = "results/tiny/local/federated/5g/centralised-seed0"
TINY = {"scale": "tiny", "federated": {"training": {"batch": 64, "epochs": 2, "steps": 50}}}


def run() -> Report:
    """A training, here and as a job. Raises MissingPackageError without Slurm."""
    if not is_installed():
        raise MissingPackageError("this benchmark needs Slurm (slurmctld, slurmd, munge) and root")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        _seconds(_made(folder / "fetched"), DATA)
        slurm = Slurm(_made(folder / "cluster"))
        try:
            slurm.start()
            local, remote, differing = zip(
                *(_once(folder, number, slurm) for number in range(REPEATS)), strict=True
            )
        finally:
            slurm.stop()
        jobs = (folder / "there0" / "said").read_text().count("has been submitted")
    figures = {
        "here_s": round(min(local), 1),
        "slurm_s": round(min(remote), 1),
        "jobs": jobs,
        "overhead_per_job_s": round((min(remote) - min(local)) / jobs, 1),
        "numbers_that_differ": sum(differing),
    }
    notes = [
        f"{RUN}, two epochs of 50 steps, data there already; a Slurm of two nodes on this machine, "
        "asked for its jobs every second; the fastest of three of each, in turn, Snakemake's own "
        "start and plan included. numbers_that_differ: of all epochs, times left out",
    ]
    return Report(figures, {"numbers_that_differ": 0.0}, notes)


def _once(folder: Path, number: int, slurm: Slurm) -> tuple[float, float, int]:
    """Seconds here and through Slurm, one after the other, and how many numbers differ."""
    here, there = (folder / f"{where}{number}" for where in ("here", "there"))
    for place in (here, there):
        shutil.copytree(folder / "fetched" / "results", place / "results")
    local = _seconds(here, f"{RUN}/result.json")
    return local, _seconds(there, f"{RUN}/result.json", slurm), different(here / RUN, there / RUN)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _seconds(folder: Path, target: str, slurm: Slurm | None = None) -> float:
    """Of Snakemake; what it says is kept in `said`."""
    command = ["snakemake", target, "--snakefile", str(PROJECT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder.parent / "tiny.yaml")]
    downloads = PROJECT / "results/downloads"
    environment = os.environ | ({"DATA_MIRROR": str(downloads)} if downloads.is_dir() else {})
    profile = PROJECT / "profiles/slurm" if slurm else PROJECT / "profiles/default"
    command += ["--workflow-profile", str(profile), *(STATUS if slurm else ("--cores", "1"))]
    if slurm:
        environment["PATH"] = f"{slurm.path}:{environment['PATH']}"
    start = time.perf_counter()
    with (folder / "said").open("w") as said:
        ended = subprocess.run(command, env=environment, stdout=said, stderr=said).returncode
    if ended:
        sys.stderr.write((folder / "said").read_text())
        raise subprocess.CalledProcessError(ended, command)
    return time.perf_counter() - start


def different(one: Path, other: Path) -> int:
    """Numbers of the epochs of two runs that are not the same, times left out."""
    ours, theirs = _numbers(one), _numbers(other)
    return abs(len(ours) - len(theirs)) + sum(a != b for a, b in zip(ours, theirs, strict=False))


def _numbers(run: Path) -> list[str]:
    with (run / "epochs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [value for row in rows for name, value in row.items() if not name.endswith("_s")]
