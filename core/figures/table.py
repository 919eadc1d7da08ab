"""A table as a figure: rules above and below, text to the left, numbers to the right."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.figures import style

SIZE = 7.0  # points
LINE = 0.16  # inches
GAP, WIDEST_GAP = 0.1, 0.5  # inches between columns
TITLE = 0.32  # inches

Rows = Sequence[Sequence[str]]


def draw_table(
    title: str, header: Sequence[str], groups: Mapping[str, Rows], numbers: Sequence[int]
) -> Figure:
    """Draw cells of text under a header of one or two lines. `groups`: rows by the heading above
    them, which may be empty. `numbers`: columns set to the right.

    The table is one column of a page wide, or two if its text does not fit.
    """
    cells = [header, *(row for rows in groups.values() for row in rows)]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(header))]
    needed = sum(widths) + GAP * (len(widths) - 1) + 2 * style.MARGIN
    width = style.WIDTH if needed <= style.WIDTH else style.WIDE
    gap = min((width - 2 * style.MARGIN - sum(widths)) / (len(widths) - 1), WIDEST_GAP)
    heads = 1 + max(text.count("\n") for text in header)
    lines = heads + 0.8 + len(cells) - 1 + sum(map(bool, groups))
    figure = style.new_figure(TITLE + LINE * lines, width)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, sum(widths) + gap * (len(widths) - 1))
    axes.set_ylim(lines, 0)
    places = _places(widths, gap, numbers)
    _write(axes, header, places, numbers, heads / 2 + 0.2)
    _write_groups(axes, groups, places, numbers, heads + 0.4)
    for y, thickness in ((0.1, 0.9), (heads + 0.3, 0.5), (lines - 0.3, 0.9)):
        axes.axhline(y, color="black", linewidth=thickness)
    style.add_title(figure, title)
    return figure


def _width(text: str) -> float:
    return max(style.text_width(line, SIZE) for line in text.split("\n"))


def _places(widths: Sequence[float], gap: float, numbers: Sequence[int]) -> list[float]:
    """Inches where the text of each column begins or, for numbers, ends."""
    found, at = [], 0.0
    for i, width in enumerate(widths):
        found.append(at + width if i in numbers else at)
        at += width + gap
    return found


def _write_groups(
    axes: Axes,
    groups: Mapping[str, Rows],
    places: Sequence[float],
    numbers: Sequence[int],
    y: float,
) -> None:
    for heading, rows in groups.items():
        if heading:
            axes.text(0, y + 0.5, heading, va="center", size=SIZE, weight="bold")
            y += 1
        for row in rows:
            _write(axes, row, places, numbers, y + 0.5)
            y += 1


def _write(
    axes: Axes, row: Sequence[str], places: Sequence[float], numbers: Sequence[int], y: float
) -> None:
    for i, (text, x) in enumerate(zip(row, places, strict=True)):
        side = "right" if i in numbers else "left"
        axes.text(x, y, text, ha=side, va="center", size=SIZE, multialignment=side)
