"""Kind `split_decision`: what the decision engine saw of a link that changes, and what it did."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from core.errors import DataError
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import AGAIN, Settings
from core.figures.split_face import HATCHES, look, subject, title_of
from core.figures.split_results import LOADS, SplitRun
from core.models.blocks import NETWORKS
from core.split.contexts import Context
from core.split.traces import MBIT

HEIGHT = 3.9  # inches
POINTS = 2000  # of the asked rate
# Each with its colour, as asked and as estimated, and its line.
WAYS = {"up": ("#e0a9b1", "#b04357", "-"), "down": ("#9db4cf", "#003f7f", "--")}
GREYS = ("#ffffff", "#d0d0d0", "#a0a0a0", "#e8e8e8", "#b8b8b8")

Floats = NDArray[np.float64]


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw rates, cut and codecs over the training time, one panel below the other."""
    (run,) = runs
    choices = _choices(run)
    end = float(run.steps["seconds"].iloc[-1])
    unit, hours = style.time_unit(end / 3600)
    scale = 1 / (3600 * hours)
    figure = style.new_figure(HEIGHT, style.WIDE)
    rates, cuts, codecs = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1.5, 0.8]}
    )
    _plot_rates(rates, run, end, scale)
    _plot_cuts(cuts, run, choices, end, scale)
    bands = _plot_codecs(codecs, choices, end, scale)
    for axes in (rates, cuts, codecs):
        for choice in choices[1:]:
            axes.axvline(choice["seconds"] * scale, color="#555555", linewidth=0.6, linestyle=":")
    codecs.set_xlim(0, end * scale)
    codecs.set_xlabel(f"Training time ({unit})")
    style.add_legend(figure, rates, bands)
    style.add_title(figure, f"{look(run.scheme).label}, {subject(run)}, {title_of(run)}")
    return Drawn(figure, _table(run, choices), [_moves(choices), *_loads(run)])


def _choices(run: SplitRun) -> list[dict[str, Any]]:
    """Cut and codecs with the step and second from which they held, the start first."""
    path = run.folder / "result.json"
    choices = run.result.get("choices")
    if not choices:
        raise DataError(f"{path} has no choices; {AGAIN}")
    for choice in choices:
        missing = [key for key in ("step", "seconds", "cut", "uplink") if key not in choice]
        if missing:
            raise DataError(f"{path}: a choice has no {', '.join(missing)}; {AGAIN}")
    return list(choices)


def _moves(choices: Sequence[Mapping[str, Any]]) -> str:
    count = len(choices) - 1
    if not count:
        return "no decision changed cut or codecs"
    return f"dotted: {count} decision{'s' * (count > 1)} to change cut or codecs"


def _loads(run: SplitRun) -> list[str]:
    """How much longer than profiled the sides took at the end; nothing where no engine said."""
    edge, cloud, mutual = (run.steps[name].iloc[-1] for name in LOADS)
    if np.isnan(edge):
        return []
    said = f"at the end the edge took {edge:.2g}, the cloud {cloud:.2g} times as long as profiled"
    return [said + (f", {mutual:.2g} times that beside each other" if mutual > 1 else "")]


def link_seconds(run: SplitRun, seconds: Floats) -> Floats | None:
    """When that was since the first byte on the emulated link, from seconds of training.

    Tests and snapshots after each epoch lie between. None where that is not known: the run or the
    link was started again.
    """
    link, legs = run.result.get("link"), run.result.get("legs", [])
    if not link or len(legs) != 1 or link["began_unix"] is None:
        return None
    training = np.cumsum(run.epochs["training_s"].to_numpy())
    between = np.cumsum((run.epochs["testing_s"] + run.epochs["snapshot_s"]).to_numpy())
    start = legs[0]["began_unix"] - link["began_unix"]
    if start < 0:  # a link that began anew
        return None
    epoch = np.searchsorted(training, seconds, side="right").clip(max=len(training) - 1)
    before = np.concatenate([[0.0], between[:-1]])[epoch]
    return np.asarray(seconds + start + before, dtype=np.float64)


def _asked(run: SplitRun, seconds: Floats) -> dict[str, Floats]:
    """Rates that the link was asked to give, Mbit/s, at seconds of training; nothing where no rate
    is emulated, or nobody knows which one held."""
    context = Context.of(dict(run.spec["context"]))
    if not context.emulated:
        return {}
    at = link_seconds(run, seconds) if context.trace else seconds
    if at is None:
        return {}
    traces = zip(WAYS, context.traces(), strict=True)
    return {way: np.array([trace.rate(s) / MBIT for s in at]) for way, trace in traces}


def _plot_rates(axes: Axes, run: SplitRun, end: float, scale: float) -> None:
    seconds = np.linspace(0, end, POINTS)
    asked = _asked(run, seconds)
    for way, values in asked.items():
        label = f"{way}link, asked of the emulation"
        pale, _, line = WAYS[way]
        axes.plot(seconds * scale, values, line, color=pale, linewidth=0.8, label=label)
    for way, (_, colour, line) in WAYS.items():
        known = run.steps[run.steps[f"{way}_rate"].notna()]
        axes.plot(
            known["seconds"] * scale, known[f"{way}_rate"] / MBIT, line, color=colour,
            linewidth=1.4, label=f"{way}link, estimated",
        )  # fmt: skip
    axes.set_yscale("log")
    style.few_ticks(axes.yaxis)
    axes.set_ylabel("Rate (Mbit/s)")


def _plot_cuts(
    axes: Axes, run: SplitRun, choices: Sequence[Mapping[str, Any]], end: float, scale: float
) -> None:
    x = [choice["seconds"] * scale for choice in choices]
    y = [choice["cut"] for choice in choices]
    colour = look(run.scheme).colour
    axes.step([*x, end * scale], [*y, y[-1]], where="post", color=colour, linewidth=1.4)
    if len(choices) > 1:
        axes.plot(x[1:], y[1:], marker="o", linestyle="", **style.CURVE | {"color": colour})
    blocks = NETWORKS[run.model].blocks if run.model in NETWORKS else max(y)
    axes.set_ylim(-0.06 * blocks, 1.06 * blocks)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylabel("Blocks on\nthe edge")


def _plot_codecs(
    axes: Axes, choices: Sequence[Mapping[str, Any]], end: float, scale: float
) -> list[Patch]:
    """A band for each direction, codecs written where they fit; what the legend says of them."""
    ways = {"uplink": 1, "downlink": 0}
    names = list(dict.fromkeys(choice[way] for way in ways for choice in choices))
    ends = [*(choice["seconds"] for choice in choices[1:]), end]
    handles = []
    for number, name in enumerate(names):
        face: dict[str, Any] = {
            "facecolor": GREYS[number % len(GREYS)],
            "edgecolor": "#555555",
            "linewidth": 0.5,
        }
        face["hatch"] = HATCHES[number % (len(HATCHES) - 1)]
        for way, y in ways.items():
            spans = [
                (choice["seconds"] * scale, (stop - choice["seconds"]) * scale)
                for choice, stop in zip(choices, ends, strict=True)
                if choice[way] == name
            ]
            axes.broken_barh(spans, (y + 0.1, 0.8), **face)
            _write_codec(axes, name, spans, y + 0.5, end * scale)
        handles.append(Patch(label=f"codec {name}", **face))
    axes.set_yticks([y + 0.5 for y in ways.values()], ["up", "down"])
    axes.set_ylim(0, 2)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.set_ylabel("Codec")
    return handles


def _write_codec(
    axes: Axes, name: str, spans: Sequence[tuple[float, float]], y: float, whole: float
) -> None:
    inches = style.WIDE - 0.9  # of the axis, about
    for start, length in spans:
        if length / whole * inches > style.text_width(name, 6) + 0.1:
            axes.text(
                start + length / 2, y, name, ha="center", va="center", size=6,
                bbox={"facecolor": "white", "linewidth": 0, "pad": 0.8},
            )  # fmt: skip


def _table(run: SplitRun, choices: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A line for each step."""
    seconds = run.steps["seconds"].to_numpy(dtype=float)
    asked = _asked(run, seconds)
    moved = {choice["step"] for choice in choices[1:]}
    rows = []
    for number, step in enumerate(run.steps.to_dict("records")):
        values = {key: step[key] for key in ("step", "seconds", "cut", "uplink", "downlink")}
        values["first after a decision"] = int(step["step"] in moved)
        for way in WAYS:
            values[f"{way}link estimated (Mbit/s)"] = step[f"{way}_rate"] / MBIT
            values[f"{way}link asked (Mbit/s)"] = asked[way][number] if asked else np.nan
        for name in LOADS:
            values[name.replace("_", " ")] = step[name]
        rows.append(run.row(look(run.scheme).label, values))
    return pd.DataFrame(rows)
