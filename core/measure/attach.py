"""The file of an outside meter, added to a run that is finished."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.files import write_text
from core.measure.csv_meter import Floats, load
from core.measure.energy import LEAST_GAP_S
from core.measure.recorder import FILE
from core.measure.settings import settings_of
from core.measure.summary import energy
from core.measure.trace import Row, to_csv
from core.measure.trace import load as load_trace

DRIFT_S = 2.0  # by which the clock on the wall may differ from the monotonic one in a session


def attach(run: Path, file: Path, idle_watts: float | None = None) -> dict[str, Any]:
    """Write the energy that a CSV file tells into result.json and trace.csv of a run's folder, and
    return it. Both files are of the same clock.

    Raises DataError for files that are missing or damaged, or a run whose clock was set meanwhile.
    """
    path = run / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        section, spec = result["measure"], result["spec"]
        timing = spec["timing"] if spec["kind"] == "split" else spec["device"]["timing"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no result with a section `measure`: {error!r}") from None
    rows = with_power(load_trace(run / FILE), *load(file))
    # Where both sides were on one machine, an outside meter saw both too.
    of = (section.get("energy") or {}).get("of", "device")
    facts = {"kind": timing, "of": of, "meter": f"CSV {file.name}", "rails": ["CSV"]}
    facts["idle_watts"] = idle_watts
    least = settings_of(spec.get("measure"))["least_coverage"]
    section["energy"] = energy(rows, section["run_seconds"], facts, least)
    write_text(run / FILE, to_csv(rows))
    write_text(path, json.dumps(result, indent=1))
    return dict(section["energy"])


def with_power(rows: Sequence[Row], times: Floats, watts: Floats) -> list[Row]:
    """The rows with the power between times (seconds since 1970, rising) and their energy so far:
    straight lines between points that lie at most LEAST_GAP_S apart, or three times the usual
    distance of the file. Raises DataError."""
    _check_clock(rows)
    gap = max(LEAST_GAP_S, 3 * float(np.median(np.diff(times))))
    walls = np.array([row.wall for row in rows])
    joules, covered = _so_far(times, watts, gap, walls)
    found: list[Row] = []
    total = seconds = 0.0
    for place, row in enumerate(rows):
        power = None
        if place and row.session == rows[place - 1].session:
            known = covered[place] - covered[place - 1]
            energy = joules[place] - joules[place - 1]
            total, seconds = total + energy, seconds + known
            power = energy / known if known > 0 and not row.event else None
        found.append(replace(row, watts=power, joules=total, covered_s=seconds))
    return found


def _so_far(times: Floats, watts: Floats, gap: float, at: Floats) -> tuple[Floats, Floats]:
    """Joules and covered seconds from the first time up to each of `at`."""
    steps = np.diff(times)
    known = steps <= gap
    energy = np.concatenate([[0], np.cumsum(known * steps * (watts[1:] + watts[:-1]) / 2)])
    seconds = np.concatenate([[0], np.cumsum(known * steps)])
    inside = at.clip(times[0], times[-1])
    place = (np.searchsorted(times, inside, side="right") - 1).clip(0, len(steps) - 1)
    since = inside - times[place]
    slope = np.diff(watts)[place] / steps[place]
    more = known[place] * (watts[place] * since + slope * since**2 / 2)
    return energy[place] + more, seconds[place] + known[place] * since


def _check_clock(rows: Sequence[Row]) -> None:
    """Raises DataError where the clock on the wall went another way than time."""
    for session in {row.session for row in rows}:
        own = [row for row in rows if row.session == session]
        wall, passed = own[-1].wall - own[0].wall, own[-1].seconds - own[0].seconds
        if abs(wall - passed) > DRIFT_S + 0.001 * passed:
            raise DataError(
                f"the clock of the device was set while the run was trained ({wall:.0f} s on the "
                f"clock, {passed:.0f} s passed), so that no other file can be laid beside it"
            )
