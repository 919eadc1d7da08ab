"""Kind `split_accuracy`: test accuracy against training time, a panel per context and a curve per
scheme."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.figures import style
from core.figures.curves import QUANTITIES, limits
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import alone_notes, look, subject, title_of
from core.figures.split_matching import run_in
from core.figures.split_results import SplitRun

COLUMNS = 3  # of panels, at most
PANEL = 1.9  # inches, the height of one of several
TICKS = 5  # of the vertical axis, at most


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw one point per epoch over the time it took to get there."""
    return curves(entry, runs, settings, "test_accuracy")


def curves(
    entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings, shown: str
) -> Drawn:
    """The same of a quantity of `core.figures.curves`."""
    quantity = QUANTITIES[shown]
    name = shown + quantity.unit
    contexts, schemes = entry["contexts"], entry["schemes"]
    figure, panels, spare = _panels(len(contexts), quantity.title + quantity.unit)
    tables = []
    for axes, context in zip(panels, contexts, strict=True):
        own = [run_in(runs, context, scheme) for scheme in schemes]
        table = _table(context, own, settings.testing, shown, name)
        tables.append(table)
        _plot(axes, table, name, schemes, settings.testing)
        if len(contexts) > 1:
            axes.set_title(next((title_of(r) for r in runs if r.context == context), context))
    numbers = pd.concat(tables, ignore_index=True)
    panels[0].set_ylim(limits(numbers[name], quantity))
    panels[0].yaxis.set_major_locator(MaxNLocator(TICKS))
    if spare is None:
        style.add_legend(figure, panels[0])
    else:
        spare.legend(*panels[0].get_legend_handles_labels(), loc="center")
    place = "" if len(contexts) > 1 else f", {title_of(runs[0])}"
    style.add_title(figure, f"{quantity.title}, {subject(runs[0])}{place}")
    return Drawn(figure, numbers, alone_notes(runs) if len(contexts) > 1 else [])


def _panels(count: int, label: str) -> tuple[Figure, list[Axes], Axes | None]:
    """A panel for each context, in rows, with the same vertical axis; a place that is left over,
    for the legend."""
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    height = style.HEIGHT if rows == 1 else PANEL * rows
    figure = style.new_figure(height, style.WIDTH if count == 1 else style.WIDE)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    return figure, panels[:count], panels[count] if count < len(panels) else None


def _table(
    context: str, runs: Sequence[SplitRun], testing: bool, shown: str, name: str
) -> pd.DataFrame:
    rows = []
    for run in runs:
        tested = run.accuracies if shown == "test_accuracy" else run.losses
        points = zip(run.epochs["epoch"], run.hours(testing), tested, strict=True)
        for epoch, hours, y in points:
            values = {"drawn in": context, "epoch": int(epoch), "hours": hours}
            values[name] = y
            rows.append(run.row(look(run.scheme).label, values))
    return pd.DataFrame(rows)


def _plot(
    axes: Axes, table: pd.DataFrame, name: str, schemes: Sequence[str], testing: bool
) -> None:
    unit, hours = style.time_unit(table["hours"].max())
    for depth, scheme in enumerate(schemes):
        curve = table[table["scheme"] == scheme]
        order = 3 - depth / len(schemes)  # the first scheme, which it is about, is on top
        x, y = curve["hours"] / hours, curve[name]
        axes.plot(x, y, zorder=order, **style.curve(look(scheme)))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"Training time, testing {'included' if testing else 'excluded'} ({unit})")
