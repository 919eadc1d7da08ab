"""Kind `curves`: accuracy or loss against training time, one curve per scheme."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.errors import ConfigError
from core.figures import style
from core.figures.results import Run, Settings, tidy

KEYS = ("y",)


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
# Units of the time axis in hours, each with the hours up to which it is used.
TIME_UNITS = (("s", 1 / 3600, 2 / 60), ("min", 1 / 60, 2), ("h", 1, float("inf")))


def draw(
    entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings
) -> tuple[Figure, pd.DataFrame]:
    """Draw one value per epoch over the time it took to get there; return the numbers too."""
    (y,) = entry["y"]
    if y not in QUANTITIES:
        raise ConfigError(f"y is {y!r}, allowed: {', '.join(QUANTITIES)}")
    quantity = QUANTITIES[y]
    runs = _in_order(entry["schemes"], runs)
    table = tidy(runs, [style.label(r.scheme, r.rho) for r in runs], y, settings.testing)
    figure = style.new_figure()
    axes = figure.subplots()
    _plot(axes, table, settings.testing)
    axes.set_ylabel(quantity.title + quantity.unit)
    axes.set_ylim(_limits(table["y"], quantity))
    style.add_legend(axes, columns=2)
    model, data = (style.human(settings.ran(entry[key][0])) for key in ("model", "dataset"))
    style.add_title(figure, f"{quantity.title}, {model} on {data}")
    return figure, table


def _in_order(schemes: Sequence[str], runs: Sequence[Run]) -> list[Run]:
    """The runs in the order of the figure's schemes: one each, none missing, none left over."""
    by_scheme: dict[str, Run] = {}
    for run in runs:
        if run.scheme not in schemes:
            raise ConfigError(f"{run.folder} ran scheme {run.scheme}, not in {list(schemes)}")
        if run.scheme in by_scheme:
            other = by_scheme[run.scheme].folder
            raise ConfigError(f"two runs of scheme {run.scheme}, give one: {other}, {run.folder}")
        by_scheme[run.scheme] = run
    missing = [scheme for scheme in schemes if scheme not in by_scheme]
    if missing:
        raise ConfigError(f"no run of scheme {', '.join(missing)}: add its folder")
    return [by_scheme[scheme] for scheme in schemes]


def _plot(axes: Axes, table: pd.DataFrame, testing: bool) -> None:
    """One curve per scheme with a marker at the end of each epoch, time in a unit that fits."""
    longest = table["hours"].max()
    unit, hours, _ = next(u for u in TIME_UNITS if longest <= u[2])
    for depth, (scheme, curve) in enumerate(table.groupby("scheme", sort=False)):
        look = style.look(str(scheme))
        axes.plot(
            curve["hours"] / hours,
            curve["y"],
            label=curve["label"].iloc[0],
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            zorder=3 - depth / len(table),  # the first scheme, which the figure is about, on top
            **style.CURVE,
        )
    axes.set_xlim(left=0)
    axes.set_xlabel(f"Training time, testing {'included' if testing else 'excluded'} ({unit})")


def _limits(y: pd.Series, quantity: Quantity) -> tuple[float, float]:
    """Limits that hold all values with some room, inside what the quantity can be."""
    middle, span = (y.max() + y.min()) / 2, max(y.max() - y.min(), quantity.least_span)
    low, high = middle - 0.56 * span, middle + 0.56 * span
    return max(low, 0.0), min(high, quantity.highest)
