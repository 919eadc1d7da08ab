"""One line for each training step, in a file that survives any death and is cut back to where the
run goes on from."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.files import write_text, writing

# step, epoch: from 0 and from 1. seconds: training time since the start when the gradient of this
# step was applied. edge_s, cloud_s: T1 and T3 as measured. uplink_s, downlink_s: T2 and T4, bytes
# over the rate that was estimated then; empty while that is unknown. up_bytes, down_bytes: of the
# tensors. up_rate, down_rate: bytes/s. delay_s: one way. late: steps sent since this one. The
# loads: what a decision engine goes by (`core.split.costs.Load`), empty without one.
COLUMNS = (
    "step epoch seconds cut uplink downlink edge_s uplink_s cloud_s downlink_s "
    "up_bytes down_bytes up_rate down_rate delay_s late loss correct "
    "edge_load cloud_load mutual_load"
).split()


class IterationLog:
    """Appends rows; what was appended after the last `flush` may be lost with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = 0

    def open(self, rows: int) -> None:
        """Keep the first `rows` rows of the file. Raises DataError where they are not all there,
        StorageError."""
        kept: list[str] = []
        if rows:
            kept = self._lines()[1 : rows + 1]
        if len(kept) < rows:
            raise DataError(
                f"{self._path} holds {len(kept)} of {rows} steps that snapshots tell of: it was "
                "changed since; bring it back, or delete the snapshots beside its folder"
            )
        write_text(self._path, "".join([",".join(COLUMNS) + "\n", *kept]))
        self._rows = rows

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self._path} cannot be read: {error}") from None

    def append(self, row: Mapping[str, Any]) -> None:
        """Raises StorageError."""
        with writing(self._path), self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        self._rows += 1

    def flush(self) -> int:
        """Make the rows survive a power cut; how many there are."""
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())
        return self._rows
