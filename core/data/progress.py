"""One way to show progress, with the time left."""

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

_BYTES = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}


def bytes_bar(title: str, total: int | None, done: int = 0) -> "tqdm[Any]":
    """A bar in bytes that starts at `done`; `total` is None where nobody knows it."""
    return _bar(title, total, {"initial": done, **_BYTES})


def count_bar(title: str, total: int, unit: str) -> "tqdm[Any]":
    """A bar that counts things."""
    return _bar(title, total, {"unit": unit})


def _bar(title: str, total: int | None, options: Mapping[str, Any]) -> "tqdm[Any]":
    # In a log file every redraw is a new line: one in ten seconds is enough there.
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        desc=title, total=total, mininterval=interval, maxinterval=interval, leave=False, **options
    )
