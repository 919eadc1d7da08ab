"""Kind `din_auc`: test AUC against training time and against what was sent, a curve per scheme."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from core.figures import style
from core.figures.draw import Drawn
from core.figures.federated_results import FederatedRun, look
from core.figures.results import Settings

LEAST = 0.02  # span of the vertical axis


def draw(entry: Mapping[str, Any], runs: Sequence[FederatedRun], settings: Settings) -> Drawn:
    """Two panels, a point per epoch: the mean over seeds, and between which values they lie."""
    table = _table(runs, settings.testing)
    figure = style.new_figure(width=style.WIDE)
    left, right = figure.subplots(1, 2, sharey=True)
    unit, hours = style.time_unit(table["hours"].max())
    alone = []
    for depth, scheme in enumerate(entry["schemes"]):
        own, order = table[table["scheme"] == scheme], 3 - depth / len(entry["schemes"])
        _plot(left, own.assign(x=own["hours"] / hours), scheme, order)
        if own["sent (MiB)"].max() > 0:
            _plot(right, own.assign(x=own["sent (MiB)"]), scheme, order)
        else:
            alone.append(look(scheme).label)
            last = own[own["epoch"] == own["epoch"].max()]["test_auc"].mean()
            right.axhline(last, color=look(scheme).colour, linestyle=look(scheme).line, lw=0.9)
    low, high = table["test_auc"].min(), table["test_auc"].max()
    room = max(0.08 * (high - low), (LEAST - (high - low)) / 2)
    left.set_ylim(max(0.0, low - room), min(1.0, high + room))
    left.set_ylabel("Test AUC")
    for axes in (left, right):
        axes.set_xlim(left=0)
    counted = "included" if settings.testing else "excluded"
    left.set_xlabel(f"Training time, testing {counted} ({unit})")
    right.set_xlabel("Sent in training, all parties (MiB)")
    style.add_legend(figure, left)
    style.add_title(figure, f"Test AUC, {style.human(runs[0].model)} on "
                    f"{style.human(runs[0].dataset)}")  # fmt: skip
    notes = [f"{', '.join(alone)} sends nothing: a line at its last AUC"] if alone else []
    return Drawn(figure, table, notes)


def _table(runs: Sequence[FederatedRun], testing: bool) -> pd.DataFrame:
    rows = []
    for run in runs:
        points = zip(run.epochs["epoch"], run.hours(testing), run.sent, run.auc, strict=True)
        for epoch, hours, sent, auc in points:
            values = {"epoch": int(epoch), "hours": hours, "sent (MiB)": sent, "test_auc": auc}
            rows.append(run.row(values))
    return pd.DataFrame(rows)


def _plot(axes: Axes, own: pd.DataFrame, scheme: str, order: float) -> None:
    points = own.groupby("epoch")
    x, auc = points["x"].mean(), points["test_auc"]
    axes.plot(x, auc.mean(), zorder=order, **style.curve(look(scheme)))
    if own["seed"].nunique() > 1:
        low, high = np.asarray(auc.min()), np.asarray(auc.max())
        axes.fill_between(x, low, high, color=look(scheme).colour, alpha=0.15, lw=0)
