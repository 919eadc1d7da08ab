"""Kind `measure_trace`: power, memory and temperature of one run over time, with its events."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.errors import ConfigError
from core.figures import measured, style
from core.figures.draw import Drawn
from core.figures.results import Finished, Run, Settings
from core.measure import trace
from core.measure.recorder import FILE
from core.measure.trace import Row

HEIGHT = 4.0  # inches
COLUMNS = {"watts": "Power (W)", "mib": "Memory (GiB)", "celsius": "Temperature (°C)"}
SCALES = {"mib": 1 / 1024, "accelerator_mib": 1 / 1024}
NAMES = {"watts": "power", "mib": "memory", "celsius": "temperature"}
SIDES = {"": ("#003f7f", "-"), "edge": ("#b04357", "-"), "cloud": ("#003f7f", "--")}
# Lines of events: label, colour, pattern.
EVENTS: dict[str, tuple[str, str, Any]] = {
    trace.EPOCH: ("end of an epoch", "#555555", ":"),
    trace.SELECTION: ("selection", "#bb8b14", "-."),
    trace.CUT: ("cut or codecs moved", "#bb8b14", "-."),
    trace.SNAPSHOT: ("snapshot", "#9a9a9a", (0, (1, 3))),
}
RESUMED = ("resumed", "#7a5195", "--")
THROTTLED = "#f3c9c0"

Traces = Mapping[str, Sequence[Row]]


def draw(entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings) -> Drawn:
    """Draw one panel below the other; where a quantity is not known, its panel says why."""
    if len(runs) != 1:
        folders = ", ".join(str(run.folder) for run in runs)
        raise ConfigError(f"{len(runs)} runs, kind measure_trace draws one: {folders}")
    (run,) = runs
    figure, table, notes = draw_traces(run, {"": read_trace(run)}, run.timing)
    model, data = style.human(run.model), style.human(run.dataset)
    label = style.label(run.scheme, run.rho)
    style.add_title(figure, f"What a run costs over time, {label}, {model} on {data}")
    return Drawn(figure, table, notes)


def read_trace(run: Finished, name: str = FILE) -> list[Row]:
    """The rows of a run; none where it was trained without recording. Raises DataError for a file
    that is damaged."""
    path = run.folder / name
    return trace.load(path) if path.exists() else []


def draw_traces(
    run: Finished, traces: Traces, timing: str
) -> tuple[Figure, pd.DataFrame, list[str]]:
    """Panels, table and notes. traces: rows by side, the first one that of the events. timing: what
    the run's times are."""
    longest = max((rows[-1].seconds for rows in traces.values() if rows), default=0.0)
    unit, hours = style.time_unit(longest / 3600)
    figure = style.new_figure(HEIGHT, style.WIDE)
    panels = figure.subplots(len(COLUMNS), 1, sharex=True)
    for axes, (column, title) in zip(panels, COLUMNS.items(), strict=True):
        axes.set_ylabel(title)
        if not _plot(axes, traces, column, 3600 * hours):
            _say_missing(axes, f"no {NAMES[column]}: {_why(run, column, any(traces.values()))}")
    first = next(iter(traces.values()))
    handles = _mark_events(panels, first, 3600 * hours)
    panels[-1].set_xlim(0, longest / (3600 * hours) or 1)
    panels[-1].set_xlabel(f"Time since the start, stops left out ({unit})")
    style.add_legend(figure, panels[1], handles)
    named = [("", run)]
    notes = [*measured.meters(named), *(_shaded(first))]
    return figure, _table(run, traces, timing), notes


def _plot(axes: Axes, traces: Traces, column: str, scale: float) -> bool:
    """A line for each side; whether anything is known."""
    known = False
    drawn = [column, *(["accelerator_mib"] if column == "mib" else [])]
    for (side, rows), name in product(traces.items(), drawn):
        points = [
            (row.seconds / scale, getattr(row, name) * SCALES.get(name, 1))
            for row in trace.samples(rows)
            if getattr(row, name) is not None
        ]
        if not points:
            continue
        known = True
        colour, line = SIDES[side]
        if name != column:
            line = ":"
        x, y = np.array(points).T
        words = [side, *(["accelerator"] if name != column else [])]
        label = " ".join(filter(None, words)) if column == "mib" else ""
        axes.plot(x, y, linestyle=line, color=colour, linewidth=1.0, label=label or None)
    if known and column != "celsius":
        axes.set_ylim(bottom=0)
    return known


def _say_missing(axes: Axes, text: str) -> None:
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.text(
        0.5, 0.5, textwrap.fill(text, 100), transform=axes.transAxes, ha="center", va="center",
        size=6.5, style="italic", color="#555555",
        bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5},
    )  # fmt: skip


def _why(run: Finished, column: str, traced: bool) -> str:
    if not traced:
        return f"{FILE} is not in the folder of the run: {measured.OLD}, or without sampling"
    if column == "watts":
        return measured.energy(run).why or "no meter gave it"
    return "this machine shows no sensor of it"


def _mark_events(axes: Sequence[Axes], rows: Sequence[Row], scale: float) -> list[Line2D]:
    """Vertical lines, and shade where the device was throttled; what the legend says of them."""
    handles: dict[str, Line2D] = {}
    for row in rows:
        look = EVENTS.get(row.event)
        if row.event == trace.BEGIN and row.session > 1:
            look = RESUMED
        if look is None:
            continue
        label, colour, line = look
        for each in axes:
            each.axvline(row.seconds / scale, color=colour, linestyle=line, linewidth=0.7)
        handles[label] = Line2D([], [], color=colour, linestyle=line, linewidth=0.7, label=label)
    before = 0.0
    for row in trace.samples(rows):
        if row.throttled:
            for each in axes:
                each.axvspan(before / scale, row.seconds / scale, color=THROTTLED, linewidth=0)
        before = row.seconds
    return list(handles.values())


def _shaded(rows: Sequence[Row]) -> list[str]:
    reasons = dict.fromkeys(reason for row in rows for reason in row.throttled.split(";") if reason)
    return [f"shaded: throttled ({', '.join(reasons)})"] if reasons else []


def _table(run: Finished, traces: Traces, timing: str) -> pd.DataFrame:
    """A line per sample and per event."""
    rows = []
    for side, own in traces.items():
        for row in own:
            values = {
                "side": side,
                "session": row.session,
                "seconds": row.seconds,
                "power (W)": row.watts,
                "energy so far (J)": row.joules,
                "memory (MiB)": row.mib,
                "accelerator memory (MiB)": row.accelerator_mib,
                "cpu (%)": row.cpu_percent,
                "temperature (°C)": row.celsius,
                "clock (MHz)": row.mhz,
                "throttled": row.throttled,
                "event": row.event,
                "detail": row.detail,
            }
            rows.append(_row(run, timing, values))
    if not rows:
        rows.append(_row(run, timing, {}))
    return pd.DataFrame(rows)


def _row(run: Finished, timing: str, values: Mapping[str, Any]) -> dict[str, Any]:
    end = {"timing": timing, "run": run.folder.as_posix()}
    return {"model": run.model, "dataset": run.dataset, "scheme": run.scheme, **values, **end}
