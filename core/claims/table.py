"""Every claim with what was measured and its verdict, as rows and as files."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from core.claims.book import Claim
from core.claims.verdict import judge
from core.figures.results import Run, read_run
from core.figures.split_results import SplitRun, read_split_run
from core.files import write_text
from core.spec import RunSpec

Row = dict[str, Any]
Finished = Run | SplitRun
Read = Callable[[Path], Finished]
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
}


def rows(claims: Sequence[Claim]) -> list[Row]:
    """The lines of claims. A run that several of them are about is read once."""
    read = cache(_read)
    return [_row(claim, read) for claim in claims]


def _read(folder: Path) -> Finished:
    kind = json.loads((folder / "result.json").read_text())["spec"]["kind"]
    return read_split_run(folder) if kind == "split" else read_run(folder)


def _row(claim: Claim, read: Read) -> Row:
    one = _by_seed(claim.run, read)
    other = None if claim.over is None else _by_seed(claim.over, read)
    values = _values(claim, one, other)
    runs = [run for found in (one, other) for each in (found or {}).values() for run in each]
    why = _incomparable(claim, runs) if values else ""
    entry = claim.entry
    return {
        "claim": claim.name,
        "figure": entry["figure"],
        "statement": entry["statement"],
        "source": entry["source"],
        "metric": claim.metric.title,
        "published": entry["published"],
        "direction": entry["direction"],
        "tolerance": entry["tolerance"],
        "measured": mean(values) if values else None,
        "lowest": min(values) if values else None,
        "highest": max(values) if values else None,
        "seeds": len(values),
        "timing": ", ".join(sorted({run.timing for run in runs})) if values else "",
        "verdict": judge(values, entry["published"], claim.direction, entry["tolerance"], not why),
        "why": why or entry.get("note", ""),
        "runs": sorted(run.folder.as_posix() for run in runs) if values else [],
    }


def _by_seed(folders: Sequence[Sequence[Path]], read: Read) -> dict[int, list[Finished]]:
    """Finished runs of each seed for which all of them are there."""
    found: dict[int, list[Finished]] = {}
    for seeds in folders:
        for folder in seeds:
            if (folder / "result.json").exists():
                run = read(folder)
                found.setdefault(int(run.spec["seed"]), []).append(run)
    return {seed: runs for seed, runs in found.items() if len(runs) == len(folders)}


def _values(
    claim: Claim,
    one: Mapping[int, list[Finished]],
    other: Mapping[int, list[Finished]] | None,
) -> list[float]:
    """One number for each seed: of the best run, over that of the best other one."""
    pick = min if claim.metric.time else max

    def number(runs: list[Finished]) -> float:
        numbers = [float(claim.metric.of(run, claim.entry)) for run in runs]
        known = [value for value in numbers if not math.isnan(value)]
        return pick(known) if known else math.nan

    if other is None:
        found = [number(runs) for _, runs in sorted(one.items())]
    else:
        both = sorted(one.keys() & other.keys())
        found = [number(one[seed]) / number(other[seed]) for seed in both]
    return [value for value in found if not math.isnan(value)]


def _incomparable(claim: Claim, runs: Sequence[Finished]) -> str:
    """Why what ran cannot be held against the paper; empty where it can."""
    scales = {run.scale for run in runs} - {"paper"}
    if scales:
        return f"{'/'.join(sorted(scales))} scale: another setting than the published one"
    timings = {run.timing for run in runs} - {"measured"}
    if claim.metric.time and timings:
        return f"times are {'/'.join(sorted(timings))}"
    device = claim.entry.get("device")
    devices = {RunSpec(dict(run.spec)).device for run in runs}
    if claim.metric.time and claim.over is None and device and devices != {device}:
        return f"hours of {', '.join(sorted(devices))}, published of {device}"
    return ""


def write(rows: Sequence[Row], out: Path) -> None:
    """OUT.csv, OUT.json and OUT.md."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [key for key in rows[0] if key != "runs"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out.with_suffix(".csv"), text.getvalue())
    write_text(out.with_suffix(".json"), json.dumps(list(rows), indent=1))
    write_text(out.with_suffix(".md"), markdown(rows))


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
