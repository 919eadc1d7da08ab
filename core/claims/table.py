"""Every claim with what was measured and its verdict, as rows and as files."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from core.claims.book import Asked, Claim
from core.claims.verdict import judge
from core.errors import DataError
from core.figures.federated_results import read_federated_run
from core.figures.results import read_run
from core.figures.split_results import read_split_run
from core.files import write_text
from core.spec import RunSpec

Row = dict[str, Any]
Finished = Any  # a run, as its reader gives it
Read = Callable[[Path], Finished]
READERS: dict[str, Read] = {
    "elastic": read_run,
    "split": read_split_run,
    "federated": read_federated_run,
}
COLUMNS = {
    "claim": "claim",
    "statement": "statement",
    "source": "source",
    "published": "published",
    "measured": "measured",
    "spread": "lowest to highest",
    "seeds": "seeds",
    "timing": "times are",
    "verdict": "verdict",
    "why": "why",
    "note": "note",
}


def rows(claims: Sequence[Claim]) -> list[Row]:
    """The lines of claims. A run that several of them are about is read once."""
    read = cache(_read)
    return [_row(claim, read) for claim in claims]


def _read(folder: Path) -> Finished:
    path = folder / "result.json"
    try:
        read = READERS[json.loads(path.read_text(encoding="utf-8"))["spec"]["kind"]]
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{path} is damaged or of another version; delete it and run it again"
        ) from None
    return read(folder)


def _row(claim: Claim, read: Read) -> Row:
    one = _by_seed(claim.run, read)
    other = None if claim.over is None else _by_seed(claim.over, read)
    runs = [run for found in (one, other) for each in (found or {}).values() for run in each]
    values = _values(claim, one, other)
    ready = one if other is None else one.keys() & other.keys()
    why = _incomparable(claim, runs) if values else ("no run has this number" if ready else "")
    known = [value for value in values if _came(value, claim)]
    entry = claim.entry
    return {
        "claim": claim.name,
        "figure": entry.get("figure", ""),
        "statement": entry["statement"],
        "source": entry["source"],
        "metric": claim.metric.title,
        "published": entry["published"],
        "direction": entry["direction"],
        "tolerance": entry["tolerance"],
        "measured": fmean(values) if values and known == values else None,
        "lowest": min(known, default=None),
        "highest": max(known, default=None),
        "seeds": len(values),
        "timing": ", ".join(sorted(_timings(claim, runs))) if values else "",
        "verdict": judge(values, entry["published"], claim.direction, entry["tolerance"], not why),
        "why": why or ("" if known == values else NEVER),
        "note": entry.get("note", ""),
        "runs": sorted(run.folder.as_posix() for run in runs) if values else [],
    }


NEVER = "with some seed a run never reaches the accuracy"


def _came(value: float, claim: Claim) -> bool:
    """Whether a number is one: the time to an accuracy that is never reached is infinite, and any
    other over it is nothing."""
    return math.isfinite(value) and not ("accuracy" in claim.entry and value == 0)


def _by_seed(asked: Sequence[Asked], read: Read) -> dict[int, list[Finished]]:
    """Finished runs of each seed for which all of them are there."""
    found: dict[int, list[Finished]] = {}
    for each in asked:
        for folder in each.folders():
            run = read(folder)
            found.setdefault(int(run.spec["seed"]), []).append(run)
    return {seed: runs for seed, runs in found.items() if len(runs) == len(asked)}


def _values(
    claim: Claim,
    one: Mapping[int, list[Finished]],
    other: Mapping[int, list[Finished]] | None,
) -> list[float]:
    """One number for each seed: of the best run, over that of the best other one."""

    def number(runs: list[Finished]) -> float:
        numbers = [float(claim.metric.of(run, claim.entry)) for run in runs]
        known = [value for value in numbers if not math.isnan(value)]
        return claim.metric.best(known) if known else math.nan

    if other is None:
        found = [number(runs) for _, runs in sorted(one.items())]
    else:
        both = sorted(one.keys() & other.keys())
        lost = 0.0 if claim.direction == "higher" else math.inf
        found = [_quotient(number(one[seed]), number(other[seed]), lost) for seed in both]
    return [value for value in found if not math.isnan(value)]


def _quotient(one: float, other: float, lost: float) -> float:
    """Nothing over a number that never came: the time to an accuracy that was never reached. lost:
    where neither came, as that shows nothing. NaN over 0, as of a meter that saw nothing."""
    if math.isinf(other):
        return lost if math.isinf(one) else 0.0
    return one / other if other else math.nan


def _timings(claim: Claim, runs: Sequence[Finished]) -> set[str]:
    return {word for run in runs for word in claim.metric.timings(run) if word}


def _incomparable(claim: Claim, runs: Sequence[Finished]) -> str:
    """Why what ran cannot be held against the paper; empty where it can."""
    scales = {run.scale for run in runs} - {"paper"}
    if scales:
        return f"{'/'.join(sorted(scales))} scale: another setting than the published one"
    asked = {path: each for each in (*claim.run, *(claim.over or ())) for path in each.folders()}
    for run in runs:
        now = asked[run.folder].spec(int(run.spec["seed"]))
        if RunSpec(dict(run.spec)).digest != RunSpec(now).digest:
            return "trained with other settings than the configuration has now"
    timings = _timings(claim, runs) - {"measured"}
    if claim.metric.time and timings:
        return f"{'energy is' if claim.metric.known else 'times are'} {'/'.join(sorted(timings))}"
    device = claim.entry.get("device")
    devices = {each.key.device for each in asked.values()}
    if claim.metric.time and claim.over is None and device and devices != {device}:
        return f"hours of {', '.join(sorted(devices))}, published of {device}"
    return ""


def write(rows: Sequence[Row], out: Path) -> None:
    """OUT.csv, OUT.json and OUT.md."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [key for key in rows[0] if key != "runs"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    for suffix, content in (
        ("csv", text.getvalue()),
        ("json", json.dumps(list(rows), indent=1)),
        ("md", markdown(rows)),
    ):
        write_text(out.with_name(f"{out.name}.{suffix}"), content)


def markdown(rows: Sequence[Row]) -> str:
    """A table for people."""
    lines = [f"| {' | '.join(COLUMNS.values())} |", "|" + "---|" * len(COLUMNS)]
    for each in rows:
        spread = (
            "" if each["seeds"] < 2 else f"{_number(each['lowest'])} to {_number(each['highest'])}"
        )
        cells = each | {"spread": spread, "measured": _number(each["measured"])}
        lines.append("| " + " | ".join(str(cells[key]) for key in COLUMNS) + " |")
    return "\n".join(["# Claims", "", *lines, ""])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def counts(rows: Sequence[Row]) -> str:
    """How many of each verdict."""
    found: dict[str, int] = {}
    for each in rows:
        found[each["verdict"]] = found.get(each["verdict"], 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items()))
