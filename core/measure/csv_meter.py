"""Any other meter, by the file that it leaves: columns `time,watts`.

time: seconds since 1970 (UTC), or a date and time as ISO 8601 has it, with its offset from UTC. The
file may grow while a run is trained, or be attached to it afterwards (`core measure attach`).
"""

import csv
import math
import os
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError, DeviceError
from core.measure.meter import Reading

Floats = NDArray[np.float64]

FRESH_S = 10.0  # an older line is not the power of now
TAIL = 4096  # bytes at the end of a file in which the last whole lines are


class CsvMeter:
    """The newest line of a file that another program writes on this machine, by the same clock."""

    kind = "measured"
    every_s = 0.0
    rails: tuple[str, ...] = ("CSV",)

    def __init__(self, file: Path) -> None:
        """Raises DeviceError where there is no such file yet."""
        self._file = file
        self.title = f"CSV {file.name}"
        if not file.exists():
            raise DeviceError(f"{file} does not exist: start what writes it before the run")

    def read(self) -> Reading:
        """Raises DeviceError where the newest line is older than FRESH_S seconds."""
        try:
            with self._file.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                lines = file.read().decode(errors="replace").split("\n")[:-1]  # the rest is written
            at, watts = _line(lines[-1].split(","))
        except (OSError, ValueError, IndexError) as error:
            raise DeviceError(
                f"{self._file} has no line `time,watts` at its end ({error})"
            ) from None
        age = time.time() - at
        if age > FRESH_S:
            raise DeviceError(
                f"{self._file}: the newest line is {age:.0f} s old; is it still being written, by "
                "the same clock?"
            )
        return Reading(watts=watts)


def load(file: Path) -> tuple[Floats, Floats]:
    """Seconds since 1970 and watts of every line, in order of time. Raises DataError."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    if not rows or [cell.strip() for cell in rows[0][:2]] != ["time", "watts"]:
        raise DataError(f"{file} must begin with the line `time,watts`")
    found = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            found.append(_line(row))
        except (ValueError, IndexError) as error:
            raise DataError(f"{file}, line {number}: {error}") from None
    times, watts = np.array(found, dtype=np.float64).reshape(-1, 2).T
    if len(times) < 2 or (np.diff(times) <= 0).any():
        raise DataError(f"{file}: there must be two lines or more, and the times must rise")
    return times, watts


def _line(cells: list[str]) -> tuple[float, float]:
    """Raises ValueError, or IndexError for too few cells."""
    at, watts = _seconds(cells[0].strip()), float(cells[1])
    if not (math.isfinite(at) and math.isfinite(watts)):
        raise ValueError(f"{cells[0]},{cells[1]} are no finite numbers")
    return at, watts


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset from UTC; write it as 2026-05-01T12:00:00Z")
    return moment.timestamp()
