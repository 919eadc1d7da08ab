"""Kind `bars`: accuracy, time, multiply-adds, energy and memory of whole runs, a bar each, grouped
by model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from core.figures import measured, style
from core.figures.draw import Drawn
from core.figures.measured import Cost
from core.figures.results import Run, Settings

BAR, HEADING = 0.165, 0.19  # inches that a bar and the name of a group take
AROUND = 0.75  # inches of title, axis and its label
ROOM = 1.34  # length of the axis over the longest bar, for the number behind it


@dataclass(frozen=True)
class Quantity:
    """value: of a run. title: of the figure. unit, column: on the axis and in the table. scaled:
    from the longest bar, the unit that fits and how much it is."""

    value: Callable[[Run], Cost]
    title: str
    unit: str
    column: str
    scaled: Callable[[float], tuple[str, float]] | None = None


def joules(longest: float) -> tuple[str, float]:
    """The unit that fits energies up to that many joules, and its joules."""
    return next(
        (unit, size)
        for unit, size, limit in (("J", 1.0, 1e4), ("kJ", 1e3, 1e7), ("MJ", 1e6, math.inf))
        if longest <= limit
    )


QUANTITIES = {
    "test_accuracy": Quantity(
        lambda run: Cost(run.best_accuracy),
        "test accuracy",
        "best epoch (%)",
        "best test_accuracy (%)",
    ),
    "hours": Quantity(
        lambda run: Cost(float(run.hours(testing=False)[-1])),
        "training time",
        "testing excluded",
        "hours, testing excluded",
        style.time_unit,
    ),
    "teraflops": Quantity(
        lambda run: Cost(float(run.teraflops.sum())),
        "training TFLOPs",
        "multiply-adds × 10¹²",
        "teraflops (multiply-adds)",
    ),
    "memory": Quantity(measured.memory, "peak memory", "processes (GiB)", "peak memory (GiB)"),
    "total_memory": Quantity(
        measured.total_memory,
        "peak memory",
        "with accelerator (GiB)",
        "peak memory with accelerator (GiB)",
    ),
    "energy": Quantity(
        measured.energy, "energy", "testing included", "energy, testing included (J)", joules
    ),
}


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw a bar per run for each quantity of the entry, in panels side by side."""
    groups = _groups(runs)
    table = _table(entry["y"], groups)
    heading = HEADING if len(groups) > 1 else 0
    figure = style.new_figure(AROUND + BAR * len(runs) + (heading + 0.3 * BAR) * len(groups))
    panels = figure.subplots(1, len(entry["y"]), sharey=True, squeeze=False)[0]
    places = _places(groups, heading / BAR)
    for axes, y in zip(panels, entry["y"], strict=True):
        _plot(axes, QUANTITIES[y], groups, places)
    _name_rows(panels[0], groups, places)
    titles = " and ".join(dict.fromkeys(QUANTITIES[y].title for y in entry["y"]))
    data = style.human(settings.ran(entry["dataset"][0]))
    model = style.human(runs[0].model) if len(groups) == 1 else "models"
    style.add_title(figure, f"{_sentence(titles)}, {model} on {data}")
    return Drawn(figure, table, _notes(entry["y"], groups))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each model."""
    models = dict.fromkeys(run.model for run in runs)
    return [[run for run in runs if run.model == model] for model in models]


def _longer(run: Run, group: Sequence[Run]) -> bool:
    return len(run.epochs) > min(len(other.epochs) for other in group)


def _label(run: Run, group: Sequence[Run]) -> str:
    """Name of a bar; one that trained longer than others of its group says so."""
    own = style.label(run.scheme, run.rho)
    return f"{own}, {len(run.epochs)} epochs" if _longer(run, group) else own


def _table(ys: Sequence[str], groups: Sequence[Sequence[Run]]) -> pd.DataFrame:
    rows = []
    for group in groups:
        for run in group:
            for quantity in (QUANTITIES[y] for y in ys):
                y, missing = quantity.value(run)
                values = {"quantity": quantity.column, "y": y, "missing": missing}
                rows.append(run.row(_label(run, group), {"epochs": len(run.epochs)} | values))
    return pd.DataFrame(rows)


def _places(groups: Sequence[Sequence[Run]], heading: float) -> list[list[float]]:
    """Where the bars of each group are, downwards in heights of a bar."""
    found, at = [], 0.0
    for group in groups:
        at += heading
        found.append([at + i for i in range(len(group))])
        at += len(group) + 0.3
    return found


def _plot(
    axes: Axes,
    quantity: Quantity,
    groups: Sequence[Sequence[Run]],
    places: Sequence[Sequence[float]],
) -> None:
    values = [quantity.value(run).value for group in groups for run in group]
    colours = [style.look(run.scheme).colour for group in groups for run in group]
    ys = [y for group in places for y in group]
    unit = plot_bars(axes, ys, values, colours, quantity.scaled)
    axes.set_xlabel(f"{_sentence(quantity.title)},\n{quantity.unit}{unit}")


def plot_bars(
    axes: Axes,
    ys: Sequence[float],
    values: Sequence[float],
    colours: Sequence[str],
    scaled: Callable[[float], tuple[str, float]] | None = None,
    absent: Sequence[float] = (),
) -> str:
    """Bars with their numbers at places; words in the place of a value that is NaN. absent: places
    where there is nothing of which a value could be known. Returns the unit that fits, in brackets,
    where there is a choice."""
    known = [value for value in values if not math.isnan(value)]
    unit, scale = scaled(max(known)) if scaled and known else ("", 1.0)
    for y, value, colour in zip(ys, values, colours, strict=True):
        if math.isnan(value):
            axes.annotate(
                "none" if y in absent else "not known", (0, y), (3, 0),
                textcoords="offset points", va="center", size=6.5, style="italic", color="#555555",
            )  # fmt: skip
            continue
        shown = value / scale
        axes.barh(y, shown, height=0.74, color=colour, linewidth=0)
        axes.annotate(
            style.number(shown), (shown, y), (2, 0), textcoords="offset points", va="center",
            size=6.5,
        )  # fmt: skip
    axes.set_xlim(0, (ROOM * max(known, default=0) or 1) / scale)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    if not known:
        axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    return f" ({unit})" if unit else ""


def _name_rows(
    axes: Axes, groups: Sequence[Sequence[Run]], places: Sequence[Sequence[float]]
) -> None:
    """Names of the bars, and of the groups where there are several, left of the axes."""
    ticks = [y for ys in places for y in ys]
    names = [_label(run, group) for group in groups for run in group]
    headings = [False] * len(names)
    if len(groups) > 1:
        ticks += [ys[0] - 1.05 for ys in places]
        names += [style.human(group[0].model) for group in groups]
        headings += [True] * len(groups)
    axes.set_yticks(ticks, names, size=6.5)
    for text, heading in zip(axes.get_yticklabels(), headings, strict=True):
        text.set_fontweight("bold" if heading else "normal")
    axes.set_ylim(max(ticks) + 0.6, min(ticks) - 0.6)


def _notes(ys: Sequence[str], groups: Sequence[Sequence[Run]]) -> list[str]:
    notes = []
    if "teraflops" in ys:
        notes.append("multiply-adds counted in the graph of the step")
    if "energy" in ys:
        notes += measured.meters([(style.label(r.scheme, r.rho), r) for g in groups for r in g])
    for quantity in (QUANTITIES[y] for y in ys):
        costs = [(style.label(r.scheme, r.rho), quantity.value(r)) for g in groups for r in g]
        what = quantity.column.rpartition(" (")[0].partition(",")[0]
        notes += measured.missing(what, costs)
    longer = [
        f"{style.label(run.scheme, run.rho)} of {style.human(run.model)} ({len(run.epochs)} epochs)"
        for group in groups
        for run in group
        if _longer(run, group)
    ]
    if longer:
        usual = sorted({min(len(run.epochs) for run in group) for group in groups})
        others = f"others {' or '.join(map(str, usual))} epochs"
        notes.append(style.SEPARATOR.join([f"trained longer: {', '.join(longer)}", others]))
    return notes
