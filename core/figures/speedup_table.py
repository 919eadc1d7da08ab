"""Kind `speedup_table`: time to a target accuracy, against the fastest baseline (Table 2)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Run, Settings
from core.figures.table import draw_table

OURS = "elastic"
# Targets on a stand-in: of the best accuracy that every scheme reaches, so that it can be compared.
SHARES = (0.90, 0.95, 1.00)
NEVER = "not reached"


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw a line per data set and target: both times, the baseline, the speed-up."""
    table = pd.DataFrame(
        line for group, targets in _groups(entry, runs, settings) for line in _lines(group, targets)
    )
    longest = table[["hours", "baseline_hours"]].max(axis=None)
    unit, hours = style.time_unit(0 if np.isnan(longest) else longest)
    groups: dict[str, list[list[str]]] = {}
    for _, row in table.iterrows():
        groups.setdefault(style.human(row["dataset"]), []).append(_cells(row, hours))
    header = (
        "Target accuracy\n(%)", f"ElasticTrainer\n({unit})", "Fastest\nbaseline",
        f"Its time\n({unit})", "Speed-up\n",
    )  # fmt: skip
    model = style.human(settings.ran(entry["model"][0]))
    title = f"Time to a target accuracy, {model}"
    figure = draw_table(title, header, groups, (0, 1, 3, 4))
    return Drawn(figure, table, _notes(table))


def _groups(
    entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings
) -> Iterator[tuple[list[Run], list[tuple[float, str]]]]:
    """The runs on each data set, and its targets: percent, and what they are."""
    published = {settings.ran(name): name for name in entry["dataset"]}
    for ran, name in published.items():
        group = [run for run in runs if run.dataset == ran]
        given = entry.get("targets", {}).get(name) if ran == name else None
        if given:
            yield group, [(float(target), "published") for target in given]
        else:
            lowest = min(run.best_accuracy for run in group)
            shares = [(s * lowest, f"{s:.0%} of what every scheme reaches") for s in SHARES]
            yield group, shares


def _lines(group: Sequence[Run], targets: Sequence[tuple[float, str]]) -> Iterator[dict[str, Any]]:
    """Rows of the table for one data set; one for each budget where there are several."""
    baselines = [run for run in group if run.scheme != OURS]
    for run in (run for run in group if run.scheme == OURS):
        for target, kind in targets:
            hours = run.hours_to(target)
            there = [b for b in baselines if not np.isnan(b.hours_to(target))]
            fastest = min(there, key=lambda b: b.hours_to(target), default=None)
            theirs = float("nan") if fastest is None else fastest.hours_to(target)
            values = {
                "target (%)": target,
                "target_is": kind,
                "hours": hours,
                "baseline": "" if fastest is None else style.label(fastest.scheme, fastest.rho),
                "baseline_hours": theirs,
                "speedup": theirs / hours,
                "baseline_run": "" if fastest is None else fastest.folder.as_posix(),
            }
            yield run.row(style.label(run.scheme, run.rho), values)


def _cells(row: Mapping[str, Any], hours: float) -> list[str]:
    own, theirs = row["hours"], row["baseline_hours"]
    return [
        style.number(row["target (%)"]),
        NEVER if np.isnan(own) else style.number(own / hours),
        row["baseline"] or NEVER,
        "–" if np.isnan(theirs) else style.number(theirs / hours),
        "–" if np.isnan(row["speedup"]) else f"{row['speedup']:.2f} ×",
    ]


def _notes(table: pd.DataFrame) -> list[str]:
    labels = ", ".join(dict.fromkeys(table["label"]))
    notes = [f"{labels} · time to the end of the first epoch with that accuracy, without testing"]
    if (table["target_is"] != "published").any():
        shares = ", ".join(f"{100 * share:.0f}" for share in SHARES)
        notes.append(f"targets on stand-ins: {shares} % of what every scheme reaches")
    return notes
