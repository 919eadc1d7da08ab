"""Kind `split_codecs`: accuracy against the bytes that a step sends up, a marker per codec."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from core.figures import style
from core.figures.curves import QUANTITIES, limits
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import MIB, look, subject, title_of
from core.figures.split_results import SplitRun

EXACT, WITHOUT = "none", "none"  # the codec, and the error feedback, that do nothing
BYTES, ACCURACY = "up_mib per step", "best test_accuracy (%)"


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw each codec with and without error feedback; features as they are give a line."""
    table = _table(runs)
    figure = style.new_figure()
    axes = figure.subplots()
    exact = table[table["uplink"] == EXACT]
    names = [name for name in dict.fromkeys(table["uplink"]) if name != EXACT]
    for number, name in enumerate(names):
        _plot(axes, table[table["uplink"] == name], number, name)
    if len(exact):
        _line(axes, exact.iloc[0])
    low, high = limits(table[ACCURACY], QUANTITIES["test_accuracy"])
    axes.set_ylim(low, high)
    _scale(axes, table)
    axes.set_xlabel("Sent up per step (MiB)")
    axes.set_ylabel("Test accuracy,\nbest epoch (%)")
    style.add_legend(figure, axes, _feedback_key(table[table["uplink"] != EXACT]))
    style.add_title(figure, f"Codecs of features, {subject(runs[0])}, {title_of(runs[0])}")
    return Drawn(figure, table, ["bytes of tensors, headers left out"])


def _table(runs: Sequence[SplitRun]) -> pd.DataFrame:
    rows = []
    for run in runs:
        values = {key: run.setting(key) for key in ("uplink", "feedback")}
        values |= {BYTES: run.up_bytes / MIB, ACCURACY: run.best_accuracy}
        rows.append(run.row(look(run.scheme).label, values))
    return pd.DataFrame(rows)


def _plot(axes: Axes, rows: pd.DataFrame, number: int, name: str) -> None:
    """One codec: filled with error feedback, open without, a thin line between them."""
    own = style.SERIES[1 + number % (len(style.SERIES) - 1)]
    axes.plot(rows[BYTES], rows[ACCURACY], color=own.colour, linewidth=0.6, zorder=1.8)
    for row in rows.to_dict("records"):
        filled = row["feedback"] != WITHOUT
        axes.plot(
            [row[BYTES]], [row[ACCURACY]], marker=own.marker, markersize=6.5, linestyle="",
            color=own.colour, markerfacecolor=own.colour if filled else "white", clip_on=False,
            markeredgewidth=1.1,
        )  # fmt: skip
    axes.plot([], [], marker=own.marker, linestyle="", color=own.colour, label=name, markersize=5.5)


def _line(axes: Axes, exact: pd.Series) -> None:
    label = f"as they are ({style.number(exact[BYTES])} MiB)"
    axes.axhline(exact[ACCURACY], color="black", linewidth=1, linestyle="--", label=label)


def _feedback_key(rows: pd.DataFrame) -> list[Line2D]:
    """What filled and open mean, for the legend."""
    handles = []
    for feedback in dict.fromkeys(rows["feedback"]):
        filled = feedback != WITHOUT
        label = f"error feedback: {feedback}" if filled else "without error feedback"
        handles.append(
            Line2D(
                [], [], marker="o", linestyle="", color="#666666", label=label, markersize=5.5,
                markerfacecolor="#666666" if filled else "white",
            )
        )  # fmt: skip
    return handles


def _scale(axes: Axes, table: pd.DataFrame) -> None:
    """A logarithmic axis with some room around the points, the uncompressed size included."""
    low, high = table[BYTES].min(), table[BYTES].max()
    axes.set_xscale("log")
    axes.set_xlim(low / 1.6, high * 1.6)
    style.few_ticks(axes.xaxis)
