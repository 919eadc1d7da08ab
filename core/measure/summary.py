"""What a run cost, in its result: energy, memory, utilisation, throttling, and what is unknown."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from core.measure import trace
from core.measure.trace import Row, samples


def summarise(
    rows: Sequence[Row],
    run_s: float,
    meter: Mapping[str, Any],
    least_coverage: float,
    throttling_known: bool,
) -> dict[str, Any]:
    """The section `measure` of a result.

    run_s: seconds of the run by its own account, or 0 where it has none. meter: title, rails, kind
    and `of` (what it measures), or why there is none; idle_watts. throttling_known: whether
    anything would tell of it.
    """
    taken = samples(rows)
    span = rows[-1].seconds if rows else 0.0
    reasons = [reason for row in taken for reason in row.throttled.split(";") if reason]
    begun = [row for row in rows if row.event == trace.BEGIN]
    return {
        "seconds": round(span, 3),
        "run_seconds": round(run_s, 3),
        "sessions": len({row.session for row in taken}),
        "energy": energy(rows, run_s, meter, least_coverage),
        "memory": {
            "peak_mib": _highest(taken, "peak_mib"),
            "mean_mib": _mean(taken, "mib"),
            "accelerator_peak_mib": _highest(taken, "accelerator_mib"),
            "why": _why_partial(begun),
        },
        "utilisation": {
            "cpu_percent": _mean(taken, "cpu_percent"),
            "highest_celsius": _highest(taken, "celsius"),
            "mean_mhz": _mean(taken, "mhz"),
        },
        "throttled": bool(reasons) if throttling_known or reasons else None,
        "throttled_why": list(dict.fromkeys(reasons)),
    }


def energy(
    rows: Sequence[Row], run_s: float, meter: Mapping[str, Any], least_coverage: float
) -> dict[str, Any]:
    """Joules, or null and why. idle_watts times the covered seconds is taken off for
    `above_idle_joules`."""
    last = next((row for row in reversed(rows) if row.joules is not None), None)
    span = max(run_s, rows[-1].seconds if rows else 0.0)
    coverage = last.covered_s / span if last and span > 0 else 0.0
    why = meter.get("why") or _why_partial([row for row in rows if row.event == trace.BEGIN])
    if why is None and coverage < least_coverage:
        why = (
            f"power is known for {100 * coverage:.0f} % of the run, and "
            f"{100 * least_coverage:.0f} % are needed (measure.least_coverage)"
        )
    found = {
        "joules": None,
        "why": why,
        **{key: meter.get(key) for key in ("kind", "of", "meter", "rails", "idle_watts")},
        "coverage": round(min(coverage, 1.0), 4),
        "above_idle_joules": None,
        "mean_watts": None,
    }
    if why is None and last is not None and last.joules is not None:
        found["joules"] = round(last.joules, 3)
        found["mean_watts"] = round(last.joules / last.covered_s, 3)
        if meter.get("idle_watts") is not None:
            above = last.joules - meter["idle_watts"] * last.covered_s
            found["above_idle_joules"] = round(above, 3)
    return found


def _why_partial(begun: Sequence[Row]) -> str | None:
    """Why the trace does not hold the whole run, from the rows of `begin`."""
    if not begun:
        return "nothing was sampled: the run was trained before, or without sampling"
    if begun[0].detail != "0":
        return f"sampling began at step {begun[0].detail} of the run: what was before is not known"
    return None


def _highest(rows: Sequence[Row], name: str) -> float | None:
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return round(max(known), 1) if known else None


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Over time: each sample stands for what was since the one before."""
    total = weight = 0.0
    for before, row in pairwise(rows):
        value = getattr(row, name)
        if value is not None and row.seconds > before.seconds:
            total += value * (row.seconds - before.seconds)
            weight += row.seconds - before.seconds
    return round(total / weight, 1) if weight else None
