"""Kind `chairs_samples`: generated chairs of the test part beside those that were wanted, and one
style that goes over into the next."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from core.errors import DataError
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import look, subject, title_of
from core.figures.split_results import SplitRun
from core.split import samples

COLUMNS = 6  # of pairs, one above the other
TILE, AROUND = 0.88, 0.3  # inches of a tile, and of the title
WORDS = 0.16  # inches above each tile of a group
FRAME = "#999999"

Image = NDArray[np.uint8]


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw pairs of wanted and generated images, and below them the way between two styles."""
    (run,) = runs
    found = samples.read(run.folder)
    _check(run, found)
    columns = max(min(COLUMNS, len(found["wanted"])), len(found["between"]))
    pairs = -(-len(found["wanted"]) // min(COLUMNS, columns))
    height = AROUND + TILE * (2 * pairs + 1) + WORDS * (pairs + 1)
    figure = style.new_figure(height, style.WIDE)
    grid = figure.subplots(2 * pairs + 1, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (wanted, made) in enumerate(zip(found["wanted"], found["generated"], strict=True)):
        row, column = divmod(place, COLUMNS)
        _show(grid[2 * row, column], wanted, "wanted" if column == 0 else "")
        _show(grid[2 * row + 1, column], made, "generated" if column == 0 else "")
        grid[2 * row, column].set_title(_view(found["inputs"][place]), size=5.5, pad=2)
    for column, image in enumerate(found["between"]):
        _show(grid[-1, column], image, "between styles" if column == 0 else "")
        share = column / (len(found["between"]) - 1)
        grid[-1, column].set_title(f"{100 * share:.0f} %", size=5.5, pad=2)
    style.add_title(figure, f"{subject(run)}, {title_of(run)}")
    epochs, loss = len(run.epochs), float(run.losses[-1])
    notes = [
        f"{look(run.scheme).label}, {epochs} epochs, test loss {loss:.4f} · views that were not "
        "trained; above each: style, azimuth"
    ]
    return Drawn(figure, _table(run, found), notes)


def _check(run: SplitRun, found: Mapping[str, NDArray[Any]]) -> None:
    size = (run.spec["data"]["size"],) * 2
    for key in ("wanted", "generated", "between"):
        if found[key].shape[1:] != (*size, 4) or found[key].dtype != np.uint8:
            raise DataError(f"{run.folder / samples.NAME}: {key} are no images of {size} pixels")
    if len(found["inputs"]) != len(found["wanted"]) + len(found["between"]):
        raise DataError(f"{run.folder / samples.NAME}: not as many inputs as images")


def _show(axes: Axes, image: Image, word: str) -> None:
    """An image in a thin frame, and a word at its left."""
    axes.imshow(image[..., :3], interpolation="nearest")
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=FRAME, linewidth=0.4)
    if word:
        axes.set_ylabel(word, size=6)


def _view(inputs: NDArray[np.float32]) -> str:
    azimuth = np.degrees(np.arctan2(inputs[1], inputs[2])) % 360
    return f"{inputs[0]:.0f}, {azimuth:.0f}°"


def _table(run: SplitRun, found: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """A line for each generated image; how far from the wanted one, where there is one."""
    rows = []
    made = np.concatenate([found["generated"], found["between"]])
    for place, (inputs, image) in enumerate(zip(found["inputs"], made, strict=True)):
        azimuth = np.degrees(np.arctan2(inputs[1], inputs[2])) % 360
        elevation = np.degrees(np.arctan2(inputs[3], inputs[4]))
        values = {"style": float(inputs[0]), "azimuth (°)": round(float(azimuth), 2)}
        values["elevation (°)"] = round(float(elevation), 2)
        error = None
        if place < len(found["wanted"]):
            off = (image[..., :3].astype(float) - found["wanted"][place][..., :3]) / 255
            error = float((off**2).mean())
        rows.append(run.row(look(run.scheme).label, {**values, "squared error": error}))
    return pd.DataFrame(rows)
