"""Kind `epochs`: multiply-adds of each epoch, one curve per scheme and budget."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Run, Settings


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw what an epoch costs in 10¹² multiply-adds, epoch by epoch."""
    figure = style.new_figure()
    axes = figure.subplots()
    rows = []
    for run, look in zip(runs, style.looks(runs), strict=True):
        epochs = run.epochs["epoch"]
        axes.plot(epochs, run.teraflops, **style.curve(look))
        for epoch, value in zip(epochs, run.teraflops, strict=True):
            values = {"epoch": epoch, "quantity": "teraflops (multiply-adds)", "y": value}
            rows.append(run.row(look.label, values))
    axes.set_ylim(0, 1.06 * max(run.teraflops.max() for run in runs) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Epoch")
    axes.set_ylabel("TFLOPs of an epoch\n(multiply-adds × 10¹²)")
    style.add_legend(figure, axes)
    model, data = (style.human(settings.ran(entry[key][0])) for key in ("model", "dataset"))
    style.add_title(figure, f"Training TFLOPs of each epoch, {model} on {data}")
    return Drawn(figure, pd.DataFrame(rows), ["multiply-adds counted in the graph of the step"])
