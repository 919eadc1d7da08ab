"""Kind `curves`: accuracy or loss against training time, one curve per scheme and budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from core.elastic.schemes import Look
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Run, Settings, tidy


@dataclass(frozen=True)
class Quantity:
    """What is on the vertical axis."""

    title: str
    unit: str
    highest: float  # it cannot be above, nor below zero
    least_span: float  # of the axis: noise of flat curves shall not fill the figure


QUANTITIES = {
    "test_accuracy": Quantity("Test accuracy", " (%)", highest=100, least_span=5),
    "test_loss": Quantity("Test loss", "", highest=float("inf"), least_span=0.1),
}


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw one value per epoch over the time it took to get there."""
    (y,) = entry["y"]
    quantity, looks = QUANTITIES[y], style.looks(runs)
    table = tidy(runs, [look.label for look in looks], y, settings.testing)
    figure = style.new_figure()
    axes = figure.subplots()
    _plot(axes, table, looks, settings.testing)
    axes.set_ylabel(quantity.title + quantity.unit)
    axes.set_ylim(limits(table["y"], quantity))
    style.add_legend(figure, axes)
    model, data = (style.human(settings.ran(entry[key][0])) for key in ("model", "dataset"))
    style.add_title(figure, f"{quantity.title}, {model} on {data}")
    return Drawn(figure, table)


def _plot(axes: Axes, table: pd.DataFrame, looks: Sequence[Look], testing: bool) -> None:
    """A curve per run with a marker at the end of each epoch, time in a unit that fits."""
    unit, hours = style.time_unit(table["hours"].max())
    for depth, look in enumerate(looks):
        curve = table[table["label"] == look.label]
        # The first scheme, which the figure is about, is on top.
        order = 3 - depth / len(table)
        axes.plot(curve["hours"] / hours, curve["y"], zorder=order, **style.curve(look))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"Training time, testing {'included' if testing else 'excluded'} ({unit})")


def limits(y: pd.Series, quantity: Quantity) -> tuple[float, float]:
    """Limits that hold all values with some room, inside what the quantity can be."""
    middle, span = (y.max() + y.min()) / 2, max(y.max() - y.min(), quantity.least_span)
    low, high = middle - 0.56 * span, middle + 0.56 * span
    return max(low, 0.0), min(high, quantity.highest)
