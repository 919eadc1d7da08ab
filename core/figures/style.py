"""One look for all figures: sizes, fonts, the look of each scheme, provenance, saving.

A figure is one column wide (3.5 in; 7 in where that cannot be read), has its fonts embedded, can
be read in grey and by colour-blind readers, and drawing it twice gives the same bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from core.elastic.schemes import SCHEMES, Look
from core.errors import ConfigError
from core.figures.results import TIMINGS, Run
from core.files import replacing
from core.models import MODELS
from core.models.blocks import NETWORKS

WIDTH, WIDE = 3.5, 7.0  # inches: one column, two columns
HEIGHT = 2.4  # inches without legend and note
MARGIN = 0.04  # inches around everything
PNG_DPI = 200
NOTE_SIZE, NOTE_SPACING = 6.0, 1.3  # points, lines
SEPARATOR = " · "  # between facts of a note
LEGEND_SIZE = 6.8  # points
LEGEND_LINE = 0.135  # inches

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every host
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "figure.titlesize": 8.5,
    "legend.fontsize": LEGEND_SIZE,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.parse_math": False,  # names may hold a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3,  # a whole pattern of dashes
    "legend.columnspacing": 1,
    "legend.borderpad": 0.2,
    "legend.labelspacing": 0.4,
    "pdf.fonttype": 42,
    "pdf.use14corefonts": False,
    "savefig.bbox": None,
}

# Of every curve. The white edge keeps markers that overlap apart.
CURVE: dict[str, Any] = {
    "linewidth": 1.2,
    "markersize": 4.8,
    "markeredgecolor": "white",
    "markeredgewidth": 0.4,
    "clip_on": False,  # a marker at 100 % is whole
}

# Of several budgets of one scheme, in rising order: markers, and how much white (or, below zero,
# black) is in the colour.
BUDGET_MARKERS = ("o", "v", "P", "X", "*", "h", "<", "d")
DARKEST, LIGHTEST = -0.5, 0.25

# Of curves that are no schemes.
SERIES = (
    Look("", "#000000", "s", "-"),
    Look("", "#b04357", "o", "--"),
    Look("", "#003f7f", "D", "-."),
    Look("", "#bb8b14", "^", ":"),
    Look("", "#5b7f3a", "v", (0, (5, 1, 1, 1, 1, 1))),
    Look("", "#7a5195", "P", (0, (1, 1))),
)

# Units of time in hours, each with the hours up to which it is used.
TIME_UNITS = (("s", 1 / 3600, 2 / 60), ("min", 1 / 60, 2), ("h", 1, float("inf")))

# Names of the published devices, and what their systems call them.
DEVICES = {
    "jetson_tx2": ("Jetson TX2", "Jetson TX2"),
    "raspberry_pi_4b": ("Raspberry Pi 4B", "Raspberry Pi 4 Model B"),
}

# Names that readers know. Others appear as they are in the configuration.
NAMES = {name: each.title for table in (MODELS, NETWORKS) for name, each in table.items()} | {
    "caltech_birds2011": "CUB-200-2011",
    "oxford_iiit_pet": "Oxford-IIIT Pet",
    "stanford_dogs": "Stanford Dogs",
    "elpv_mono": "elpv (mono)",
    "elpv_poly": "elpv (poly)",
    "cifar10": "CIFAR-10",
    "imdb": "IMDb",
    "movie_snippets": "movie snippets",
    "tiny_imagenet": "Tiny ImageNet",
    "tiny_imagenet_20": "Tiny ImageNet, 20 classes",
    "chairs_rendered": "parametric chairs",
    "seeing_3d_chairs": "Seeing 3D chairs",
    "din": "DIN",
    "movielens_100k": "MovieLens 100K",
    "movielens_1m": "MovieLens 1M",
}


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save in this style, whatever the reader's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def new_figure(height: float = HEIGHT, width: float = WIDTH) -> Figure:
    """An empty figure, inches, drawn without a display. Its note comes below and adds to it."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=MARGIN, h_pad=MARGIN)
    return figure


def look(scheme: str) -> Look:
    """The look of a scheme."""
    if scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    return SCHEMES[scheme].look


def label(scheme: str, rho: float | None) -> str:
    """Name of a scheme in a legend, with its budget where it has one."""
    return look(scheme).label + ("" if rho is None else f" (ρ = {100 * rho:.4g} %)")


def looks(runs: Sequence[Run]) -> list[Look]:
    """A look for each run, with its label. Runs of one scheme differ in their budget; their colours
    go from dark to light and their markers differ."""
    found = []
    for run in runs:
        own = look(run.scheme)
        budgets = sorted({r.rho for r in runs if r.scheme == run.scheme and r.rho is not None})
        changes: dict[str, Any] = {"label": label(run.scheme, run.rho)}
        if len(budgets) > 1 and run.rho is not None:
            place = budgets.index(run.rho)
            changes["marker"] = BUDGET_MARKERS[place % len(BUDGET_MARKERS)]
            shade = DARKEST + (LIGHTEST - DARKEST) * place / (len(budgets) - 1)
            changes["colour"] = _shaded(own.colour, shade)
        found.append(replace(own, **changes))
    return found


def _shaded(colour: str, shade: float) -> str:
    """The colour mixed with that part of white, or below zero of black."""
    end = 1.0 if shade > 0 else 0.0
    red, green, blue = (c + (end - c) * abs(shade) for c in to_rgb(colour))
    return to_hex((red, green, blue))


def curve(look: Look) -> dict[str, Any]:
    """Keywords that give a curve its look."""
    own = {"label": look.label, "color": look.colour, "linestyle": look.line}
    return own | {"marker": look.marker} | CURVE


def time_unit(longest: float) -> tuple[str, float]:
    """The unit that fits times up to `longest` hours, and its own hours."""
    return next((unit, hours) for unit, hours, limit in TIME_UNITS if longest <= limit)


def number(value: float) -> str:
    """A number with three digits that count, without an exponent."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def few_ticks(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of each power of ten, on a logarithmic axis of short range."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(plain)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """A tick of a logarithmic axis, without an exponent."""
    return f"{value:,.9f}".rstrip("0").rstrip(".")


def human(name: str) -> str:
    """Name of a model or data set for readers."""
    return NAMES.get(name, name)


def provenance(runs: Sequence[Run], stood_in: Mapping[str, str], published: str) -> list[str]:
    """Where the numbers come from, as lines for the face of a figure.

    `stood_in` maps each published name that the figure is about to the one that ran, `published`
    is its published device. The runs share scale, device and framework. Times of several kinds are
    told apart by scheme.
    """
    times = timings([(r.timing, label(r.scheme, r.rho)) for r in runs])
    origin = [setting(runs[0].scale), runs[0].framework, _device(runs[0], published), *times]
    replaced: dict[str, list[str]] = {}
    for name, ran in stood_in.items():
        replaced.setdefault(human(ran), []).append(human(name))
    return [SEPARATOR.join(parts) for parts in (origin, _replacements(replaced)) if parts]


def setting(scale: str) -> str:
    """What a scale is called on the face of a figure."""
    return "published setting" if scale == "paper" else f"{scale} scale"


def timings(named: Sequence[tuple[str, str]]) -> list[str]:
    """What the times are, from pairs (timing, what has it). Where they are not all alike, each
    kind says of what it is."""
    kinds = {t: list(dict.fromkeys(name for k, name in named if k == t)) for t in TIMINGS}
    kinds = {timing: names for timing, names in kinds.items() if names}
    if len(kinds) == 1:
        return [f"times {timing}" for timing in kinds]
    return [f"times {timing}: {', '.join(names)}" for timing, names in kinds.items()]


def _device(run: Run, published: str) -> str:
    """The device, and the published one that it is not."""
    name, board = DEVICES.get(published, (published, published))
    same = run.spec["device"]["name"] == published or board in run.processor
    return run.device if same else f"{run.device}, in place of {name}"


def _replacements(replaced: Mapping[str, Sequence[str]]) -> list[str]:
    """What stood in for what. One thing that stands for several is drawn once."""
    found = []
    for ran, names in replaced.items():
        if list(names) != [ran]:
            once = " (drawn once)" if len(names) > 1 else ""
            found.append(f"{ran} in place of {' and '.join(names)}{once}")
    return found


def add_title(figure: Figure, text: str) -> None:
    """Put the title above the axes, broken where it is wider than the figure, at a comma first."""
    size = matplotlib.rcParams["figure.titlesize"]
    figure.suptitle(_wrapped(text, size, figure.get_figwidth(), ", "))


def add_legend(figure: Figure, axes: Axes, more: Sequence[Artist] = ()) -> None:
    """Put the legend of the axes below everything, in two columns if they fit, where it covers no
    data; the figure grows. more: further handles, with their labels."""
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = [*handles, *more], [*labels, *(str(each.get_label()) for each in more)]
    half = math.ceil(len(labels) / 2)
    columns = 2 if half < len(labels) and _fit(labels[:half], labels[half:], figure) else 1
    _reserve(figure, LEGEND_LINE * (half if columns == 2 else len(labels)) + 3 * MARGIN)
    figure.legend(
        handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0), ncols=columns, borderaxespad=0
    )


def _fit(left: Sequence[str], right: Sequence[str], figure: Figure) -> bool:
    """Whether two columns of a legend fit the width of a figure."""
    symbols = 2 * LEGEND_SIZE / 72 * (3 + 0.8 + 0.7)
    widths = (max(text_width(label, LEGEND_SIZE) for label in side) for side in (left, right))
    return sum(widths) + symbols <= figure.get_figwidth() - 2 * MARGIN


def add_note(figure: Figure, lines: Sequence[str]) -> None:
    """Write lines along the lower edge; the figure grows."""
    width = figure.get_figwidth()
    text = "\n".join(_wrapped(line, NOTE_SIZE, width, SEPARATOR) for line in lines)
    note = (text.count("\n") + 1) * NOTE_SIZE * NOTE_SPACING / 72 + MARGIN
    height = _reserve(figure, note)
    figure.text(
        0.5,
        MARGIN / height,
        text,
        ha="center",
        va="bottom",
        size=NOTE_SIZE,
        color="#333333",
        linespacing=NOTE_SPACING,
    )
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0.5, (note + MARGIN) / height))


def _reserve(figure: Figure, more: float) -> float:
    """Make the figure higher by inches at its lower edge, where no axes go; its new height."""
    engine: Any = figure.get_layout_engine()
    width, height = figure.get_size_inches()
    below = (engine.get()["rect"][1] * height + more) / (height + more)
    figure.set_size_inches(width, height + more)
    engine.set(rect=(0, below, 1, 1 - below))
    return float(height + more)


def text_width(text: str, points: float, weight: str = "normal") -> float:
    """Inches that a line of text takes."""
    font = FontProperties(family=RC["font.family"], size=points, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def _wrapped(text: str, points: float, width: float, separator: str) -> str:
    """Break text into lines that fit a figure of that width: between its parts where these fit a
    line, else between words. A separator that ends a line loses its space, or all of it."""
    room = width - 2 * MARGIN
    lines: list[str] = []
    for part in text.split(separator):
        pieces = [part] if text_width(part, points) <= room else part.split(" ")
        for number, piece in enumerate(pieces):
            between = separator if number == 0 else " "
            if lines and text_width(lines[-1] + between + piece, points) <= room:
                lines[-1] += between + piece
            else:
                if lines and number == 0 and separator != SEPARATOR:
                    lines[-1] += separator.rstrip()
                lines.append(piece)
    return "\n".join(lines)


def save(figure: Figure, out_pdf: Path) -> None:
    """Write the PDF and a PNG beside it. Without a date in them, equal figures are equal bytes."""
    _settle(figure)
    with replacing(out_pdf) as path:
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})
    with replacing(out_pdf.with_suffix(".png")) as path:
        figure.savefig(path, format="png", dpi=PNG_DPI)


def _settle(figure: Figure) -> None:
    """Lay the figure out for good. The last binary digit of what the solver says depends on
    addresses in memory, and may move a line by a pixel."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        bounds = (round(each, 9) for each in axes.get_position(original=True).bounds)
        axes.set_position(Bbox.from_bounds(*bounds), which="original")
