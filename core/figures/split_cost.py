"""What each scheme of split training costs on each side, as bars: used by kinds that show one such
quantity."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from core.figures import measured, style
from core.figures.bars import AROUND, BAR, plot_bars
from core.figures.draw import Drawn
from core.figures.measured import Cost
from core.figures.split_face import look, subject, title_of
from core.figures.split_matching import sends
from core.figures.split_results import SplitRun

NO_CLOUD = "no cloud takes part"

Costs = dict[str, Callable[[SplitRun], Cost]]


def draw_cost(
    entry: Mapping[str, Any],
    runs: Sequence[SplitRun],
    costs: Mapping[str, Callable[[SplitRun], Cost]],
    title: str,
    scaled: Callable[[float], tuple[str, float]] | None = None,
    unit: str = "",
) -> Drawn:
    """A row per scheme and a panel per side. costs: of a run, by the words below the panel. unit:
    in brackets behind them, unless `scaled` chooses one that fits."""
    found = {name: [cost(run) for run in runs] for name, cost in costs.items()}
    figure = style.new_figure(AROUND + 0.1 + BAR * len(runs))
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    ys = list(range(len(runs)))
    colours = [look(run.scheme).colour for run in runs]
    for axes, (name, own) in zip(panels, found.items(), strict=True):
        values, absent = [c.value for c in own], [y for y in ys if own[y].why == NO_CLOUD]
        fitting = plot_bars(axes, ys, values, colours, scaled, absent)
        axes.set_xlabel(f"{name}{fitting or unit}")
    panels[0].set_yticks(ys, [look(run.scheme).label for run in runs], size=6.5)
    panels[0].set_ylim(len(runs) - 0.4, -0.6)
    style.add_title(figure, f"{title}, {subject(runs[0])}, {title_of(_in_context(runs))}")
    return Drawn(figure, _table(runs, found, title, unit), _notes(title, runs, found))


def of_cloud(run: SplitRun, cost: Callable[[SplitRun, str], Cost]) -> Cost:
    """That of the cloud, where one takes part."""
    return cost(run, "cloud") if sends(run.scheme) else Cost(math.nan, NO_CLOUD)


def _in_context(runs: Sequence[SplitRun]) -> SplitRun:
    """A run that is in the context of the figure: one that sends nothing is in none."""
    return next((run for run in runs if sends(run.scheme)), runs[0])


def _table(
    runs: Sequence[SplitRun], found: Mapping[str, Sequence[Cost]], title: str, unit: str
) -> pd.DataFrame:
    rows = []
    for name, costs in found.items():
        for run, cost in zip(runs, costs, strict=True):
            values = {"side": name, "quantity": f"{title}{unit}", "y": cost.value}
            rows.append(run.row(look(run.scheme).label, values | {"missing": cost.why}))
    return pd.DataFrame(rows)


def _notes(title: str, runs: Sequence[SplitRun], found: Mapping[str, Sequence[Cost]]) -> list[str]:
    lines = []
    for name, costs in found.items():
        named = [(look(run.scheme).label, cost) for run, cost in zip(runs, costs, strict=True)]
        named = [(label, cost) for label, cost in named if cost.why != NO_CLOUD]
        lines += measured.missing(f"{title.lower()} of {name.lower()}", named)
    return lines
