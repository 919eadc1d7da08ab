"""Kind `split_throughput`: seconds per step of every scheme in every context, as grouped bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import HATCHES, alone_notes, look, rates_of, subject, title_of
from core.figures.split_matching import run_in
from core.figures.split_results import SplitRun

ONE_COLUMN, LEVEL = 14, 9  # bars and gaps that fit it, and above which numbers lie side by side
LOGARITHMIC = 15  # longest over shortest bar from which on the axis is logarithmic
ROOM = 0.3  # of the height of the bars, for the numbers above them
GAP = 1.2  # bars between two groups
HEIGHT = 2.6  # inches


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw a group of bars per context and a bar per scheme, with quartiles."""
    contexts, schemes = entry["contexts"], entry["schemes"]
    table = _table(contexts, schemes, runs)
    places = len(contexts) * (len(schemes) + GAP)
    figure = style.new_figure(HEIGHT, style.WIDTH if places <= ONE_COLUMN else style.WIDE)
    axes = figure.subplots()
    bars(axes, table, schemes, turned=places > LEVEL)
    fit(axes, table)
    names = []
    for context in contexts:
        run = next((r for r in runs if r.context == context), runs[0])
        names.append(f"{title_of(run)}\n{rates_of(run)}".rstrip())
    name_groups(axes, names, len(schemes))
    axes.set_ylabel("Training time per step (s)")
    style.add_legend(figure, axes)
    style.add_title(figure, f"Time per training step, {subject(runs[0])}")
    notes = [
        "bars: median in steady state (first third of the steps, ends of epochs and moves left "
        "out), over rounds of K + 1 steps · lines: quartiles",
        style.SEPARATOR.join(["below the contexts: Mbit/s, up / down", *alone_notes(runs)]),
    ]
    return Drawn(figure, table, notes)


def _table(
    contexts: Sequence[str], schemes: Sequence[str], runs: Sequence[SplitRun]
) -> pd.DataFrame:
    rows = []
    for group, context in enumerate(contexts):
        for scheme in schemes:
            run = run_in(runs, context, scheme)
            values = {"group": group, "drawn in": context, **run.steady().values()}
            rows.append(run.row(look(scheme).label, values))
    return pd.DataFrame(rows)


def bars(axes: Axes, table: pd.DataFrame, schemes: Sequence[str], turned: bool) -> None:
    """Bars side by side, from rows with group, scheme, `seconds per step` and its quartiles.
    turned: whether the numbers above them are, to need less room."""
    for place, scheme in enumerate(schemes):
        own, rows = look(scheme), table[table["scheme"] == scheme]
        x = rows["group"] * (len(schemes) + GAP) + place
        y, low, high = (
            rows[c].to_numpy() for c in ("seconds per step", "lower quartile", "upper quartile")
        )
        axes.bar(
            x, y, width=0.86, label=own.label, color=own.colour, edgecolor="white", linewidth=0,
            hatch=HATCHES[place % len(HATCHES)],
            yerr=[y - low, high - y], error_kw={"linewidth": 0.7, "ecolor": "#555555"},
        )  # fmt: skip
        for at, value, top in zip(x, y, high, strict=True):
            axes.annotate(
                style.number(value), (at, top), (0, 2), textcoords="offset points",
                rotation=90 if turned else 0, ha="center", va="bottom", size=5.5,
            )  # fmt: skip


def fit(axes: Axes, table: pd.DataFrame) -> None:
    """An axis for the bars of a table, logarithmic where one is many times as long as another."""
    shortest, longest = table["seconds per step"].min(), table["seconds per step"].max()
    top = table["upper quartile"].max()
    if longest > LOGARITHMIC * shortest > 0:
        axes.set_yscale("log")
        bottom = shortest / 2
        axes.set_ylim(bottom, bottom * (top / bottom) ** (1 + ROOM))
        axes.yaxis.set_major_formatter(style.plain)
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, (1 + ROOM) * top)


def name_groups(axes: Axes, names: Sequence[str], bars: int) -> None:
    """Write the names of groups below the middle of each."""
    middles = [group * (bars + GAP) + (bars - 1) / 2 for group in range(len(names))]
    axes.set_xticks(middles, names)
    axes.set_xlim(-0.9, middles[-1] + (bars - 1) / 2 + 0.9)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
