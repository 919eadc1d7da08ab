"""Kind `split_replay`: speed and accuracy against how many steps late a gradient may be applied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from core.figures import style
from core.figures.curves import QUANTITIES, limits
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import look, subject, title_of
from core.figures.split_results import SplitRun

HEIGHT = 3.0  # inches
SPEED, ACCURACY = "seconds per step", "best test_accuracy (%)"


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw two panels over K, a curve per context."""
    (scheme,) = entry["schemes"]
    contexts = {run.context: title_of(run) for run in runs}
    table = _table(runs)
    figure = style.new_figure(HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for number, context in enumerate(contexts):
        rows = table[table["context"] == context].sort_values("staleness")
        shape = look(scheme) if len(contexts) == 1 else style.SERIES[number % len(style.SERIES)]
        own = style.curve(replace(shape, label=contexts[context]))
        k, speed = rows["staleness"], rows[SPEED]
        errors = [speed - rows["lower quartile"], rows["upper quartile"] - speed]
        upper.errorbar(k, speed, yerr=errors, elinewidth=0.7, ecolor="#555555", **own)
        lower.plot(k, rows[ACCURACY], **own)
        if len(contexts) == 1:
            _write(upper, k, speed, rows["upper quartile"])
            _write(lower, k, rows[ACCURACY], rows[ACCURACY])
    upper.set_ylim(0, 1.25 * table["upper quartile"].max())
    upper.set_ylabel("Training time\nper step (s)")
    low, high = limits(table[ACCURACY], QUANTITIES["test_accuracy"])
    lower.set_ylim(low, min(high + 0.15 * (high - low), 100))
    lower.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    lower.set_ylabel("Test accuracy,\nbest epoch (%)")
    lower.set_xticks(sorted(set(table["staleness"])))
    lower.margins(x=0.08)
    lower.set_xlabel("Steps that a gradient may be late, K")
    place = f", {next(iter(contexts.values()))}"
    if len(contexts) > 1:
        style.add_legend(figure, lower)
        place = ""
    style.add_title(figure, f"{look(scheme).label}, {subject(runs[0])}{place}")
    notes = [
        "time: median in steady state, over rounds of K + 1 steps; lines: quartiles · "
        "K = 0: serial, nothing is replayed"
    ]
    return Drawn(figure, table, notes)


def _table(runs: Sequence[SplitRun]) -> pd.DataFrame:
    rows = []
    for run in runs:
        values = {"staleness": run.setting("staleness"), **run.steady().values()}
        values[ACCURACY] = run.best_accuracy
        rows.append(run.row(look(run.scheme).label, values))
    return pd.DataFrame(rows)


def _write(axes: Axes, x: pd.Series, y: pd.Series, above: pd.Series) -> None:
    """The numbers over their points."""
    for place, value, top in zip(x, y, above, strict=True):
        axes.annotate(
            style.number(value), (place, top), (0, 4.5), textcoords="offset points", ha="center",
            size=6.5, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.3},
        )  # fmt: skip
