"""Kind `split_profile`: what each block, the features at each cut and each codec take."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from core.elastic.schemes import Look
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import MIB
from core.figures.split_results import Profile
from core.models.blocks import NETWORKS

HEIGHT = 4.3  # inches
FLOAT32, TOKEN, PIXEL = 4, 4, 1  # bytes
PASSES = {"forward": "encode", "backward": "decode"}  # of a block, and the like of a codec
LOOKS = {
    ("edge", "forward"): Look("", "#b04357", "o", "-"),
    ("edge", "backward"): Look("", "#b04357", "D", "--"),
    ("cloud", "forward"): Look("", "#003f7f", "^", "-"),
    ("cloud", "backward"): Look("", "#003f7f", "s", "--"),
}


def draw(entry: Mapping[str, Any], profiles: Sequence[Profile], settings: Settings) -> Drawn:
    """Draw the time of each block above; the size of features and the codecs below."""
    sides = dict(zip(("edge", "cloud"), (p.content for p in profiles), strict=True))
    table = pd.DataFrame(_rows(sides, profiles))
    edge = sides["edge"]
    figure = style.new_figure(HEIGHT, style.WIDE)
    panels = figure.subplot_mosaic([["times", "times"], ["sizes", "codecs"]])
    _plot_times(panels["times"], table[table["what"].isin(["forward", "backward"])])
    _plot_sizes(panels["sizes"], table[table["what"] == "features"], edge["blocks"])
    _plot_codecs(panels["codecs"], table[table["what"].isin(["encode", "decode"])])
    style.add_legend(figure, panels["times"])
    model = style.human(edge["model"])
    images = edge["model"] not in NETWORKS or NETWORKS[edge["model"]].kind == "images"
    size = f"{edge['size']} {'pixels' if images else 'words'}"
    style.add_title(figure, f"Blocks of {model}, batch {edge['batch']}, {size}")
    notes = ["backward: with the update · cut 0: the raw inputs · medians of repeated steps"]
    return Drawn(figure, table, notes)


def _rows(sides: Mapping[str, Mapping[str, Any]], profiles: Sequence[Profile]) -> list[Any]:
    """Lines of the table: side, what, where (block, cut or codec), a number and its unit."""
    rows: list[dict[str, Any]] = []
    for (side, content), profile in zip(sides.items(), profiles, strict=True):
        slowdown = content["slowdown"]
        timing = "measured" if slowdown == 1 else "emulated"
        own = {"model": content["model"], "side": side}
        end = {"timing": timing, "profile": profile.path.as_posix()}
        for what in ("forward", "backward"):
            for block, seconds in enumerate(content[f"{what}_s"]):
                where = {"what": what, "at": str(block), "y": 1e3 * slowdown * seconds}
                rows.append({**own, **where, "unit": "ms", **end})
        for codec, seconds in content["codecs"].items():
            for what in ("encode", "decode"):
                value = 1e3 * slowdown * seconds[f"{what}_s_per_mib"]
                rows.append({**own, "what": what, "at": codec, "y": value, "unit": "ms/MiB", **end})
    first = next(iter(sides.values()))
    for cut, mib in enumerate(feature_mib(first)):
        rows.append(
            {
                "model": first["model"], "side": "both", "what": "features", "at": str(cut),
                "y": mib, "unit": "MiB", "timing": "", "profile": profiles[0].path.as_posix(),
            }
        )  # fmt: skip
    return rows


def feature_mib(content: Mapping[str, Any]) -> list[float]:
    """MiB that go up without a codec at each cut from 0 (raw inputs) to n − 1."""
    model, shapes = content["model"], content["feature_shapes"]
    text = model in NETWORKS and NETWORKS[model].kind == "text"
    sizes = [prod(shapes[0]) * (TOKEN if text else PIXEL)]
    sizes += [prod(shape) * FLOAT32 for shape in shapes[1:-1]]
    return [size / MIB for size in sizes]


def _plot_times(axes: Axes, table: pd.DataFrame) -> None:
    for (side, what), own in LOOKS.items():
        rows = table[(table["side"] == side) & (table["what"] == what)]
        label = f"{side}: {what}, {PASSES[what]}"
        axes.plot(rows["at"].astype(int), rows["y"], **style.curve(replace(own, label=label)))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(style.plain)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(20, integer=True))
    axes.set_xlabel("Block")
    axes.set_ylabel("Time (ms)")


def _plot_sizes(axes: Axes, table: pd.DataFrame, blocks: int) -> None:
    axes.bar(table["at"].astype(int), table["y"], width=0.8, color="#777777", linewidth=0)
    axes.set_xlim(-0.8, blocks + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("Cut (blocks on the edge)")
    axes.set_ylabel("Features (MiB)")


def _plot_codecs(axes: Axes, table: pd.DataFrame) -> None:
    """A row per codec; what a MiB of float32 takes."""
    names = list(dict.fromkeys(table["at"]))
    for place, ((side, what), own) in enumerate(LOOKS.items()):
        rows = table[(table["side"] == side) & (table["what"] == PASSES[what])]
        y = [names.index(name) + 0.18 * (place - 1.5) for name in rows["at"]]
        axes.plot(
            rows["y"], y, marker=own.marker, color=own.colour, linestyle="", markersize=3.8
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(style.plain)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Codec time (ms per MiB of float32)")
