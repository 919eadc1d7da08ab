"""Kind `overhead_table`: what profiling a model once takes beside training it (Table 1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Run, Settings
from core.figures.table import draw_table


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw a line per model: seconds of profiling, training time, and the one over the other."""
    table = pd.DataFrame([_row(run) for run in runs])
    unit, hours = style.time_unit(table["training_hours"].max())
    rows = [
        [
            style.human(row["model"]),
            style.number(row["profiling_s"]),
            style.number(row["training_hours"] / hours),
            style.number(row["overhead (%)"]),
        ]
        for _, row in table.iterrows()
    ]
    header = ("Model", "Profiling\n(s)", f"Training\n({unit})", "Overhead\n(%)")
    labels = ", ".join(dict.fromkeys(table["label"]))
    data = style.human(settings.ran(entry["dataset"][0]))
    figure = draw_table(f"Overhead of profiling, {labels} on {data}", header, {"": rows}, (1, 2, 3))
    notes = ["profiling is done once for a model and device · training time without testing"]
    return Drawn(figure, table, notes)


def _row(run: Run) -> dict[str, Any]:
    profiling, training = float(run.recorded("profiling.taken_s")), run.hours(testing=False)[-1]
    values = {
        "profiling_s": profiling,
        "training_hours": training,
        "overhead (%)": 100 * profiling / (3600 * training),
    }
    return run.row(style.label(run.scheme, run.rho), values)
