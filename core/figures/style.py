"""One look for all figures: sizes, fonts, the look of each scheme, provenance, saving.

A figure is one column wide (3.5 in), has its fonts embedded, can be read in grey and by
colour-blind readers, and drawing it twice gives the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.transforms import ScaledTranslation

from core.elastic.schemes import SCHEMES, Look
from core.errors import ConfigError
from core.figures.results import TIMINGS, Run
from core.files import replacing
from core.models import MODELS

WIDTH, HEIGHT = 3.5, 3.0  # inches
MARGIN = 0.04  # inches around everything
LABELS_HEIGHT = 0.4  # inches that tick labels and axis label take below the axes
PNG_DPI = 200
NOTE_SIZE = 6.0  # points

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every host
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "figure.titlesize": 8.5,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.parse_math": False,  # names may hold a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
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

# Names that readers know. Others appear as they are in the configuration.
NAMES = {name: model.title for name, model in MODELS.items()} | {
    "caltech_birds2011": "CUB-200-2011",
    "oxford_iiit_pet": "Oxford-IIIT Pet",
    "stanford_dogs": "Stanford Dogs",
    "elpv_mono": "elpv (mono)",
    "elpv_poly": "elpv (poly)",
}


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save in this style, whatever the reader's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def new_figure() -> Figure:
    """An empty figure of one column, drawn without a display."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
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


def human(name: str) -> str:
    """Name of a model or data set for readers."""
    return NAMES.get(name, name)


def provenance(runs: Sequence[Run], stood_in: Mapping[str, str]) -> list[str]:
    """Where the numbers come from, as lines for the face of a figure.

    `stood_in` maps each published name that the figure is about to the one that ran. The runs
    share scale and device. Times of several kinds are told apart by scheme.
    """
    scale = runs[0].scale
    kinds = {t: [label(r.scheme, r.rho) for r in runs if r.timing == t] for t in TIMINGS}
    kinds = {timing: names for timing, names in kinds.items() if names}
    if len(kinds) == 1:
        times = [f"times {timing}" for timing in kinds]
    else:
        times = [f"times {timing}: {', '.join(names)}" for timing, names in kinds.items()]
    origin = ["published setting" if scale == "paper" else f"{scale} scale", runs[0].device, *times]
    replaced = [f"{human(b)} in place of {human(a)}" for a, b in stood_in.items() if a != b]
    return [" · ".join(parts) for parts in (origin, replaced) if parts]


def add_title(figure: Figure, text: str) -> None:
    """Put the title above the axes, broken where it is wider than the figure."""
    figure.suptitle(_wrapped(text, matplotlib.rcParams["figure.titlesize"]))


def add_legend(axes: Axes, columns: int) -> None:
    """Put the legend below the axes and their labels, where it covers no data."""
    down = ScaledTranslation(0, -LABELS_HEIGHT, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper center",
        ncols=columns,
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + down,
        borderaxespad=0,
    )


def add_note(figure: Figure, lines: Sequence[str]) -> None:
    """Write lines along the lower edge and keep everything else above them."""
    text = "\n".join(_wrapped(line, NOTE_SIZE) for line in lines)
    spacing = 1.3
    bottom = MARGIN / HEIGHT
    height = bottom + (text.count("\n") + 1) * NOTE_SIZE * spacing / 72 / HEIGHT
    figure.text(
        0.5,
        bottom,
        text,
        ha="center",
        va="bottom",
        size=NOTE_SIZE,
        color="#333333",
        linespacing=spacing,
    )
    figure.set_layout_engine(
        "constrained", w_pad=MARGIN, h_pad=MARGIN, rect=(0, height, 1, 1 - height)
    )


def _wrapped(text: str, points: float) -> str:
    """Break text between words into lines that fit the figure's width."""
    font = FontProperties(family=RC["font.family"], size=points)
    room = 72 * (WIDTH - 2 * MARGIN)
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        width, _, _ = text_to_path.get_text_width_height_descent(longer, font, ismath=False)
        if lines and width <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def save(figure: Figure, out_pdf: Path) -> None:
    """Write the PDF and a PNG beside it. Without a date in them, equal figures are equal bytes."""
    with replacing(out_pdf) as path:
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})
    with replacing(out_pdf.with_suffix(".png")) as path:
        figure.savefig(path, format="png", dpi=PNG_DPI)
