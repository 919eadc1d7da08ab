"""Generated images to look at: some of the test part beside what was wanted, and one style that
goes over into the next. Written at the end of a run by the side that has the images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.data.chairs import ChairSplit
from core.errors import DataError
from core.files import replacing
from core.split.chair_batches import batch_of, packed

NAME = "samples.npz"
STYLES, VIEWS = 4, 3  # of the test part
BETWEEN = 7  # steps from one style to the next, both included

KEYS = {"generated": 4, "wanted": 4, "between": 4, "inputs": 2}


def chosen(split: ChairSplit) -> NDArray[np.int64]:
    """Places in the test part: VIEWS views of each of STYLES styles that have as many, both spread
    over all there are; fewer where there are not so many."""
    own = split.inputs[:, 0]
    styles = [style for style in np.unique(own) if (own == style).sum() >= VIEWS]
    styles = styles or list(np.unique(own))
    found = [_spread(np.flatnonzero(own == style), VIEWS) for style in _spread(styles, STYLES)]
    return np.concatenate(found)


def inputs_of(split: ChairSplit) -> NDArray[np.float32]:
    """Packed inputs of the chosen ones, then of BETWEEN steps from the first one's style to the
    next, seen from where that one was."""
    places = chosen(split)
    first = split.inputs[places[0]]
    start = min(first[0], len(split.styles) - 2)
    rows = np.tile(first, (BETWEEN, 1))
    rows[:, 0] = start + np.linspace(0, 1, BETWEEN)
    return np.concatenate([batch_of(split, places).inputs, packed(rows)])


def write(folder: Path, split: ChairSplit, outputs: Tensor) -> None:
    """Write samples.npz: what a network made of `inputs_of`, uint8 images with masks, and what
    was wanted. Raises StorageError."""
    places = chosen(split)
    wanted = batch_of(split, places).wanted
    images = pixels_of(outputs)
    with replacing(folder / NAME) as path, path.open("wb") as file:
        np.savez_compressed(
            file,
            generated=images[: len(places)],
            wanted=wanted,
            between=images[len(places) :],
            inputs=inputs_of(split)[:, :5],
        )


def read(folder: Path) -> dict[str, NDArray[Any]]:
    """What `write` wrote. Raises DataError when it is missing or damaged."""
    path = folder / NAME
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {key: content[key] for key in KEYS}
        if any(found[key].ndim != axes for key, axes in KEYS.items()):
            raise ValueError("arrays of the wrong shape")
        return found
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); delete the folder, and the run is made again"
        ) from None


def pixels_of(outputs: Tensor) -> NDArray[np.uint8]:
    """Outputs of a generator (batch, 4, size, size) as images with masks (batch, size, size, 4)."""
    colours, mask = outputs[:, :3].clamp(0, 1), outputs[:, 3:].sigmoid()
    images = np.concatenate([colours.numpy(), mask.numpy()], axis=1).transpose(0, 2, 3, 1)
    return np.asarray(images * 255 + 0.5).astype(np.uint8)


def _spread(values: Any, count: int) -> NDArray[Any]:
    """So many of them at equal distances, or all."""
    places = np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))
    return np.array([values[place] for place in places])
