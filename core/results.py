"""What a run leaves: result.json, epochs.csv, and where they came from."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import __version__, machine
from core.files import write_text
from core.spec import RunSpec

# Columns of epochs.csv that add up to training time; testing and snapshots are not in it.
TRAINING_SECONDS = ("data_s", "forward_s", "backward_update_s", "compile_s", "selection_s")


def seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """All that the rows of epochs.csv say of time, read back or not: training, testing,
    snapshots. Raises ValueError."""
    spent = (
        float(value or 0)
        for row in rows
        for name, value in row.items()
        if name.endswith("_s") and name != "moving_s"  # which is a part of training_s
    )
    return sum(spent)


def write(
    out: Path, spec: RunSpec, rows: Sequence[Mapping[str, Any]], extra: dict[str, Any]
) -> None:
    """Write epochs.csv, then result.json: who finds the result finds the epochs.

    rows: one dict an epoch, all with the same keys; what was not measured is None. extra: what
    the trainer adds.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "epochs.csv", text.getvalue())
    result = {
        "spec": spec.content,
        "best": _best(rows),
        "last": rows[-1],
        "provenance": provenance(spec),
        **extra,
    }
    write_text(out / "result.json", json.dumps(result, indent=1))


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The epoch of the highest accuracy; of the least loss where there is none, as of generators;
    the last one where nothing was tested."""
    judged = [row for row in rows if row["test_accuracy"] is not None]
    if judged:
        return max(judged, key=lambda row: float(row["test_accuracy"]))
    losses = [row for row in rows if row.get("test_loss") is not None]
    return min(losses, key=lambda row: float(row["test_loss"])) if losses else rows[-1]


def origin(versions: dict[str, str]) -> dict[str, Any]:
    """What computes in this process, taken before it starts. versions: of the packages."""
    return {"commit": commit(), "versions": versions, "machine": machine.describe()}


def provenance(spec: RunSpec) -> dict[str, Any]:
    """Where a result came from, as far as its spec says it."""
    return {
        "kind": spec["device"]["timing"] if spec["kind"] == "elastic" else spec["timing"],
        "digest": spec.digest,
        "recipe": spec["recipe"],
        "seed": spec["seed"],
        "device": spec.device,
        "core": __version__,
    }


def commit() -> str | None:
    """The git commit of the code, with `+` when files differ from it; None outside a checkout. On a
    board, that of the host which sent the code."""
    if sent := os.environ.get("CORE_COMMIT"):
        return sent
    try:
        name = _git("rev-parse", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words: str) -> str:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
