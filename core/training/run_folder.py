"""The folder of a run's results, and what lies beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import DataError


def snapshots(out: Path) -> Path:
    """The folder of a run's snapshots: beside that of its results, where no rule writes."""
    return out.with_name(out.name + ".snapshots")


def is_finished(out: Path, identity: Callable[[], str]) -> bool:
    """Whether the run of this identity left its results here. identity may raise DataError."""
    try:
        result: dict[str, Any] = json.loads((out / "result.json").read_text())
        return bool(result["identity"] == identity()) and (out / "epochs.csv").exists()
    except (OSError, ValueError, KeyError, DataError):
        return False
