"""Kind `split_weights`: how the weights of each block are distributed as training goes on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from core.errors import ConfigError, DataError
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import AGAIN, Settings
from core.figures.split_face import look, subject, title_of
from core.figures.split_results import SplitRun
from core.split.distributions import QUANTILES

COLUMNS = 5  # of panels, at most
PANEL, AROUND = 0.95, 0.45  # inches of a row of panels, and of title and axis
# Quantiles between which a band is drawn, and how much of the colour is in it.
BANDS = {(0.01, 0.99): 0.2, (0.05, 0.95): 0.35, (0.25, 0.75): 0.6}
COLOUR = "#003f7f"


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw a panel for each block: bands between quantiles over the epochs."""
    (run,) = runs
    table = _table(run)
    blocks = sorted(set(table["block"]))
    columns = min(COLUMNS, len(blocks))
    rows = math.ceil(len(blocks) / columns)
    height = max(style.HEIGHT, AROUND + PANEL * rows)
    figure = style.new_figure(height, style.WIDTH if columns < 3 else style.WIDE)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    panels = list(grid.flat)
    for axes, block in zip(panels, blocks, strict=False):
        _plot(axes, table[table["block"] == block])
        axes.set_title(f"block {block}", size=6.8, pad=2)
    for axes in panels[len(blocks) - columns : len(blocks)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("Epoch", size=6.5, labelpad=1)
    for axes in grid[:, 0]:
        axes.set_ylabel("Weight", size=6.5)
    for axes in panels[len(blocks) :]:
        axes.remove()
    style.add_legend(figure, panels[0])
    style.add_title(figure, f"Weights of each block, {subject(run)}, {title_of(run)}")
    notes = [f"{look(run.scheme).label} · all weights and biases of a block, each panel to scale"]
    return Drawn(figure, table, notes)


def _table(run: SplitRun) -> pd.DataFrame:
    """A line for each epoch and block."""
    kept = run.result.get("weights") or []
    if len(kept) < 2:
        raise ConfigError(
            f"{run.folder} kept the weights of {len(kept)} epochs, kind split_weights needs two or "
            "more; list them in training.weights_after"
        )
    rows = []
    for each in kept:
        for block, numbers in sorted(each["blocks"].items(), key=lambda item: int(item[0])):
            if len(numbers) != 2 + len(QUANTILES):
                raise DataError(
                    f"{run.folder / 'result.json'}: the weights of block {block} after epoch "
                    f"{each['epoch']} have {len(numbers)} numbers, not {2 + len(QUANTILES)}; "
                    f"{AGAIN}"
                )
            values = {"epoch": each["epoch"], "block": int(block)}
            values |= {"mean": numbers[0], "deviation": numbers[1]}
            values |= {f"quantile {q:g}": n for q, n in zip(QUANTILES, numbers[2:], strict=True)}
            rows.append(run.row(look(run.scheme).label, values))
    return pd.DataFrame(rows)


def _plot(axes: Axes, rows: pd.DataFrame) -> None:
    for (low, high), part in BANDS.items():
        axes.fill_between(
            rows["epoch"], rows[f"quantile {low:g}"], rows[f"quantile {high:g}"], color=COLOUR,
            alpha=part, linewidth=0, label=f"{100 * low:g} to {100 * high:g} % of the weights",
        )  # fmt: skip
    axes.plot(rows["epoch"], rows["quantile 0.5"], color="black", linewidth=0.9, label="median")
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=5.8, pad=1.5)
