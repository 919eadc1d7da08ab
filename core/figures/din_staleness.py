"""Kind `din_staleness`: speed and test AUC against how many steps late a gradient is applied."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from core.figures import style
from core.figures.draw import Drawn
from core.figures.federated_results import FederatedRun, look
from core.figures.results import Settings

HEIGHT = 3.0  # inches
SPEED, AUC = "seconds per step", "last test_auc"


def draw(entry: Mapping[str, Any], runs: Sequence[FederatedRun], settings: Settings) -> Drawn:
    """Two panels over K, a curve per scheme: means over seeds, and between which values they
    lie."""
    rows = [run.row({SPEED: run.step_s, AUC: float(run.auc[-1])}) for run in runs]
    table = pd.DataFrame(rows)
    figure = style.new_figure(HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for scheme in entry["schemes"]:
        own = table[table["scheme"] == scheme]
        for axes, what in ((upper, SPEED), (lower, AUC)):
            _plot(axes, own, what, scheme)
    upper.set_ylim(0, 1.2 * table[SPEED].max())
    upper.set_ylabel("Training time\nper step (s)")
    lower.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    lower.set_ylabel("Test AUC,\nlast epoch")
    lower.set_xticks(sorted(set(table["K"])))
    lower.margins(x=0.08, y=0.3)
    lower.set_xlabel("Steps that a gradient is late, K")
    names = f"{look(entry['schemes'][0]).label}, " if len(entry["schemes"]) == 1 else ""
    if not names:
        style.add_legend(figure, lower)
    model, data = style.human(runs[0].model), style.human(runs[0].dataset)
    style.add_title(figure, f"{names}{model} on {data}")
    return Drawn(figure, table, ["K = 0: serial, nothing is replayed"])


def _plot(axes: Axes, own: pd.DataFrame, what: str, scheme: str) -> None:
    points = own.groupby("K")[what]
    mean = points.mean()
    spread = [mean - points.min(), points.max() - mean]
    axes.errorbar(
        mean.index, mean, yerr=spread, elinewidth=0.7, ecolor="#555555", **style.curve(look(scheme))
    )
