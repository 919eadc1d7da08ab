"""Kind `tradeoff`: accuracy and overhead of selecting against how often or how well it is done."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from core.errors import ConfigError
from core.figures import style
from core.figures.curves import QUANTITIES, limits
from core.figures.draw import Drawn
from core.figures.results import Run, Settings

SETTINGS = {
    "rho": "Budget ρ",
    "interval": "Interval (epochs)",
    "probe_batches": "Probe batches",
}
# Each with the look of its row of panels.
ROWS = {
    "best test_accuracy (%)": ("Test accuracy,\nbest epoch (%)", 0),
    "overhead (% of training time)": ("Selecting, share of\ntraining time (%)", 1),
}
HEIGHT = 3.0  # inches


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw a column of two panels for each varied setting."""
    figure = style.new_figure(HEIGHT)
    panels = figure.subplots(2, len(entry["vary"]), sharex="col", sharey="row", squeeze=False)
    tables = []
    for column, sweep in enumerate(entry["vary"]):
        ((setting, values),) = sweep.items()
        table = _table(setting, _swept(setting, values, runs))
        tables.append(table)
        for axes, (quantity, (title, place)) in zip(panels[:, column], ROWS.items(), strict=True):
            points = table[table["quantity"] == quantity]
            _plot(axes, points, style.SERIES[place].colour, style.SERIES[place].marker)
            if column == 0:
                axes.set_ylabel(title)
        panels[1, column].set_xlabel(SETTINGS[setting])
    numbers = pd.concat(tables, ignore_index=True)
    accuracy, overheads = (numbers["y"][numbers["quantity"] == quantity] for quantity in ROWS)
    panels[0, 0].set_ylim(limits(accuracy, QUANTITIES["test_accuracy"]))
    panels[1, 0].set_ylim(0, 1.3 * overheads.max() or 1)
    model, data = (style.human(settings.ran(entry[key][0])) for key in ("model", "dataset"))
    style.add_title(figure, f"Accuracy and overhead of selecting, {model} on {data}")
    notes = [
        "selecting: probing importance, solving, and compiling the new step · testing excluded"
    ]
    return Drawn(figure, numbers, notes)


def _swept(setting: str, values: Sequence[float], runs: Sequence[Run]) -> list[Run]:
    """One run for each value, alike in all other settings.

    The runs of the other panels share at most one of them: for the value that is usual.
    """
    others = [key for key in SETTINGS if key != setting]
    found: dict[tuple[Any, ...], dict[float | None, Run]] = {}
    for run in runs:
        alike = (run.scheme, *(run.setting(key) for key in others))
        found.setdefault(alike, {})[run.setting(setting)] = run
    whole = [by for by in found.values() if all(value in by for value in values)]
    if len(whole) != 1:
        raise ConfigError(
            f"{len(whole)} groups of runs vary {setting} over {list(values)} and nothing else; "
            "kind tradeoff draws one"
        )
    return [whole[0][value] for value in sorted(values)]


def overhead(run: Run) -> float:
    """Selection, and compiling what was selected, in percent of the training time."""
    spent = run.epochs[["selection_s", "compile_s"]].to_numpy().sum() / 3600
    return float(100 * spent / run.hours(testing=False)[-1])


def _table(setting: str, runs: Sequence[Run]) -> pd.DataFrame:
    rows = []
    for run in runs:
        numbers = (run.best_accuracy, overhead(run))
        for quantity, number in zip(ROWS, numbers, strict=True):
            values = {"setting": setting, "value": run.setting(setting)}
            rows.append(
                run.row(
                    style.label(run.scheme, run.rho), values | {"quantity": quantity, "y": number}
                )
            )
    return pd.DataFrame(rows)


def _plot(axes: Axes, points: pd.DataFrame, colour: str, marker: str) -> None:
    """A curve over a logarithmic axis whose ticks are the values that ran."""
    values = points["value"].to_numpy(dtype=float)
    axes.plot(values, points["y"], color=colour, marker=marker, **style.CURVE)
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.2)
    for value, y in zip(values, points["y"].to_numpy(), strict=True):
        axes.annotate(
            style.number(y), (value, y), (0, 5), textcoords="offset points", ha="center", size=6.5,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.3},
        )  # fmt: skip
