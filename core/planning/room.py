"""What a campaign needs of the disk: data sets as they are prepared, downloads, snapshots."""

import json
import shutil
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from core.data import catalog
from core.planning.jobs import Planned, missing_fetches
from core.training import run_folder
from core.training.snapshot import KEPT

SLOTS = 2  # of each weight: itself, and what the optimiser keeps of it
FLOAT32 = 4  # bytes


def samples(name: str) -> tuple[int, int] | None:
    """Of a data set of the catalog, in training and test; None where its publisher does not say."""
    splits = catalog.entry(name).splits
    return (splits.train, splits.test) if isinstance(splits, catalog.Published) else None


def prepared_bytes(name: str, folder: Path) -> int | None:
    """Of a data set in a folder that ends in its size: images of that side, or texts of so many
    words. None where it is not known before."""
    numbers, size = samples(name), folder.name.rpartition("-")[2]
    if numbers is None or not size.isdigit():
        return None
    each = {"images": 3 * int(size) ** 2, "text": 4 * int(size)}.get(catalog.entry(name).kind)
    return None if each is None else sum(numbers) * each


def snapshot_bytes(run: Planned) -> int | None:
    """Of the snapshots that a run leaves, from a profile of its network, else from its weights."""
    weights = run.spec["model"].get("weights")
    parameters = next(filter(None, map(_parameter_bytes, run.profiles())), None)
    if parameters is None and weights:
        sources = catalog.entry(Path(weights).name).sources
        parameters = next(filter(None, (getattr(s, "size", None) for s in sources)), None)
    return None if parameters is None else KEPT * SLOTS * parameters


def _parameter_bytes(profile: Path) -> int | None:
    """Of the network that was profiled, of ElasticTrainer or of split training."""
    try:
        content: dict[str, Any] = json.loads(profile.read_text(encoding="utf-8"))
        if "parameter_bytes" in content:
            return int(sum(content["parameter_bytes"]))
        return FLOAT32 * sum(int(prod(tensor["shape"])) for tensor in content["tensors"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not measured yet, or damaged: runs say so


def room(runs: Sequence[Planned]) -> dict[str, Any]:
    """bytes: still to be written by these runs, all devices together. unknown: of how many things
    nobody can say. free: bytes on the disk of this folder."""
    unfinished = [run for run in runs if run.state != "finished"]
    folders = {folder: name for run in unfinished for name, folder in run.entries()}
    missing = {f: n for f, n in folders.items() if not (f / "manifest.json").exists()}
    data = [prepared_bytes(name, f) for f, name in missing.items() if "data" in f.parts]
    fresh = [run for run in unfinished if not run_folder.snapshots(run.folder).is_dir()]
    fetches = missing_fetches(runs)
    weights = [fetches.get(name) for f, name in missing.items() if "weights" in f.parts]
    parts = [*data, *weights, *fetches.values(), *map(snapshot_bytes, fresh)]
    return {
        "bytes": _sum(parts),
        "unknown": sum(part is None for part in parts),
        "free": shutil.disk_usage(".").free,
    }


def _sum(parts: Iterable[int | None]) -> int:
    return sum(part or 0 for part in parts)
