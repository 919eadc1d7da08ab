"""What a campaign's results take to be put on a page, held against claims, bundled and verified."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core import PROJECT
from core.bench import Report
from core.errors import DataError

LIMITS = {"report/seconds": 60.0, "report/mib": 15.0}


def run() -> Report:
    """Of the finished runs in this checkout's results/. Raises DataError where there are none."""
    return measured(PROJECT)


def measured(folder: Path) -> Report:
    """Of those in a working folder."""
    runs = sum(1 for _ in folder.glob("results/**/result.json"))
    if not runs:
        raise DataError(f"{folder}/results has no finished run; `snakemake campaign` makes some")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        bundle = out / "bundle.tar.gz"
        figures: dict[str, Any] = {
            "runs": runs,
            "report": _taken(folder, [out / "report.html"], "report", "--out"),
            "claims": _taken(
                folder, [out / f"claims.{end}" for end in ("csv", "json", "md")], "claims", "--out"
            ),
            "bundle": _taken(folder, [bundle], "bundle", "--out"),
            "verify": _taken(folder, [bundle], "verify"),
        }
    notes = [
        "seconds: of the command, Python's start included, once each; mib: of what it writes "
        "(verify: of the bundle that it reads)",
    ]
    return Report(figures, LIMITS, notes)


def _taken(folder: Path, files: list[Path], *words: str) -> dict[str, float]:
    """Seconds of a verb that is given one path, and MiB of the files at it."""
    path = files[0] if len(files) == 1 else files[0].with_suffix("")
    start = time.perf_counter()
    command = [sys.executable, "-m", "core", *words, str(path)]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - start
    mib = sum(file.stat().st_size for file in files) / 2**20
    return {"seconds": round(seconds, 2), "mib": round(mib, 3)}
