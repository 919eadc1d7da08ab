"""Kind `selections`: which tensors were trained in each epoch, as a map of epoch and tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from core.errors import ConfigError
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Run, Settings

ROW, AROUND = 0.15, 1.1  # inches of an epoch, and of title and axes
ABOVE = 6  # points from the map to what is written above it

Map = NDArray[np.bool_]  # (epochs, tensors)


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw a row per epoch and a column per tensor, from the input to the output."""
    if len(runs) != 1:
        folders = ", ".join(str(run.folder) for run in runs)
        raise ConfigError(f"{len(runs)} runs, kind selections draws one: {folders}")
    (run,) = runs
    names: list[str] = run.recorded("tensors")
    selected, since = selections(run, len(names))
    head = prediction_layer(names)
    figure = style.new_figure(AROUND + ROW * len(selected))
    axes = figure.subplots()
    look = style.look(run.scheme)
    _plot(axes, selected, look.colour)
    _mark_selections(axes, since)
    _mark_head(axes, head)
    _count(axes, selected)
    model, data = style.human(run.model), style.human(run.dataset)
    label = style.label(run.scheme, run.rho)
    style.add_title(figure, f"Trained tensors, {label}, {model} on {data}")
    notes = ["dark: trained in that epoch · lines between epochs: a new selection"]
    return Drawn(figure, _table(run, names, selected, since, head), notes)


def selections(run: Run, tensors: int) -> tuple[Map, list[int]]:
    """Whether each tensor was trained in each epoch, shape (epochs, tensors), and the epoch of the
    selection that held then. Raises ConfigError for a scheme that selects nothing."""
    if not run.result.get("selections"):
        raise ConfigError(f"{run.folder} ran scheme {run.scheme}, which selects no tensors")
    chosen = {s["epoch"]: s["tensors"] for s in run.result["selections"]}
    mask, since = np.zeros((len(run.epochs), tensors), dtype=bool), []
    for row in range(len(run.epochs)):
        since.append(max(epoch for epoch in chosen if epoch <= row + 1))
        mask[row, chosen[since[-1]]] = True
    return mask, since


def prediction_layer(names: Sequence[str]) -> list[bool]:
    """Which tensors are of the last layer, by the part of the name that tensors of a layer share
    (`head/kernel`, `head.weight`)."""
    layers = [name.replace(".", "/").rpartition("/")[0] for name in names]
    return [layer == layers[-1] for layer in layers]


def _plot(axes: Axes, selected: Map, colour: str) -> None:
    """Bars over runs of selected tensors: sharp at any size, unlike an image."""
    epochs, tensors = selected.shape
    for row, chosen in enumerate(selected):
        axes.broken_barh([(0.5, tensors)], (row + 0.55, 0.9), facecolor="#ebebeb", linewidth=0)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], chosen, [0]))))
        spans = [(a + 0.5, b - a) for a, b in edges.reshape(-1, 2)]
        axes.broken_barh(spans, (row + 0.55, 0.9), facecolor=colour, linewidth=0)
    axes.set_xlim(0.5, tensors + 0.5)
    axes.set_ylim(epochs + 0.5, 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.grid(visible=False)
    axes.set_xlabel(f"Tensor, from the input (1) to the output ({tensors})")
    axes.set_ylabel("Epoch")


def _mark_selections(axes: Axes, since: Sequence[int]) -> None:
    for epoch in sorted(set(since) - {1}):
        axes.axhline(epoch - 0.5, color="black", linewidth=0.6)


def _mark_head(axes: Axes, head: Sequence[bool]) -> None:
    """A bar above the tensors of the prediction layer."""
    first, last = head.index(True) + 0.5, len(head) + 0.5
    figure: Any = axes.figure
    raised = ScaledTranslation(0, ABOVE / 72, figure.dpi_scale_trans)
    above = axes.get_xaxis_transform() + raised
    axes.plot([first, last], [1, 1], transform=above, color="black", lw=1.6, clip_on=False)
    axes.annotate(
        "prediction layer", (first, 1), (-3, 0), xycoords=above, textcoords="offset points",
        ha="right", va="center", size=6.5,
    )  # fmt: skip


def _count(axes: Axes, selected: Map) -> None:
    """The number of trained tensors behind each row."""
    counts = axes.twinx()
    counts.set_ylim(axes.get_ylim())
    rows = range(1, len(selected) + 1)
    counts.set_yticks(rows, [str(chosen.sum()) for chosen in selected])
    counts.tick_params(length=0)
    counts.grid(visible=False)
    counts.annotate(
        "trained", (1, 1), (4, ABOVE), xycoords="axes fraction", textcoords="offset points",
        va="center", size=6.5,
    )  # fmt: skip


def _table(
    run: Run, names: Sequence[str], selected: Map, since: Sequence[int], head: Sequence[bool]
) -> pd.DataFrame:
    rows = []
    for row, chosen in enumerate(selected):
        for place, name in enumerate(names):
            values = {
                "epoch": row + 1,
                "selected_in": since[row],
                "tensor": place + 1,
                "name": name,
                "head": int(head[place]),
                "selected": int(chosen[place]),
            }
            rows.append(run.row(style.label(run.scheme, run.rho), values))
    return pd.DataFrame(rows)
