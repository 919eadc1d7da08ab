"""The folder of a run's results, and what lies beside it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.files import exclusive


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold a run, wherever its folder is mounted: a second process waits, on this machine or
    another one, and finds it finished or goes on."""
    with exclusive(out.parent / f".{out.name}.lock"):
        yield


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
