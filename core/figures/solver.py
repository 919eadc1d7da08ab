"""Kind `solver`: what the selector takes and what it reaches, against its time resolution."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Run, Settings

HEIGHT = 3.3  # inches
ROWS = {
    "seconds": "Time of one selection (s)",
    "importance (% of the finest)": "Importance reached\n(% of the finest)",
}


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw two panels over the time steps that the budget is divided into, a curve per model."""
    figure = style.new_figure(HEIGHT)
    panels = figure.subplots(2, 1, sharex=True)
    runs = list({run.model: run for run in runs}.values())  # of several budgets, one profile
    tables = [_table(run) for run in runs]
    for number, (run, table) in enumerate(zip(runs, tables, strict=True)):
        look = style.SERIES[number % len(style.SERIES)]
        for axes, quantity in zip(panels, ROWS, strict=True):
            points = table[table["quantity"] == quantity]
            keywords = style.curve(look) | {"label": style.human(run.model)}
            axes.plot(points["resolution"], points["y"], **keywords)
    _scale(panels)
    style.add_legend(figure, panels[1])
    data = style.human(settings.ran(entry["dataset"][0]))
    style.add_title(figure, f"Selector against time resolution, models on {data}")
    notes = [
        "on the timing profile of each model · all tensors equally important"
        " · budget: half of the backward pass"
    ]
    return Drawn(figure, pd.concat(tables, ignore_index=True), notes)


def _table(run: Run) -> pd.DataFrame:
    solved = sorted(run.recorded("profiling.solver"), key=lambda each: each["resolution"])
    finest = solved[-1]["importance"]
    rows = []
    for each in solved:
        numbers = (each["seconds"], 100 * each["importance"] / finest)
        for quantity, number in zip(ROWS, numbers, strict=True):
            values = {"resolution": each["resolution"], "quantity": quantity, "y": number}
            rows.append(run.row(style.human(run.model), values))
    return pd.DataFrame(rows)


def _scale(panels: Sequence[Axes]) -> None:
    for axes, title in zip(panels, ROWS.values(), strict=True):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(style.plain)
        axes.set_ylabel(title)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(style.plain)
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[1].set_xlabel("Time steps of the budget")
