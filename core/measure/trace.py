"""The trace of a run: a line per sample and per event, in a CSV file of bounded size."""

import csv
import io
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from core.errors import DataError
from core.files import write_text, writing

log = logging.getLogger(__name__)

MOST_ROWS = 10_000  # about 1 MB; above it samples that lie close are made one
MARKS_KEPT = 8  # of snapshots, the newest: a run goes on from one of the last two

# Words of events.
BEGIN, SNAPSHOT, EPOCH, SELECTION, CUT, IDLE = (
    "begin", "snapshot", "epoch", "selection", "cut", "idle",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A sample, or an event. What is not known is None.

    session: process that trained a part of the run, from 1. seconds: since the start of the run,
    without what was between sessions. wall: seconds since 1970. watts: mean power since the sample
    before. joules, covered_s: energy so far, and the seconds in which it was measured. mib: memory
    of the processes; peak_mib: at most since the sample before. accelerator_mib: likewise, of the
    accelerator. cpu_percent: 100 for each busy core. celsius: of the hottest zone. mhz: mean clock.
    throttled: reasons, separated by semicolons. event, detail: what happened.
    """

    session: int
    seconds: float
    wall: float
    watts: float | None = None
    joules: float | None = None
    covered_s: float = 0.0
    mib: float | None = None
    peak_mib: float | None = None
    accelerator_mib: float | None = None
    cpu_percent: float | None = None
    celsius: float | None = None
    mhz: float | None = None
    throttled: str = ""
    event: str = ""
    detail: str = ""


COLUMNS = tuple(field.name for field in fields(Row))
TEXTS = ("throttled", "event", "detail")
HIGHEST = ("peak_mib", "accelerator_mib", "celsius")  # of several samples in one
_DIGITS = {
    **dict.fromkeys(("seconds", "covered_s", "joules"), 4),
    **dict.fromkeys(("wall", "watts"), 3),
    **dict.fromkeys(("mib", "peak_mib", "accelerator_mib"), 2),
    **dict.fromkeys(("cpu_percent", "celsius"), 1),
    "mhz": 0,
}


class Trace:
    """The rows of a run, in memory and in a file to which they are appended."""

    def __init__(self, path: Path, most: int = MOST_ROWS) -> None:
        """What a killed process left half written at the end is dropped; a file that is damaged
        otherwise is set aside. Raises StorageError."""
        self.path, self._most, self._limit = path, most, most
        self.rows: list[Row] = []
        if path.exists():
            try:
                self.rows = load(path)
            except DataError as error:
                aside = path.with_suffix(".rejected")
                path.replace(aside)
                log.warning("%s; set aside as %s", error, aside.name)
        self._rewrite()

    def append(self, row: Row) -> None:
        """Raises StorageError; the row is kept in memory then."""
        row = _as_written(row)
        self.rows.append(row)
        if len(self.rows) > self._limit:
            self.rows = [_as_written(each) for each in thinned(self.rows, self._most)]
            # Events stay, and might be many.
            self._limit = max(self._most, len(self.rows) + self._most // 2)
            self._rewrite()
            return
        with writing(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line(row))

    def rewind(self, step: int) -> Row | None:
        """Drop what was recorded after the snapshot of this step: the run goes on from there, and
        computes it again. Returns the row of the snapshot; None where the run begins (step 0), or
        nothing is known of that snapshot: then nothing of the past is kept."""
        marks = [
            place
            for place, row in enumerate(self.rows)
            if row.event == SNAPSHOT and row.detail == str(step)
        ]
        kept = marks[-1] + 1 if marks and step else 0
        if self.rows[kept:]:
            self.rows = self.rows[:kept]
            self._rewrite()
        return self.rows[-1] if self.rows else None

    def _rewrite(self) -> None:
        write_text(self.path, to_csv(self.rows))


def to_csv(rows: Iterable[Row]) -> str:
    """The file with these rows."""
    return ",".join(COLUMNS) + "\n" + "".join(map(_line, rows))


def _line(row: Row) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(_cell(row, name) for name in COLUMNS)
    return out.getvalue()


def _as_written(row: Row) -> Row:
    """With the digits of the file, so that a run that reads it back has the same numbers."""
    known = {name: getattr(row, name) for name in _DIGITS}
    digits = {n: round(float(v), _DIGITS[n]) for n, v in known.items() if v is not None}
    return replace(row, **digits)  # type: ignore[arg-type]


def _cell(row: Row, name: str) -> object:
    value = getattr(row, name)
    return f"{value:.{_DIGITS[name]}f}" if name in _DIGITS and value is not None else value


def load(path: Path) -> list[Row]:
    """The rows of a file. A last line that is not whole is left out. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    if reader.fieldnames is None or tuple(reader.fieldnames) != COLUMNS:
        raise DataError(f"{path} is no trace: its columns must be {', '.join(COLUMNS)}")
    rows = []
    for number, cells in enumerate(reader, start=2):
        try:
            rows.append(_row(cells))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return rows


def _row(cells: dict[str, str]) -> Row:
    values: dict[str, float | str | None] = {}
    for name, cell in cells.items():
        if name in TEXTS:
            values[name] = cell
            continue
        number = float(cell) if cell else None
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{name} is {cell}")
        values[name] = number
    needed = [name for name in ("session", "seconds", "wall", "covered_s") if values[name] is None]
    if needed:
        raise ValueError(f"no {', '.join(needed)}")
    row = Row(**values)  # type: ignore[arg-type]
    return replace(row, session=int(row.session))


def samples(rows: Iterable[Row]) -> list[Row]:
    """Those that are no events."""
    return [row for row in rows if not row.event]


def thinned(rows: Sequence[Row], most: int) -> list[Row]:
    """At most half of `most` samples, evenly over the run: neighbours become one, with the highest
    of what is a highest value and the mean of the rest. Joules so far are those of the last one, so
    that nothing of the energy is lost. Of snapshots the newest stay."""
    span = rows[-1].seconds / (most / 2)
    marks = [place for place, row in enumerate(rows) if row.event == SNAPSHOT]
    dropped = set(marks[:-MARKS_KEPT])
    found: list[Row] = []
    group: list[Row] = []
    for place, row in enumerate(rows):
        if place in dropped:
            continue
        if group and (row.event or row.seconds // span != group[0].seconds // span):
            found.append(_merged(group))
            group = []
        (found if row.event else group).append(row)
    return [*found, _merged(group)] if group else found


def _merged(group: Sequence[Row]) -> Row:
    changes: dict[str, float | str | None] = {}
    for name in ("watts", "mib", "cpu_percent", "mhz", *HIGHEST):
        known = [value for row in group if (value := getattr(row, name)) is not None]
        if known:
            changes[name] = max(known) if name in HIGHEST else sum(known) / len(known)
    reasons = [reason for row in group for reason in row.throttled.split(";") if reason]
    changes["throttled"] = ";".join(dict.fromkeys(reasons))
    return replace(group[-1], **changes)  # type: ignore[arg-type]
